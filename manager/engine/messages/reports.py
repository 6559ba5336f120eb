"""Report intake: stores each report once, identified by agent and report id, even if it arrives repeatedly.

`decide` turns received reports and the result of a look-up in the store into rows and receipts; it uses no other part
of the engine.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from manager.domain.agents.agent import Agent
from manager.domain.agents.clock_offset import STEP, Untimely
from manager.domain.correlation import vouched_bits
from manager.domain.correlation.allowlist import ignored_bits
from manager.domain.correlation.indicators import indicators_of, normal_address, normal_hash
from manager.domain.correlation.reports import DATED, NOT_CORRELATED, RESENT, WINDOW
from manager.domain.protection.measures import reported_measure
from manager.domain.store_history import COMMITS
from manager.engine.batch import ThreatRow
from manager.engine.context import TIMESTAMP_AS_GIVEN, Context, ReceivedReport, Submission
from manager.engine.messages import threat_alerts
from manager.engine.messages.report_decoding import DecodedReport, UndecodedReport
from manager.engine.ports import Store
from schemas.message_codes import content_digest
from schemas.threats import Severity, is_executed
from schemas.topics import THREATS

log = structlog.get_logger(__name__)

OTHER_AGENT = "agentId is not the one of its topic"
"""Reason of a refusal: a report names another agent than its sender."""

OTHER_CONTENT = "another report of this agent has this id"
"""Reason of a refusal: the store has the id with other content."""

FAILURE = "the manager failed on it"

_LONGEST_TEXT = 256
_SEVERITIES = {severity: severity.value for severity in Severity}

ReportKey = tuple[int, str]
"""Agent number and report id."""


@dataclass(slots=True)
class ReportIntake:
    """The decisions on the reports of one batch: stored, refused or failed."""

    new: list[tuple[ReceivedReport, ThreatRow]] = field(default_factory=list)
    stored: list[tuple[str, str]] = field(default_factory=list)
    """Agent id and report id of MQTT reports that are new or were stored before."""
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """Agent id, report id and reason of refused MQTT reports."""
    failed: list[ReceivedReport] = field(default_factory=list)
    """Reports whose processing failed; they get no receipt, and guards send them again."""
    repeated_count: int = 0
    refused_count: int = 0


def received(
    agent: Agent, found: Iterable[DecodedReport | UndecodedReport]
) -> tuple[list[ReceivedReport], list[UndecodedReport]]:
    """Return the reports in an agent's message, and those that can never be stored, each with the reason."""
    taken: list[ReceivedReport] = []
    refused: list[UndecodedReport] = []
    for each in found:
        if isinstance(each, UndecodedReport):
            refused.append(each)
        elif each.report.agent_id != agent.agent_id:
            refused.append(UndecodedReport(each.report.id, OTHER_AGENT, each.body))
        else:
            digest = content_digest(each.body)
            taken.append(ReceivedReport(agent, each.report, digest, each.document, resent=each.resent))
    return taken, refused


def report_key(report: ReceivedReport) -> ReportKey:
    """Return the key of a report in the store."""
    return report.agent.number, report.report.id


