"""Which of a batch's reports are new: each is stored once for its agent and id, however often it arrives."""

from collections.abc import Mapping

from manager.engine.batch import Changes, DeadLetter, ThreatRow
from manager.engine.desk import Arrival, Desk
from manager.engine.ports import Store
from manager.errors import StoreRejected, StoreUnavailable
from schemas.threats import Severity

_TEXT = 256
_SEVERITIES = {severity: severity.value for severity in Severity}


def settle(desk: Desk, store: Store) -> None:
    """Look the batch's reports up and decide on each: new, known, or the id of another report.

    Raises:
        StoreUnavailable: nothing was decided; it may be called again.
    """
    if not desk.arrivals:
        return
    keys = list({(arrival.agent.number, arrival.report.id) for arrival in desk.arrivals})
    known = store.known_reports(keys)
    for arrival in desk.arrivals:
        key = (arrival.agent.number, arrival.report.id)
        before = known.get(key)
        if before is None:
            known[key] = arrival.digest
            desk.batch.changes.threats.append(_row(arrival, desk.batch.now.wall))
            desk.stored.append((arrival.agent.agent_id, arrival.report.id))
        elif before == arrival.digest:
            desk.fleet.counters["reports_repeated"] += 1
            desk.stored.append((arrival.agent.agent_id, arrival.report.id))
        else:
            desk.fleet.counters["reports_refused"] += 1
            reason = "another report of this agent has this id"
            desk.refused.append((arrival.agent.agent_id, arrival.report.id, reason))
    desk.arrivals = []


def salvage(desk: Desk, store: Store) -> None:
    """Commit a batch that the store rejected piece by piece, so that one bad report does not take the others along.

    Raises:
        StoreRejected: what does not fit is no report.
        StoreUnavailable: part of it may be written; all of it may be committed again.
    """
    changes = desk.batch.changes
    rows, changes.threats = changes.threats, []
    try:
        store.commit(changes)
        changes.threats = _one_by_one(desk, store, rows)
    except StoreUnavailable:
        changes.threats = rows
        raise


def _one_by_one(desk: Desk, store: Store, rows: list[ThreatRow]) -> list[ThreatRow]:
    kept = []
    for row in rows:
        try:
            store.commit(Changes(threats=[row]))
            kept.append(row)
        except StoreRejected as error:
            agent_id, _ = desk.fleet.registry.names_by_number[row.agent_number]
            desk.stored.remove((agent_id, row.threat_id))
            desk.refused.append((agent_id, row.threat_id, "the store cannot hold this report"))
            letter = DeadLetter(row.received_at, f"agents/{agent_id}/threats", str(error), len(row.document), b"")
            store.commit(Changes(dead_letters=[letter]))
    return kept


def _row(arrival: Arrival, received: float) -> ThreatRow:
    agent, report, threat = arrival.agent, arrival.report, arrival.report.threat
    event_time, known = agent.clock.event_time(report.timestamp.timestamp(), received)
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
        _text(evidence, "sourceIp"),
        _text(evidence, "fileHash"),
        arrival.document,
    )


def _text(evidence: Mapping[str, object], key: str) -> str | None:
    """Return a short text of the evidence; anything else under that key stays in the document alone."""
    value = evidence.get(key)
    return value if isinstance(value, str) and 0 < len(value) <= _TEXT else None
