"""Groups of occurrences: suspicious logins, harmful blocks, notices. Told once each, gathered between messages."""

from dataclasses import dataclass, field

from manager.domain.notifications.judgement.groups.items import Item, by_weight, drop_lightest
from manager.domain.notifications.judgement.groups.thread import Thread
from manager.domain.notifications.judgement.quiet_hours import QuietHours

_MOST_UNTOLD = 500
_MOST_HOSTS = 100
_REMEMBERED = 20


@dataclass(slots=True)
class OccurrenceGroup:
    """Occurrences of one kind in one organization. It ends after a time without any.

    Attributes:
        thread: its messages.
        untold: what no message has told, by subject; the same again is counted with the first.
        untold_more: the number of untold occurrences beyond those that `untold` has room for.
        untold_hosts: the hosts of those, 100 at most.
        untold_others: the number of those that are no logins.
        waiting_since: when the first untold one was taken.
        newest: when the last one was taken.
        total: the number of occurrences.
        others: the number of those that are no logins.
        told: the latest that a message told.
    """

    thread: Thread
    untold: dict[str, Item] = field(default_factory=dict)
    untold_more: int = 0
    untold_hosts: list[str] = field(default_factory=list)
    untold_others: int = 0
    waiting_since: float | None = None
    newest: float = 0.0
    total: int = 0
    others: int = 0
    told: list[Item] = field(default_factory=list)

    def add(self, subject: str, item: Item, now: float, quiet: QuietHours | None) -> None:
        """Add an occurrence; the same subject again only raises its count while it is untold."""
        self.thread.note_quiet(quiet)
        self.total += item.count
        self.others += 0 if item.is_login else item.count
        self.newest = now
        if self.waiting_since is None:
            self.waiting_since = now
        known = self.untold.get(subject)
        if known is not None:
            known.repeat(item)
            return
        self.untold[subject] = item
        if len(self.untold) > _MOST_UNTOLD:
            dropped = drop_lightest(self.untold)
            self.untold_more += dropped.count
            self.untold_others += 0 if dropped.is_login else dropped.count
            if dropped.hostname and dropped.hostname not in self.untold_hosts:
                self.untold_hosts = [*self.untold_hosts, dropped.hostname][:_MOST_HOSTS]

    def due(self, now: float) -> float | None:
        """Return when its next message is due, not before `now`; None if all is told."""
        if self.waiting_since is None:
            return None
        return self.thread.next_at(self.waiting_since + self.thread.rule.gather, now)

    def ends_at(self, escalate_after: float | None) -> float | None:
        """Return when it ends if nothing happens; None while something is untold."""
        if self.waiting_since is not None:
            return None
        end = self.newest + self.thread.rule.ends_after
        escalation = self.thread.escalation_at(escalate_after)
        return end if escalation is None else max(end, escalation + 1)

    def tell(self) -> list[Item]:
        """Return the untold items, in the order in which they are told; they are told with this."""
        items = by_weight(list(self.untold.values()))
        self.told = [*items, *self.told][:_REMEMBERED]
        self.untold, self.untold_more, self.untold_hosts, self.waiting_since = {}, 0, [], None
        self.untold_others = 0
        return items