class KnownReports(Protocol):
    """A look-up of stored reports."""

    def known_reports(self, keys: Sequence[ReportKey], /) -> dict[ReportKey, bytes]:
        """Return the content digests of those of some reports that are known as stored.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...


def decide(
    store: KnownReports, reports: Iterable[ReceivedReport], submissions: Iterable[Submission], now: float
) -> ReportIntake:
    """Decide on each report: new, known, or refused because its id is stored with other content.

    A submission is decided as a whole: one refused report refuses it.

    Args:
        store: looks up the stored reports.
        reports: reports that came over MQTT.
        submissions: reports that came over HTTP.
        now: the time of receipt, in seconds since 1970.

    Raises:
        StoreUnavailable: the store cannot be read; nothing was decided.
    """
    reports, submissions = list(reports), list(submissions)
    keys = [(report.agent.number, report.report.id) for report in reports]
    submitted = [report_key(report) for submission in submissions for report in submission.reports]
    known = store.known_reports(keys + submitted)
    intake = ReportIntake()
    for report, key in zip(reports, keys, strict=True):
        try:
            _decide_one(intake, report, key, known, now)
        except Exception:
            log.exception("report_failed", agent_id=report.agent.agent_id, report_id=report.report.id)
            intake.failed.append(report)
    for submission in submissions:
        try:
            _decide_submission(intake, submission, known, now)
        except Exception:
            first = submission.reports[0]
            log.exception("report_failed", agent_id=first.agent.agent_id, report_id=first.report.id)
            submission.refuse(None, FAILURE)
            intake.failed += submission.reports
    return intake


def process_reports(context: Context, store: Store, correlate: Callable[[Context], None]) -> None:
    """Decide on the batch's reports, add the new ones to its changes, and correlate them.

    Args:
        context: the batch.
        store: looks up the stored reports.
        correlate: correlates the context's new reports.

    Raises:
        StoreUnavailable: the store cannot be read; another call continues where this one stopped.
    """
    if context.reports or context.submissions:
        intake = decide(store, context.reports, context.submissions, context.batch.now.wall)
        context.fleet.counters["reports_repeated"] += intake.repeated_count
        context.fleet.counters["reports_refused"] += intake.refused_count
        context.stored += intake.stored
        context.refused += intake.refused
        context.fleet.counters["reports_failed"] += len(intake.failed)
        for report in intake.failed:
            context.dead_letter(THREATS.below_root(report.agent.agent_id), FAILURE, report.document.encode())
        for report, row in intake.new:
            context.batch.changes.threats.append(_accept(context, report, row))
        context.decided_submissions += context.submissions
        context.reports, context.submissions = [], []
    _accept_stored_elsewhere(context)
    correlate(context)
    if context.batch.changes.threats or context.batch.changes.elsewhere:
        context.batch.changes.meta[COMMITS] = context.fleet.store_history.next_commit(context.batch.now.wall)


def _accept(context: Context, report: ReceivedReport, row: ThreatRow) -> ThreatRow:
    """Add what follows from a new report to the batch; return its row with its ignored indicators."""
    ignored = _ignored(context, report, row)
    new = row._replace(ignored=ignored) if ignored != row.ignored else row
    context.new_reports.append((report, new))
    response = report.report.response
    if response is not None and not isinstance(response, str):
        _record_measure(context, report, new)
    if not report.is_old_news(new):
        threat_alerts.announce(context, report, new)
    _count_for_agent(context, report)
    return new


def _accept_stored_elsewhere(context: Context) -> None:
    """Accept the reports that another process stored; what it could not know is corrected in their rows."""
    changes = context.batch.changes
    for sequence, report, row in context.stored_elsewhere:
        try:
            new = _accept(context, report, event_row(report, row))
        except Exception:
            log.exception("report_failed", agent_id=report.agent.agent_id, report_id=row.threat_id)
            context.fleet.counters["reports_failed"] += 1
            context.dead_letter(THREATS.below_root(report.agent.agent_id), FAILURE, report.document.encode())
            continue
        changes.elsewhere[sequence] = new
        stored = new._replace(ignored=new.ignored | (row.ignored & DATED))
        if stored != row:
            changes.corrections[sequence] = stored
    context.stored_elsewhere = []


def event_row(received: ReceivedReport, row: ThreatRow) -> ThreatRow:
    """Return the row of a report that another process stored, with the event time by its agent's clock offset.

    The other process had the offset of some seconds before, or none. Within the exactness of offsets its time is kept,
    and where the request of an HTTP agent stated its sending time. Without both the timestamp was taken as it is.
    """
    agent, timestamp, is_dated = received.agent, received.report.timestamp.timestamp(), bool(row.ignored & DATED)
    event_time, known = agent.clock.event_time(timestamp, row.received_at)
    if known and not is_dated and not (row.time_known and abs(event_time - row.event_time) <= STEP):
        row = row._replace(event_time=event_time, time_known=True)
    lag = row.received_at - row.event_time
    if not received.resent:
        agent.untimely = _untimely(row.received_at - timestamp, lag, known=row.time_known and (known or is_dated))
    return row


def _record_measure(context: Context, received: ReceivedReport, row: ThreatRow) -> None:
    """Store the measure that a new report states, if it states one."""
    agent = received.agent
    measure = reported_measure(
        received.report,
        agent_number=agent.number,
        organization_id=agent.organization_id,
        site=agent.host.correlation_site,
        at=row.event_time,
    )
    if measure is not None:
        context.batch.changes.measures[row.agent_number, row.threat_id] = measure, row.received_at


def _ignored(context: Context, received: ReceivedReport, row: ThreatRow) -> int:
    """Return the bits of a new report's indicators that are on the allowlist now."""
    organization_id, allowlist = received.agent.organization_id, context.fleet.allowlist
    try:
        if allowlist.is_empty(organization_id):
            return 0
        indicators = indicators_of(
            organization_id, received.agent.host.correlation_site, row.source_ip, row.file_hash, row.technique
        )
        return ignored_bits(indicators, row.technique, allowlist)
    except Exception:
        log.exception("allowlist_failed", organization_id=organization_id)
        context.fleet.counters["reports_not_correlated"] += 1
        return NOT_CORRELATED


