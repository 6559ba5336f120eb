"""Groups of standing conditions: silent agents of a site, approvals that wait, a store that does not commit.

A condition has a beginning and an end. A group opens when the first of its conditions has lasted long enough, and then
counts all that stand, so an outage of a site is one message; it closes when nearly all of them are over.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TypeAlias

from manager.domain.notifications.judgement.classification import GroupKind
from manager.domain.notifications.judgement.groups.items import Words
from manager.domain.notifications.judgement.groups.thread import Thread
from manager.domain.notifications.judgement.quiet_hours import QuietHours
from schemas.threats import Severity

PATIENCE = 600.0
"""Seconds for which an agent is silent or degraded, or the broker is not reached, before anybody is told."""

SETTLING = 60.0
"""Seconds for which a group's conditions must be over before its end is told."""

REMAINDER = 10
"""A group closes when at most the greatest number that was told, divided by this, still stand."""

REMINDER = 1800.0
"""Seconds before the first waiting approval ends, at which people are told again of all that end in twice this time."""

_MOST = 20_000

Deferral: TypeAlias = Callable[[str, "Member"], float]
"""Returns until when a member is not to be told (muted, flapping); a time that is past if it is to be told."""


@dataclass(slots=True)
class Member:
    """A standing condition, or several of one agent.

    Attributes:
        words: its description in a message.
        severity: the severity of the newest of its events.
        causes: since when each of its causes stands.
        told: whether a message has told it.
        agent_id: the agent that it is about, if it is about one.
        ends_at: when it ends by itself.
        command: the command that acts.
        minor: whether it waits for the next message of its group: an approval that only widens a block.
    """

    words: Words
    severity: Severity
    causes: dict[str, float]
    told: bool = False
    agent_id: str | None = None
    ends_at: float | None = None
    command: str | None = None
    minor: bool = False

    @property
    def since(self) -> float:
        """Since when the first of its causes stands."""
        return min(self.causes.values())


@dataclass(slots=True)
class StandingGroup:
    """The standing conditions of one kind, organization and site.

    Attributes:
        thread: its messages.
        members: what stands, by key.
        overflow: the number of those that stand beyond 20,000.
        peak: the greatest number that a message has told.
        low_since: since when nearly all of them are over; None while they are not.
        ended: the number of ended members since it opened, by outcome.
        reminded_until: the time up to whose end of approvals people were reminded.
    """

    thread: Thread
    members: dict[str, Member] = field(default_factory=dict)
    overflow: int = 0
    peak: int = 0
    low_since: float | None = None
    ended: dict[str, int] = field(default_factory=dict)
    reminded_until: float = 0.0

    @property
    def count(self) -> int:
        """The number of members that stand."""
        return len(self.members) + self.overflow

    @property
    def is_told(self) -> bool:
        """Whether a message has told of it."""
        return self.thread.last_told is not None

    @property
    def is_urgent(self) -> bool:
        """Whether it holds anything that is not minor."""
        return self.overflow > 0 or any(not each.minor for each in self.members.values())

    def begin(self, key: str, member: Member, now: float, quiet: QuietHours | None) -> bool:
        """Add a condition, or a further cause to it; return whether it is new."""
        known = self.members.get(key)
        if known is not None:
            known.causes = {**member.causes, **known.causes}
            known.words, known.severity, known.ends_at = member.words, member.severity, member.ends_at
            return False
        if len(self.members) >= _MOST:
            self.overflow += 1
            return False
        self.thread.note_quiet(quiet)
        self.members[key] = member
        member.told = member.minor and self.is_told
        self._settle(now)
        return True

    def end(self, key: str, causes: frozenset[str], outcome: str, now: float) -> bool:
        """End causes of a condition; return whether it is over with this.

        The end of an unknown one is that of one of those beyond 20,000, if there are any.
        """
        member = self.members.get(key)
        if member is None:
            self.overflow = max(0, self.overflow - 1)
            return False
        left = {cause: since for cause, since in member.causes.items() if cause not in causes}
        if left:
            member.causes = left
            return False
        del self.members[key]
        self.ended[outcome] = self.ended.get(outcome, 0) + 1
        self._settle(now)
        return True

    def expire(self, now: float) -> None:
        """End the members whose time is over."""
        gone = [key for key, each in self.members.items() if each.ends_at is not None and each.ends_at <= now]
        for key in gone:
            del self.members[key]
            self.ended["expired"] = self.ended.get("expired", 0) + 1
        if gone:
            self._settle(now)

    def expires_at(self) -> float:
        """Return when the first member ends by itself; infinity if none does."""
        return min((each.ends_at for each in self.members.values() if each.ends_at is not None), default=inf)

    def closes_at(self, now: float) -> float:
        """Return when the message on its end is due, not before `now`; infinity if there is none to send."""
        if self.low_since is None or not self.is_told:
            return inf
        return self.thread.after_quiet(max(now, self.low_since + SETTLING))

    def ripe_at(self, member: Member) -> float:
        """Return from when a member is to be told, unless it is deferred."""
        patient = self.thread.kind is GroupKind.BLIND or "broker" in member.causes
        return member.since + (PATIENCE if patient else self.thread.rule.gather)

    def due(self, now: float, deferred: Deferral) -> float:
        """Return when its next message on standing members is due, not before `now`; infinity if all are told."""
        untold = ((key, each) for key, each in self.members.items() if not each.told)
        ready = min((max(self.ripe_at(each), deferred(key, each)) for key, each in untold), default=inf)
        due = self.thread.next_at(ready, now) if ready < inf else inf
        reminder = self._reminder_at(deferred)
        return due if reminder == inf else min(due, self.thread.after_quiet(max(now, reminder)))

    def tell(self, now: float, deferred: Deferral) -> list[Member]:
        """Return the members to name, untold ones first; all that stand and are not deferred are told with this."""
        shown = [each for key, each in self.members.items() if deferred(key, each) <= now]
        named = sorted(shown, key=lambda each: (each.told, each.since))
        for each in shown:
            each.told = True
        self.peak = max(self.peak, len(shown) + self.overflow)
        self.reminded_until = now + 2 * REMINDER
        self._settle(now)
        return named

    def causes(self) -> Counter[str]:
        """Return the number of told members that stand, by cause."""
        return Counter(cause for each in self.members.values() if each.told for cause in each.causes)

    def restart(self, thread: Thread) -> None:
        """Continue with the members that still stand as another group."""
        self.thread = thread
        self.peak = sum(each.told for each in self.members.values()) + self.overflow
        self.low_since, self.ended = None, {}

    def _settle(self, now: float) -> None:
        if self.count > self.peak // REMAINDER:
            self.low_since = None
        elif self.low_since is None:
            self.low_since = now

    def _reminder_at(self, deferred: Deferral) -> float:
        if self.thread.kind is not GroupKind.WAITS or not self.is_told or self.thread.acknowledged_by is not None:
            return inf
        times = (
            max(each.ends_at - REMINDER, deferred(key, each))
            for key, each in self.members.items()
            if each.told and not each.minor and each.ends_at is not None and each.ends_at > self.reminded_until
        )
        return min(times, default=inf)
