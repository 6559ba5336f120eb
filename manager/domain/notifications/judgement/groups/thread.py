"""Thread: the messages of one group, and the rules for the time of the next one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

from manager.domain.notifications.judgement.classification import GroupKind
from manager.domain.notifications.judgement.quiet_hours import QuietHours

_MINUTE = 60.0
_HOUR = 3600.0
_MOST_QUIET = 8
_MOST_INCIDENTS = 1000


class GroupRule(NamedTuple):
    """Times of a kind of group, in seconds.

    Attributes:
        gather: from the first untold event to a message, so that what comes together is told together.
        gaps: between two messages: after the first, the second, …; the last one holds from then on.
        ends_after: without an event, after which a group of occurrences ends.
        urgent: whether quiet hours do not hold it back, and other kinds do not use up its limit of messages.
        escalates: whether it is escalated when nobody acknowledges it.
    """

    gather: float
    gaps: tuple[float, ...]
    ends_after: float = 4 * _HOUR
    urgent: bool = False
    escalates: bool = False


_SLOWING = (15 * _MINUTE, _HOUR, 4 * _HOUR)

RULES: Mapping[GroupKind, GroupRule] = {
    GroupKind.GOT_IN: GroupRule(5.0, (5 * _MINUTE, 15 * _MINUTE), _HOUR, urgent=True, escalates=True),
    GroupKind.WE_HURT: GroupRule(30.0, _SLOWING, escalates=True),
    GroupKind.WAITS: GroupRule(30.0, _SLOWING, escalates=True),
    GroupKind.BLIND: GroupRule(0.0, _SLOWING, escalates=True),
    GroupKind.SYSTEM: GroupRule(30.0, _SLOWING, escalates=True),
    GroupKind.FLAPPING: GroupRule(120.0, (_HOUR, 4 * _HOUR), 6 * _HOUR),
    GroupKind.NOTICE: GroupRule(30.0, _SLOWING),
}
"""The rule of each kind of group."""


@dataclass(slots=True)
class Thread:
    """The messages of one group so far. Times are seconds since 1970.

    Attributes:
        id: the group's id in messages.
        kind: the kind of group.
        organization_id: the organization that it is about; None for all.
        site: the site that it is about, if it is about one.
        messages: the number of messages so far.
        first_told: when the first message was sent.
        last_told: when the last one was sent.
        acknowledged_by: the person who acknowledged it.
        escalated: whether it was escalated.
        shared: the group of the last message that it shared with other groups.
        incidents: the incidents that its events named; a person who works on one acknowledges the group.
        quiet: the quiet hours of the untold events; None for an event without any.
        quiet_told: whether a message was sent since `quiet` was collected.
    """

    id: str
    kind: GroupKind
    organization_id: str | None = None
    site: str | None = None
    messages: int = 0
    first_told: float | None = None
    last_told: float | None = None
    acknowledged_by: str | None = None
    escalated: bool = False
    shared: str | None = None
    incidents: list[str] = field(default_factory=list)
    quiet: list[QuietHours | None] = field(default_factory=list)
    quiet_told: bool = False

    @property
    def rule(self) -> GroupRule:
        """The rule of its kind."""
        return RULES[self.kind]

    def note_quiet(self, quiet: QuietHours | None) -> None:
        """Take over the quiet hours of an untold event."""
        if self.quiet_told:
            self.quiet, self.quiet_told = [], False
        if quiet not in self.quiet:
            self.quiet = [*self.quiet, quiet][-_MOST_QUIET:]

    def note_incident(self, incident_id: object) -> None:
        """Take over the incident that an event named."""
        if isinstance(incident_id, str) and incident_id not in self.incidents:
            self.incidents = [*self.incidents, incident_id][-_MOST_INCIDENTS:]

    def next_at(self, ready: float, now: float) -> float:
        """Return when the next message may be sent, if there is something to tell from `ready` on; not before `now`.

        Times to come are whole seconds, so that groups that open in one second are looked at once.
        """
        at = ready
        if self.last_told is not None:
            gaps = self.rule.gaps
            at = max(at, self.last_told + gaps[min(self.messages, len(gaps)) - 1])
        return self.after_quiet(max(float(ceil(at)), now))

    def after_quiet(self, at: float) -> float:
        """Return the first time from `at` on that quiet hours do not hold back: those of all untold events do."""
        if self.rule.urgent or not self.quiet or None in self.quiet:
            return at
        return min(each.end_after(at) for each in self.quiet if each is not None)

    def told(self, now: float) -> str:
        """Record that a message is sent; return the message's id."""
        self.messages += 1
        self.first_told = now if self.first_told is None else self.first_told
        self.last_told = now
        self.quiet_told = True
        return f"{self.id}.{self.messages}"

    def escalation_at(self, after: float | None) -> float | None:
        """Return when it is to be escalated; None if it is not."""
        if after is None or not self.rule.escalates or self.first_told is None:
            return None
        if self.acknowledged_by is not None or self.escalated:
            return None
        return self.after_quiet(self.first_told + after)
