"""The lease of the managers of one database: rules for the one that leads, and for those that stand by.

The lease is one row. Its holder raises `beat` every two seconds; a manager that sees the row unchanged for six seconds
may take it, by a compare-and-set on all that it saw. Each measures these times on its own monotonic clock, so that no
clock of the database or of another host has a part in it: docs/decisions/0018-a-lease-without-a-common-clock.md.

Times are seconds on the monotonic clock of the manager that applies the rule.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The times of the lease, in seconds.

    Attributes:
        renew_every: From the sending of one renewal to the sending of the next.
        retry_every: From the failure of a renewal to the next attempt.
        leads_for: A holder leads for this long after it sent the last renewal that was confirmed.
        free_after: A row that has not changed for this long may be taken; longer than `leads_for`.
        read_every: From one reading of a manager that stands by to the next.
        read_gap: Two readings further apart than this are no observation of what was between them.
        standstill: A holder that has done nothing for this long renews no more, so that one that hangs is followed.
    """

    renew_every: float = 2.0
    retry_every: float = 0.5
    leads_for: float = 4.5
    free_after: float = 6.0
    read_every: float = 0.5
    read_gap: float = 2.0
    standstill: float = 60.0


class LeaseRow(NamedTuple):
    """The lease as a reading of the database found it.

    Attributes:
        timeline: The database's history; another one after a fail-over, which may have lost commits.
        epoch: The number of times that the lease was taken.
        holder: The instance that holds it; None once it was released.
        beat: Raised by every change of the row.
    """

    timeline: str
    epoch: int
    holder: str | None
    beat: int


class LeaseWatch:
    """The view of a manager that stands by: when the lease may be taken.

    Args:
        times: the times of the lease.
    """

    def __init__(self, times: LeaseTimes | None = None) -> None:
        self._times = times or LeaseTimes()
        self._row: LeaseRow | None = None
        self._unchanged_since = 0.0
        self._read_at: float | None = None

    @property
    def row(self) -> LeaseRow | None:
        """The last reading; None before the first."""
        return self._row

    def behind(self, now: float) -> float | None:
        """Return the seconds since the last reading; None before the first."""
        return None if self._read_at is None else max(0.0, now - self._read_at)

    def unchanged_for(self, now: float) -> float:
        """Return the seconds for which the readings have shown the same row; 0 before the first."""
        return 0.0 if self._read_at is None else max(0.0, now - self._unchanged_since)

    def observe(self, row: LeaseRow, read_at: float) -> None:
        """Record a reading.

        A database that could not be read was no witness of its holder: after a gap the time is counted anew, so that
        a holder that was cut off with everybody else renews before another takes its place.

        Args:
            row: the row.
            read_at: when the answer arrived.
        """
        was_watched = self._read_at is not None and read_at - self._read_at <= self._times.read_gap
        if row != self._row or not was_watched:
            self._unchanged_since = read_at
        self._row, self._read_at = row, read_at

    def takeable(self, now: float) -> LeaseRow | None:
        """Return the row that a compare-and-set may replace now; None while another manager may hold it."""
        row, read_at = self._row, self._read_at
        if row is None or read_at is None or now - read_at > self._times.read_gap:
            return None
        is_free = row.holder is None or now - self._unchanged_since >= self._times.free_after
        return row if is_free else None


class Tenure:
    """One manager's leadership of one epoch, from its taking of the lease to its loss. It never comes back after `end`.

    Args:
        row: the lease as the taking left it.
        sent_at: when the statement that took it was sent.
        times: the times of the lease.
    """

    def __init__(self, row: LeaseRow, sent_at: float, times: LeaseTimes | None = None) -> None:
        self.row = row
        self._times = times or LeaseTimes()
        self._confirmed_at = sent_at
        self._next_renewal = sent_at + self._times.renew_every
        self.ended: str | None = None
        """Why it ended; None while it has not."""

    @property
    def epoch(self) -> int:
        """The number of this leadership."""
        return self.row.epoch

    def leads(self, now: float) -> bool:
        """Return whether no other manager can lead at this time."""
        return self.ended is None and now < self._confirmed_at + self._times.leads_for

    def renewal_due(self, now: float) -> bool:
        """Return whether a renewal is to be sent."""
        return self.ended is None and now >= self._next_renewal

    def renewed(self, row: LeaseRow, sent_at: float) -> None:
        """Record a confirmed renewal; after a pause the leadership goes on, because the row shows that nobody took it.

        Args:
            row: the lease as the renewal left it.
            sent_at: when it was sent: the row may have been written at any time since.
        """
        self.row = row
        self._confirmed_at = max(self._confirmed_at, sent_at)
        self._next_renewal = sent_at + self._times.renew_every

    def failed(self, now: float) -> None:
        """Record a renewal without an answer: it may have been carried out, or may be so later."""
        self._next_renewal = now + self._times.retry_every

    def end(self, reason: str) -> None:
        """End the leadership; the first reason stays."""
        self.ended = self.ended or reason
