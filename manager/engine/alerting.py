"""Alerting: the channels and quiet hours that the policy in force chooses for each event."""

import json
from collections.abc import Iterable
from typing import Any

from manager.domain.notifications.event import RANKS, weight
from manager.domain.policies.alerting import alerting_of
from manager.engine.events import EventRow
from manager.engine.fleet import Fleet
from schemas.threats import Severity


def choose(fleet: Fleet, rows: Iterable[EventRow]) -> None:
    """Record with each event the channels that its scope's `alerting` names.

    An event about an agent has the agent's policy, below its emergency entries, which raise the sensitivity; any other
    event has its organization's, or the global one. Names that the manager does not have are ignored.
    """
    known = fleet.settings.channels
    if not known:
        return
    shared: dict[str | None, Any] = {}
    for row in rows:
        alerting = _alerting_of(fleet, row, shared)
        channels = [name for name in alerting["channels"] if name in known]
        if channels and row.severity is not None:
            reaches = weight(row.event.event, row.severity) >= RANKS[Severity(alerting["minimumSeverity"])]
            row.alerting = _as_json(channels, alerting.get("quietHours"), severe=reaches)


def _alerting_of(fleet: Fleet, row: EventRow, shared: dict[str | None, Any]) -> Any:
    """Return the alerting of an event's scope; that of organizations is read once for all events of a batch."""
    event = row.event
    policy = None if event.agent_id is None else fleet.policies.effective.get(event.agent_id)
    if policy is None:
        if event.organization_id not in shared:
            shared[event.organization_id] = alerting_of(fleet.policies.documents, event.organization_id)
        return shared[event.organization_id]
    return (policy.resolved.under or policy.resolved).sections["alerting"]


def _as_json(channels: list[str], quiet_hours: Any, *, severe: bool) -> str:
    chosen = {"channels": channels, "severe": severe}
    return json.dumps(chosen if quiet_hours is None else {**chosen, "quietHours": quiet_hours}, separators=(",", ":"))
