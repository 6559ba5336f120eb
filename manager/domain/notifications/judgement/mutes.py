"""Mutes: a scope of which nobody is told until a given time, such as a site in maintenance."""

from dataclasses import dataclass, field

from manager.domain.notifications.event import Event
from manager.domain.notifications.judgement.classification import GroupKind

_MOST = 200
_LATEST = 1e11


@dataclass(frozen=True, slots=True)
class Subject:
    """The place of an event: what a mute compares itself with."""

    organization_id: str | None
    site: str | None
    agent_id: str | None


@dataclass(frozen=True, slots=True)
class Mute:
    """One mute; a member that is None holds for all.

    Attributes:
        until: its end, in seconds since 1970.
        organization_id: the organization.
        site: the site.
        agent_id: the agent.
        topic: the kind of group. Without one suspicious logins are told all the same.
    """

    until: float
    organization_id: str | None = None
    site: str | None = None
    agent_id: str | None = None
    topic: str | None = None

    def covers(self, kind: GroupKind, subject: Subject) -> bool:
        """Return whether it holds for the events of a group's kind about a subject."""
        if self.topic != kind and (self.topic is not None or kind is GroupKind.GOT_IN):
            return False
        return (
            self.organization_id in {None, subject.organization_id}
            and self.site in {None, subject.site}
            and self.agent_id in {None, subject.agent_id}
        )

    @property
    def is_grave(self) -> bool:
        """Whether people are told of it: it holds for suspicious logins, or for the whole fleet."""
        return self.topic == GroupKind.GOT_IN or (self.organization_id, self.site, self.agent_id) == (None, None, None)

    def same_scope(self, other: "Mute") -> bool:
        """Return whether two mutes are for the same scope."""
        mine = (self.organization_id, self.site, self.agent_id, self.topic)
        return mine == (other.organization_id, other.site, other.agent_id, other.topic)


def mute_of(event: Event) -> Mute:
    """Return the mute that an event names; one without a valid end ends at once."""
    until = event.data.get("until")
    return Mute(
        until=float(until) if isinstance(until, int | float) and 0 <= until < _LATEST else 0.0,
        organization_id=event.organization_id,
        site=_text(event.data.get("site")) or event.site,
        agent_id=_text(event.data.get("agentId")) or event.agent_id,
        topic=_text(event.data.get("topic")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


@dataclass(slots=True)
class Mutes:
    """The mutes that hold, the newest last; beyond 200 the oldest is dropped."""

    entries: list[Mute] = field(default_factory=list)

    def add(self, mute: Mute, now: float) -> None:
        """Add a mute; it replaces one of the same scope."""
        kept = [each for each in self.entries if each.until > now and not each.same_scope(mute)]
        self.entries = [*kept, mute][-_MOST:]

    def remove(self, mute: Mute) -> None:
        """Remove the mute of the same scope."""
        self.entries = [each for each in self.entries if not each.same_scope(mute)]

    def until(self, kind: GroupKind, subject: Subject, now: float) -> float | None:
        """Return until when the events of a kind about a subject are muted; None if they are not."""
        ends = [each.until for each in self.entries if each.until > now and each.covers(kind, subject)]
        return max(ends, default=None)
