"""Backlog: events that nobody was told of for more than 30 minutes, as one summary."""

from dataclasses import dataclass, field

from manager.domain.notifications.judgement.classification import GroupKind
from manager.domain.notifications.judgement.groups.items import Item, drop_lightest
from manager.domain.notifications.judgement.groups.thread import Thread
from manager.domain.notifications.judgement.quiet_hours import QuietHours

OLD = 1800.0
"""The age in seconds from which an event belongs to the backlog."""

DRAINED = 10.0
"""Seconds without a further event of the backlog, after which the summary is due."""

_MOST_ITEMS = 500


@dataclass(slots=True)
class Backlog:
    """The events of one backlog. Times are seconds since 1970.

    Attributes:
        thread: the summary's thread; a suspicious login among the events makes it urgent.
        oldest: when the first of them happened.
        newest: when the last of them happened.
        taken: when the last of them was taken.
        events: their number.
        items: the occurrences among them, by kind of group and subject.
        more: the number of further occurrences by kind of group.
        more_others: the number of those on suspicious events that are no logins.
        over: the number of conditions that would have been told and are over, by kind of group.
    """

    thread: Thread
    oldest: float
    newest: float
    taken: float = 0.0
    events: int = 0
    items: dict[GroupKind, dict[str, Item]] = field(default_factory=dict)
    more: dict[GroupKind, int] = field(default_factory=dict)
    more_others: int = 0
    over: dict[GroupKind, int] = field(default_factory=dict)

    def record(self, at: float, now: float, quiet: QuietHours | None) -> None:
        """Count an event."""
        self.events += 1
        self.oldest, self.newest = min(self.oldest, at), max(self.newest, at)
        self.taken = now
        self.thread.note_quiet(quiet)

    def add(self, kind: GroupKind, subject: str, item: Item) -> None:
        """Add an occurrence."""
        if kind is GroupKind.GOT_IN:
            self.thread.kind = GroupKind.GOT_IN
        items = self.items.setdefault(kind, {})
        known = items.get(subject)
        if known is not None:
            known.repeat(item)
            return
        items[subject] = item
        if len(items) > _MOST_ITEMS:
            dropped = drop_lightest(items)
            self.more[kind] = self.more.get(kind, 0) + dropped.count
            if kind is GroupKind.GOT_IN and not dropped.is_login:
                self.more_others += dropped.count

    def add_over(self, kind: GroupKind) -> None:
        """Count a condition that is over."""
        self.over[kind] = self.over.get(kind, 0) + 1

    def due(self, now: float) -> float:
        """Return when the summary is due, not before `now`."""
        return self.thread.after_quiet(max(now, self.taken + DRAINED))
