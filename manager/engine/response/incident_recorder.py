"""Incident recorder: feeds a batch's new reports to the correlator and records the changes of incidents."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import starmap

import structlog

from manager.domain.correlation import (
    ChangeKind,
    Correlator,
    CorrelatorSettings,
    Incident,
    IncidentChange,
    Report,
    Span,
)
from manager.domain.correlation.reports import MEMORY
from manager.domain.instant import Instant
from manager.engine.batch import ThreatRow
from manager.engine.context import Context, ReceivedReport
from manager.engine.messages.reports import exclude_from_correlation
from manager.engine.ports import Archive
from manager.engine.response.emergency_response import record_evidence
from manager.errors import StoreUnavailable
from schemas.threats import Severity

log = structlog.get_logger(__name__)

_EXPIRE_INTERVAL = 1.0
_LONGEST_VALUE = 64
_EVENTS = {
    ChangeKind.OPENED: "incident_opened",
    ChangeKind.RETURNED: "incident_opened",
    ChangeKind.GREW: "incident_grew",
    ChangeKind.MERGED: "incident_merged",
    ChangeKind.CHRONIC: "incident_chronic",
    ChangeKind.CLOSED: "incident_closed",
}
"""The fleet event of each kind of change; a further report of a member has none."""


class IncidentRecorder:
    """Feeds the correlator and records its changes.

    Args:
        settings: thresholds and bounds.
        archive: the stored reports and incidents, for those older than memory.
        react: called with every change after it was recorded; the responder.
    """

    def __init__(
        self,
        settings: CorrelatorSettings,
        archive: Archive,
        react: Callable[[Context, IncidentChange], None],
    ) -> None:
        self.correlator = Correlator(settings, new_incident_id, archive)
        self._archive = archive
        self._react = react
        self._next = 0.0

    def restore(self, archive: Archive, now: float) -> None:
        """Load live incidents, as after a restart."""
        self.correlator.rebuild(archive.live(now - MEMORY), now)

    def correlate(self, context: Context) -> None:
        """Correlate the batch's new reports; one on which the rules fail is stored without correlation.

        Raises:
            StoreUnavailable: older reports cannot be read; another call continues with the same report.
        """
        waiting = context.new_reports
        self._archive.expect([row for _, row in waiting], lambda: self._missing(context))
        while waiting:
            received, row = waiting[0]
            try:
                record_evidence(context, received)
                self._observe(context, received, row)
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("report_not_correlated", agent_id=received.agent.agent_id, threat_id=row.threat_id)
                context.fleet.counters["reports_not_correlated"] += 1
                exclude_from_correlation(context, row)
            waiting.popleft()

    def _missing(self, context: Context) -> Sequence[Span]:
        """Return the history that the waiting reports will need; none, so one by one, if the rules fail on a report."""
        try:
            return self.correlator.missing(starmap(_report, context.new_reports))
        except Exception:
            log.exception("history_not_foreseen")
            return ()

    def _observe(self, context: Context, received: ReceivedReport, row: ThreatRow) -> None:
        report = _report(received, row)
        for change in self.correlator.observe(report):
            if change.is_further_report:
                self._record_further_report(context, change)
            else:
                self._record(context, change, old_news=received.is_old_news(row))
        if report.ignored or row.source_ip is None:
            _announce_refusals(context, received, report)

    def tick(self, context: Context, now: Instant) -> None:
        """Close and age incidents, about once a second."""
        if now.monotonic < self._next:
            return
        self._next = now.monotonic + _EXPIRE_INTERVAL
        for change in self.correlator.expire(now.wall):
            self._record(context, change)

    def _record_further_report(self, context: Context, change: IncidentChange) -> None:
        context.batch.changes.incidents[change.incident.id] = change.incident
        self._react(context, change)

    def _record(self, context: Context, change: IncidentChange, *, old_news: bool = False) -> None:
        incident, changes = change.incident, context.batch.changes
        changes.incidents[incident.id] = incident
        match change.kind:
            case ChangeKind.OPENED | ChangeKind.RETURNED:
                changes.members += _members(incident, incident.members)
            case ChangeKind.MERGED if change.absorbed is not None:
                changes.incidents[change.absorbed.id] = change.absorbed
                changes.members += _members(incident, incident.members)
            case ChangeKind.GREW if change.agent_id is not None:
                changes.members += _members(incident, (change.agent_id,))
        changes.members += _members(incident, {*change.actionable, *change.vouched})
        event = _EVENTS.get(change.kind)
        if event is not None:
            context.fleet.counters[event] += 1
            if not change.silent:
                malware = event == "incident_opened" and incident.kind == "file_hash"
                severity = Severity.CRITICAL if malware else None
                data, organization = _summary(incident, change, old_news=old_news), incident.organization_id
                context.batch.event(event, data=data, organization_id=organization, severity=severity)
        self._react(context, change)


def _report(received: ReceivedReport, row: ThreatRow) -> Report:
    """Return a report as the correlator's input."""
    agent = received.agent
    return Report(
        agent.agent_id,
        agent.organization_id,
        agent.host.correlation_site,
        row.threat_id,
        row.event_time,
        row.received_at,
        row.source_ip,
        row.file_hash,
        row.technique,
        row.time_known,
        row.ignored,
        row.vouched,
    )


def _members(incident: Incident, agent_ids: Iterable[str]) -> Iterator[tuple[str, str, bool, bool]]:
    """Yield the rows of some members."""
    for agent_id in agent_ids:
        yield incident.id, agent_id, incident.members[agent_id], agent_id in incident.vouched


def _announce_refusals(context: Context, received: ReceivedReport, report: Report) -> None:
    """Publish a fleet event for each indicator of a report that makes no incident, with the reason."""
    refused = [(indicator.kind, indicator.value, "it is on the allowlist") for indicator in report.refused()]
    given = received.report.threat.evidence.get("sourceIp")
    if report.source_ip is None and given:
        refused.append(("source_ip", str(given)[:_LONGEST_VALUE], "it is no single address"))
    for kind, value, reason in refused:
        context.fleet.counters["indicators_refused"] += 1
        context.batch.event("indicator_refused", received.agent, {"kind": kind, "value": value, "reason": reason})


def new_incident_id() -> str:
    """Return the id of a new incident."""
    return f"inc-{secrets.token_hex(8)}"


def _summary(incident: Incident, change: IncidentChange, *, old_news: bool) -> dict[str, object]:
    summary: dict[str, object] = {
        "incidentId": incident.id,
        "kind": incident.kind,
        "value": incident.value,
        "organizationId": incident.organization_id,
        "agents": len(incident.members),
        "vouchedAgents": len(incident.vouched),
        "late": incident.late,
        "chronic": incident.chronic,
    }
    if change.agent_id is not None:
        summary["agentId"] = change.agent_id
    if change.absorbed is not None:
        summary["absorbed"] = change.absorbed.id
    if old_news:
        summary["resent"] = True
    return summary
