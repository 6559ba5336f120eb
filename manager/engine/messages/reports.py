"""Which of a batch's reports are new: each is stored once for its agent and id, however often it arrives."""

from collections.abc import Callable, Mapping

from manager.domain.correlation.indicators import normal_address, normal_hash
from manager.engine.batch import Changes, DeadLetter, ThreatRow
from manager.engine.context import Context, ReceivedReport, Submission
from manager.engine.ports import Store
from manager.errors import StoreRejected, StoreUnavailable
from schemas.threats import Severity

_TEXT = 256
_SEVERITIES = {severity: severity.value for severity in Severity}


def settle(context: Context, store: Store, observe: Callable[[Context, ReceivedReport, ThreatRow], None]) -> None:
    """Look the batch's reports up, decide on each (new, known, or the id of another report), and observe the new ones.

    Raises:
        StoreUnavailable: it is not done; called again, it goes on where it was.
    """
    if context.arrivals or context.submissions:
        _decide(context, store)
    while context.fresh:
        arrival, row = context.fresh[0]
        observe(context, arrival, row)
        context.fresh.popleft()


def _decide(context: Context, store: Store) -> None:
    together = (arrival for submission in context.submissions for arrival in submission.arrivals)
    keys = list({_key(arrival) for arrivals in (context.arrivals, together) for arrival in arrivals})
    known = store.known_reports(keys)
    for arrival in context.arrivals:
        key = _key(arrival)
        before = known.get(key)
        if before is None:
            known[key] = arrival.digest
            _take(context, arrival)
            context.stored.append((arrival.agent.agent_id, arrival.report.id))
        elif before == arrival.digest:
            context.fleet.counters["reports_repeated"] += 1
            context.stored.append((arrival.agent.agent_id, arrival.report.id))
        else:
            context.fleet.counters["reports_refused"] += 1
            reason = "another report of this agent has this id"
            context.refused.append((arrival.agent.agent_id, arrival.report.id, reason))
    for submission in context.submissions:
        _decide_together(context, submission, known)
    context.settled += context.submissions
    context.arrivals, context.submissions = [], []


def _decide_together(context: Context, submission: Submission, known: dict[tuple[int, str], bytes]) -> None:
    """Take all reports of a submission, or none: one whose id is known with other content refuses it."""
    seen: dict[tuple[int, str], bytes] = {}
    for index, arrival in enumerate(submission.arrivals):
        key = _key(arrival)
        if known.get(key, arrival.digest) != arrival.digest or seen.setdefault(key, arrival.digest) != arrival.digest:
            context.fleet.counters["reports_refused"] += 1
            submission.refused = index
            return
    for arrival in submission.arrivals:
        key = _key(arrival)
        if key in known:
            context.fleet.counters["reports_repeated"] += 1
        else:
            known[key] = arrival.digest
            _take(context, arrival)


def _key(arrival: ReceivedReport) -> tuple[int, str]:
    return arrival.agent.number, arrival.report.id


def _take(context: Context, arrival: ReceivedReport) -> None:
    row = _row(arrival, context.batch.now.wall)
    context.batch.changes.threats.append(row)
    context.fresh.append((arrival, row))


def salvage(context: Context, store: Store) -> None:
    """Commit a batch that the store rejected piece by piece, so that one bad report does not take the others along.

    Raises:
        StoreRejected: what does not fit is no report.
        StoreUnavailable: part of it may be written; all of it may be committed again.
    """
    changes = context.batch.changes
    rows, changes.threats = changes.threats, []
    try:
        store.commit(changes)
        changes.threats = _one_by_one(context, store, rows)
    except StoreUnavailable:
        changes.threats = rows
        raise


def _one_by_one(context: Context, store: Store, rows: list[ThreatRow]) -> list[ThreatRow]:
    kept = []
    for row in rows:
        try:
            store.commit(Changes(threats=[row]))
            kept.append(row)
        except StoreRejected as error:
            agent_id, _ = context.fleet.registry.names_by_number[row.agent_number]
            _refuse(context, agent_id, row)
            letter = DeadLetter(row.received_at, f"agents/{agent_id}/threats", str(error), len(row.document), b"")
            store.commit(Changes(dead_letters=[letter]))
    return kept


def _refuse(context: Context, agent_id: str, row: ThreatRow) -> None:
    """Take back that a report is stored, wherever that would be said."""
    if (agent_id, row.threat_id) in context.stored:
        context.stored.remove((agent_id, row.threat_id))
        context.refused.append((agent_id, row.threat_id, "the store cannot hold this report"))
    for submission in context.settled:
        for index, arrival in enumerate(submission.arrivals):
            if _key(arrival) == (row.agent_number, row.threat_id):
                submission.refused = index


def _row(arrival: ReceivedReport, received: float) -> ThreatRow:
    agent, report, threat = arrival.agent, arrival.report, arrival.report.threat
    event_time, known = (arrival.clock or agent.clock).event_time(report.timestamp.timestamp(), received)
    evidence = threat.evidence
    return ThreatRow(
        agent.number,
        report.id,
        arrival.digest,
        event_time,
        received,
        known,
        threat.type,
        _SEVERITIES[threat.severity],
        threat.confidence,
        threat.technique,
        _address(_text(evidence, "sourceIp")),
        _hash(_text(evidence, "fileHash")),
        arrival.document,
    )


def _address(text: str | None) -> str | None:
    """Return an address in normal form, so that the store finds it by index; what is none stays in the document."""
    address = normal_address(text) if text else None
    return address.value if address is not None else None


def _hash(text: str | None) -> str | None:
    return normal_hash(text) if text else None


def _text(evidence: Mapping[str, object], key: str) -> str | None:
    """Return a short text of the evidence; anything else under that key stays in the document alone."""
    value = evidence.get(key)
    return value if isinstance(value, str) and 0 < len(value) <= _TEXT else None