def exclude_from_correlation(context: Context, row: ThreatRow) -> None:
    """Store a report on which the rules failed so that no restart or late report correlates it."""
    changes, excluded = context.batch.changes, row._replace(ignored=NOT_CORRELATED)
    for sequence, each in changes.elsewhere.items():
        if each is row:
            changes.elsewhere[sequence] = changes.corrections[sequence] = excluded
            return
    changes.threats[changes.threats.index(row)] = excluded


def _count_for_agent(context: Context, received: ReceivedReport) -> None:
    """Count a new report for an agent that does not report its own counts, such as MQTT agents."""
    vitals = received.agent.vitals
    if not vitals.counts_stated:
        vitals.threats_detected += 1
        vitals.actions_executed += is_executed(received.report.response)
        context.unwritten.vitals.add(received.agent.number)


def _decide_one(
    intake: ReportIntake, report: ReceivedReport, key: ReportKey, known: dict[ReportKey, bytes], now: float
) -> None:
    agent_id, report_id = report.agent.agent_id, key[1]
    stored_digest = known.get(key)
    if stored_digest is None:
        intake.new.append((report, _row(report, now)))
        known[key] = report.digest
        intake.stored.append((agent_id, report_id))
    elif stored_digest == report.digest:
        intake.repeated_count += 1
        intake.stored.append((agent_id, report_id))
    else:
        intake.refused_count += 1
        intake.refused.append((agent_id, report_id, OTHER_CONTENT))


def _decide_submission(intake: ReportIntake, submission: Submission, known: dict[ReportKey, bytes], now: float) -> None:
    new: dict[ReportKey, ReceivedReport] = {}
    for index, report in enumerate(submission.reports):
        key = report_key(report)
        stored_digest = known.get(key)
        if stored_digest is None:
            stored_digest = new.setdefault(key, report).digest
        if stored_digest != report.digest:
            intake.refused_count += 1
            submission.refuse(index, OTHER_CONTENT)
            return
    rows = [(report, _row(report, now)) for report in new.values()]
    intake.repeated_count += len(submission.reports) - len(new)
    intake.new += rows
    for key, report in new.items():
        known[key] = report.digest


def _row(received: ReceivedReport, now: float) -> ThreatRow:
    agent, report, threat = received.agent, received.report, received.report.threat
    clock, timestamp = received.clock or agent.clock, report.timestamp.timestamp()
    event_time, known = clock.event_time(timestamp, now)
    if not received.resent:
        agent.untimely = _untimely(now - timestamp, now - event_time, known=known and clock is not TIMESTAMP_AS_GIVEN)
    source, digest = threat.evidence.get("sourceIp"), threat.evidence.get("fileHash")
    return ThreatRow(
        agent.number,
        report.id,
        received.digest,
        event_time,
        now,
        known,
        threat.type,
        _SEVERITIES[threat.severity],
        threat.confidence,
        threat.technique,
        None if source is None else _address(source),
        None if digest is None else _hash(digest),
        received.document,
        RESENT if received.resent else 0,
        vouched_bits(threat.vouched) if threat.vouched else 0,
    )


def _untimely(by_timestamp: float, by_event_time: float, *, known: bool) -> Untimely | None:
    """Return the lag of a report that is late, or whose timestamp is too far off for a clock that is not known."""
    lag = by_event_time if known else by_timestamp
    return Untimely(lag, known) if abs(lag) > WINDOW else None


def _address(value: object) -> str | None:
    """Return an address in normal form for the store's index; None for any other value."""
    address = normal_address(value) if isinstance(value, str) else None
    return address.value if address is not None else None


def _hash(value: object) -> str | None:
    """Return a file hash in normal form for the store's index; None for any other value."""
    return normal_hash(value) if isinstance(value, str) and len(value) <= _LONGEST_TEXT else None
