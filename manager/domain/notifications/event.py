"""Events worth telling: the closed set of their names, each with a topic and a default severity."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.threats import Severity


class Topic(StrEnum):
    """The question of an operator that an event answers."""

    GOT_IN = "got_in"
    WE_HURT = "we_hurt"
    WAITS = "waits"
    BLIND = "blind"
    BLOCKED = "blocked"
    FLEET = "fleet"
    SYSTEM = "system"


class EventKind(NamedTuple):
    """The topic and the default severity of the events of one name."""

    topic: Topic
    severity: Severity


def _kinds(topic: Topic, severity: Severity, *names: str) -> dict[str, EventKind]:
    return dict.fromkeys(names, EventKind(topic, severity))


KINDS: Mapping[str, EventKind] = {
    **_kinds(Topic.GOT_IN, Severity.CRITICAL, "suspicious_login", "critical_threat"),
    **_kinds(Topic.GOT_IN, Severity.HIGH, "alerts_limited"),
    **_kinds(Topic.WE_HURT, Severity.HIGH, "block_cut_connections", "block_ineffective", "block_withdrawn"),
    **_kinds(Topic.WAITS, Severity.HIGH, "approval_waiting"),
    **_kinds(Topic.WAITS, Severity.LOW, "approval_over"),
    **_kinds(Topic.BLIND, Severity.HIGH, "agent_stale", "agent_cloned", "reports_held_back", "mode_reverted"),
    **_kinds(Topic.BLIND, Severity.MEDIUM, "agent_degraded", "agent_suspended"),
    **_kinds(Topic.BLIND, Severity.LOW, "agent_online", "agent_offline", "agent_recovered", "agent_clone_gone"),
    **_kinds(Topic.BLIND, Severity.LOW, "reports_arrive_again"),
    **_kinds(Topic.BLOCKED, Severity.MEDIUM, "incident_opened", "incident_grew", "incident_merged"),
    **_kinds(Topic.BLOCKED, Severity.LOW, "incident_chronic", "incident_closed", "incident_response"),
    **_kinds(Topic.BLOCKED, Severity.LOW, "threats_reported"),
    **_kinds(Topic.FLEET, Severity.LOW, "agent_registered", "agent_reconnected", "agent_removed", "agent_changed"),
    **_kinds(Topic.FLEET, Severity.LOW, "policy_created", "blocks_added", "incident_work", "threat_recognized"),
    **_kinds(Topic.FLEET, Severity.MEDIUM, "responses_frozen", "responses_thawed"),
    **_kinds(Topic.SYSTEM, Severity.HIGH, "store_unavailable", "broker_unavailable", "certificate_expiring"),
    **_kinds(Topic.SYSTEM, Severity.LOW, "store_available", "broker_available", "certificate_renewed"),
    **_kinds(Topic.SYSTEM, Severity.LOW, "signed_in"),
    **_kinds(Topic.SYSTEM, Severity.MEDIUM, "sign_in_refused"),
    **_kinds(Topic.SYSTEM, Severity.HIGH, "channel_failing", "events_dropped"),
    **_kinds(Topic.SYSTEM, Severity.LOW, "channel_recovered", "notification_test", "notification_acknowledged"),
    **_kinds(Topic.SYSTEM, Severity.LOW, "notifications_muted", "notifications_unmuted"),
}
"""The kind of each event, by its name. Events of other names are published to watchers, and not stored."""

ENDS: Mapping[str, str] = {
    "agent_online": "agent_stale",
    "agent_recovered": "agent_degraded",
    "agent_clone_gone": "agent_cloned",
    "reports_arrive_again": "reports_held_back",
    "approval_over": "approval_waiting",
    "incident_closed": "incident_opened",
    "store_available": "store_unavailable",
    "broker_available": "broker_unavailable",
    "certificate_renewed": "certificate_expiring",
    "channel_recovered": "channel_failing",
}
"""The events that end a condition, with the event that began it: who is told of one is told of the other."""

UNKNOWN = EventKind(Topic.SYSTEM, Severity.LOW)
"""The kind of a name that this release does not have: an older or newer release has stored the event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One stored event.

    Attributes:
        sequence: The position in the event table, from 1; also the id in the event stream.
        at: When it happened, in seconds since 1970.
        name: One of `KINDS`.
        severity: That of its kind, unless the event itself states another one.
        organization_id: The organization that it is about; None for an event of the whole fleet or of the manager.
        agent_id: The agent that it is about, if it is about one.
        hostname: That agent's hostname: text from outside.
        site: That agent's site, if it has one: text from outside.
        data: Members that depend on the name, as in the event stream; may hold text from outside.
    """

    sequence: int
    at: float
    name: str
    severity: Severity
    organization_id: str | None = None
    agent_id: str | None = None
    hostname: str | None = None
    site: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def topic(self) -> Topic:
        """The topic of its name."""
        return KINDS.get(self.name, UNKNOWN).topic


def weight(name: str, severity: Severity) -> int:
    """Return the rank of an event among the severities, 0 for the lowest: its own or that of what it ends."""
    begun = KINDS.get(ENDS.get(name, ""))
    return max(RANKS[severity], 0 if begun is None else RANKS[begun.severity])


RANKS: Mapping[Severity, int] = {severity: rank for rank, severity in enumerate(Severity)}
"""The rank of each severity, 0 for the lowest."""
