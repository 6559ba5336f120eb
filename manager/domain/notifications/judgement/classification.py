"""Classification: the group that an event belongs to, or that it is only a number in the digest."""

from collections.abc import Mapping
from enum import StrEnum

from manager.domain.notifications.event import Event
from schemas.threats import Severity


class GroupKind(StrEnum):
    """Kind of a group of events that people are told of, the most urgent first."""

    GOT_IN = "got_in"
    """Suspicious logins, critical threats, malware on several hosts."""
    WE_HURT = "we_hurt"
    """Blocks that cut connections, have no effect or met a friend; protection that fell back to learning."""
    WAITS = "waits"
    """Approvals that wait."""
    BLIND = "blind"
    """Agents that are silent, degraded or whose reports are held back."""
    SYSTEM = "system"
    """Trouble of the store, the broker, a certificate or a channel."""
    FLAPPING = "flapping"
    """Agents that become silent or degraded again and again."""
    NOTICE = "notice"
    """Clones, suspensions, frozen responses, refused sign-ins, events that were dropped."""


OCCURRENCES: Mapping[str, GroupKind] = {
    "suspicious_login": GroupKind.GOT_IN,
    "critical_threat": GroupKind.GOT_IN,
    "alerts_limited": GroupKind.GOT_IN,
    "block_cut_connections": GroupKind.WE_HURT,
    "block_ineffective": GroupKind.WE_HURT,
    "block_withdrawn": GroupKind.WE_HURT,
    "mode_reverted": GroupKind.WE_HURT,
    "agent_cloned": GroupKind.NOTICE,
    "agent_suspended": GroupKind.NOTICE,
    "responses_frozen": GroupKind.NOTICE,
    "responses_thawed": GroupKind.NOTICE,
    "sign_in_refused": GroupKind.NOTICE,
    "events_dropped": GroupKind.NOTICE,
}
"""The group of events that happen at one moment, by name."""

BEGINNINGS: Mapping[str, tuple[GroupKind, str]] = {
    "agent_stale": (GroupKind.BLIND, "silent"),
    "agent_degraded": (GroupKind.BLIND, "degraded"),
    "reports_held_back": (GroupKind.BLIND, "reports held back"),
    "approval_waiting": (GroupKind.WAITS, "approval"),
    "store_unavailable": (GroupKind.SYSTEM, "store"),
    "broker_unavailable": (GroupKind.SYSTEM, "broker"),
    "certificate_expiring": (GroupKind.SYSTEM, "certificate"),
    "channel_failing": (GroupKind.SYSTEM, "channel"),
}
"""The group of events that begin a condition, and the condition's cause, by name."""

ENDINGS: Mapping[str, tuple[GroupKind, frozenset[str]]] = {
    "agent_online": (GroupKind.BLIND, frozenset({"silent"})),
    "agent_offline": (GroupKind.BLIND, frozenset({"silent"})),
    "agent_removed": (GroupKind.BLIND, frozenset({"silent", "degraded", "reports held back"})),
    "agent_recovered": (GroupKind.BLIND, frozenset({"degraded"})),
    "reports_arrive_again": (GroupKind.BLIND, frozenset({"reports held back"})),
    "approval_over": (GroupKind.WAITS, frozenset({"approval"})),
    "store_available": (GroupKind.SYSTEM, frozenset({"store"})),
    "broker_available": (GroupKind.SYSTEM, frozenset({"broker"})),
    "certificate_renewed": (GroupKind.SYSTEM, frozenset({"certificate"})),
    "channel_recovered": (GroupKind.SYSTEM, frozenset({"channel"})),
}
"""The group and the causes that events end, by name."""

CONTROLS = frozenset({"notification_acknowledged", "notifications_muted", "notifications_unmuted", "incident_work"})
"""The names of what people decided on notifications."""

COUNTED = frozenset(
    {
        "threats_reported", "incident_opened", "incident_response", "agent_offline", "agent_removed",
        "agent_registered", "signed_in", "blocks_added", "policy_created",
    }
)  # fmt: skip
"""The names of events that are numbers in the digest."""

ALWAYS_TAKEN = CONTROLS | COUNTED | frozenset(ENDINGS)
"""The names of events that the judgement needs whatever their severity."""

_TOLD_AT_ONCE = frozenset({Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL})


def occurrence(event: Event) -> GroupKind | None:
    """Return the group of an event that happened at one moment; None if it is no such event, or only counted.

    An incident that late reports open, which guards sent again after the store lost them, is only counted.
    """
    if event.name == "incident_opened":
        is_news = not event.data.get("resent")
        return GroupKind.GOT_IN if event.data.get("kind") == "file_hash" and is_news else None
    kind = OCCURRENCES.get(event.name)
    if kind is GroupKind.GOT_IN and event.severity not in _TOLD_AT_ONCE:
        return None  # a person who mistyped a password
    return kind


def member_of(event: Event) -> str:
    """Return the key of what a condition is about: an agent, an incident, or a part of the manager."""
    match event.name:
        case "approval_waiting" | "approval_over":
            return str(event.data.get("incidentId"))
        case "certificate_expiring" | "certificate_renewed":
            return f"certificate {event.data.get('name')}"
        case "channel_failing" | "channel_recovered":
            return f"channel {event.data.get('channel')}"
        case "store_unavailable" | "store_available":
            return "store"
        case "broker_unavailable" | "broker_available":
            return "broker"
    return event.agent_id or ""
