"""Alerting: the channels and quiet hours that the policy in force chooses for each event."""

import json
from collections.abc import Iterable
from typing import Any

from manager.domain.notifications.event import RANKS, weight
from manager.domain.policies.alerting import alerting_of
from manager.engine.events import EventRow
from manager.engine.fleet import Fleet
from manager.errors import Invalid
from schemas.threats import Severity


def choose(fleet: Fleet, rows: Iterable[EventRow]) -> None:
    """Record with each event the channels that its scope's `alerting` names.

    An event about an agent has the agent's policy, below its emergency entries, which raise the sensitivity; any other
    event has its organization's, or the global one. Names that the manager does not have are ignored, and channels of
    other organizations.
    """
    known = fleet.settings.channels
    if not known:
        return
    shared: dict[str | None, Any] = {}
    for row in rows:
        alerting = _alerting_of(fleet, row, shared)
        organization = row.event.organization_id
        channels = [name for name in alerting["channels"] if name in known and _may_use(fleet, name, organization)]
        if channels and row.severity is not None:
            reaches = weight(row.event.event, row.severity) >= RANKS[Severity(alerting["minimumSeverity"])]
            row.alerting = _as_json(channels, alerting.get("quietHours"), severe=reaches)


def check_channels(fleet: Fleet, organization_id: str | None, named: Iterable[str], before: Iterable[str]) -> None:
    """Refuse a policy that adds a channel of other organizations.

    Args:
        fleet: the fleet.
        organization_id: the organization that the policy holds for; None for all.
        named: the channels that it names.
        before: those that it named so far; they are ignored where they may not be used.

    Raises:
        Invalid: a channel is for other organizations.
    """
    for name in set(named) - set(before):
        if not _may_use(fleet, name, organization_id):
            allowed = ", ".join(sorted(fleet.settings.channel_organizations[name]))
            holds = f"for {organization_id}" if organization_id else "for every organization"
            raise Invalid(
                f"alerting.channels: the channel {name} is for {allowed} alone, and this policy holds {holds}"
            )


def _may_use(fleet: Fleet, name: str, organization_id: str | None) -> bool:
    allowed = fleet.settings.channel_organizations.get(name)
    return allowed is None or organization_id in allowed


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
