"""Correlation at work: stored reports go in, incidents and their events come out, in the same batch."""

import secrets
from collections.abc import Callable

from manager.domain.correlation import (
    Allowed,
    ChangeKind,
    Correlator,
    CorrelatorSettings,
    History,
    Incident,
    IncidentChange,
    Indicator,
    Report,
)
from manager.domain.correlation.allowlist import allow_nothing
from manager.domain.correlation.reports import MEMORY
from manager.domain.instant import Instant
from manager.engine.batch import ThreatRow
from manager.engine.context import Context, ReceivedReport
from manager.engine.ports import Archive

_EVERY = 1.0
_LONGEST_OFFER = 64
_NEWS = {
    ChangeKind.OPENED: "incident_opened",
    ChangeKind.RETURNED: "incident_opened",
    ChangeKind.GREW: "incident_grew",
    ChangeKind.MERGED: "incident_merged",
    ChangeKind.CHRONIC: "incident_chronic",
    ChangeKind.CLOSED: "incident_closed",
}
"""The fleet events of the changes that have one; a further report of a member is no news."""


class IncidentRecorder:
    """Feeds the correlator and writes down what it says.

    Args:
        settings: thresholds and bounds.
        history: the store, for reports older than memory.
        react: is told of every change, after it was written down; the responder's way in.
        allowed: which indicators make no incident.
    """

    def __init__(
        self,
        settings: CorrelatorSettings,
        history: History,
        react: Callable[[Context, IncidentChange], None],
        allowed: Allowed = allow_nothing,
    ) -> None:
        self.correlator = Correlator(settings, new_incident_id, history, self._is_allowed)
        self._allowed = allowed
        self._passed_over: list[Indicator] = []
        self._react = react
        self._next = 0.0

    def recall(self, archive: Archive, now: Instant) -> None:
        """Remember what a correlator would that had never stopped."""
        since = now.wall - MEMORY
        self.correlator.rebuild(archive.live(since), archive.recent(since), now.wall)

    def observe(self, context: Context, arrival: ReceivedReport, row: ThreatRow) -> None:
        """Take one stored report.

        Raises:
            StoreUnavailable: the store was asked about older reports and could not answer; observing it again is
                harmless.
        """
        agent = arrival.agent
        report = Report(
            agent.agent_id,
            agent.organization_id,
            agent.host.site,
            row.threat_id,
            row.event_time,
            row.received_at,
            row.source_ip,
            row.file_hash,
            row.technique,
            row.time_known,
        )
        for change in self.correlator.observe(report):
            self._write(context, change)
        self._tell_refusals(context, arrival, row)

    def follow_time(self, context: Context, now: Instant) -> None:
        """Close and age incidents, about once a second."""
        if now.monotonic < self._next:
            return
        self._next = now.monotonic + _EVERY
        for change in self.correlator.expire(now.wall):
            self._write(context, change)

    def _is_allowed(self, indicator: Indicator) -> bool:
        if not self._allowed(indicator):
            return False
        self._passed_over.append(indicator)
        return True

    def _tell_refusals(self, context: Context, arrival: ReceivedReport, row: ThreatRow) -> None:
        """Say which indicators of a report count for nothing, and why: a refusal must not be silent."""
        refused = [(indicator.kind, indicator.value, "it is on the allowlist") for indicator in self._passed_over]
        self._passed_over.clear()
        offered = arrival.report.threat.evidence.get("sourceIp")
        if row.source_ip is None and offered:
            refused.append(("source_ip", str(offered)[:_LONGEST_OFFER], "it is no single address"))
        for kind, value, reason in refused:
            context.fleet.counters["indicators_refused"] += 1
            context.batch.event("indicator_refused", arrival.agent, {"kind": kind, "value": value, "reason": reason})

    def _write(self, context: Context, change: IncidentChange) -> None:
        incident, changes = change.incident, context.batch.changes
        changes.incidents[incident.id] = incident
        match change.kind:
            case ChangeKind.OPENED | ChangeKind.RETURNED:
                changes.members += [(incident.id, agent_id, acts) for agent_id, acts in incident.members.items()]
            case ChangeKind.MERGED if change.absorbed is not None:
                changes.incidents[change.absorbed.id] = change.absorbed
                changes.members += [(incident.id, agent_id, acts) for agent_id, acts in incident.members.items()]
            case ChangeKind.GREW if change.agent_id is not None:
                changes.members.append((incident.id, change.agent_id, incident.members[change.agent_id]))
        changes.members += [(incident.id, agent_id, True) for agent_id in change.actionable]
        news = _NEWS.get(change.kind)
        if news is not None:
            context.fleet.counters[news] += 1
            if not change.silent:
                context.batch.event(news, data=_summary(incident, change))
        self._react(context, change)


def new_incident_id() -> str:
    """Return the id of a new incident."""
    return f"inc-{secrets.token_hex(8)}"


def _summary(incident: Incident, change: IncidentChange) -> dict[str, object]:
    summary: dict[str, object] = {
        "incidentId": incident.id,
        "kind": incident.kind,
        "value": incident.value,
        "organizationId": incident.organization_id,
        "agents": len(incident.members),
        "late": incident.late,
        "chronic": incident.chronic,
    }
    if change.agent_id is not None:
        summary["agentId"] = change.agent_id
    if change.absorbed is not None:
        summary["absorbed"] = change.absorbed.id
    return summary
