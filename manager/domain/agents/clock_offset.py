"""Event time: the agent's timestamp corrected by the offset of its clock.

An agent's clock offset is the smallest (received - sentAt) of the last half hour to hour since its clock last stepped.
The message with the shortest transit is the most exact; older ones are dropped, because clocks drift.

A guard sends a heartbeat before it empties its outbox, so the offset is known before old reports arrive (the contract,
section 2, "Event time").
"""

from math import inf
from typing import NamedTuple

from msgspec import Struct

STEP = 2.0
"""Seconds by which sentAt - uptime may move before the agent's clock counts as stepped."""

PERIOD = 1800.0
"""The length of a period in seconds; the smallest measurement of the previous period is dropped at its end."""


class Untimely(NamedTuple):
    """An agent's newest report that does not count for a response because of its time.

    `seconds` is the receipt minus the time of the report: its event time where the agent's clock offset is known, else
    its own timestamp.
    """

    seconds: float
    clock_known: bool

    def describe(self, hostname: str) -> str:
        """Return a sentence part for operators that names the clock that is off, and by how much."""
        seconds = abs(round(self.seconds))
        if self.clock_known:
            return f"the report of {hostname} arrived {seconds} s after the attack"
        if self.seconds < 0:
            return f"the clock of {hostname} is {seconds} s ahead of the manager's"
        return f"the clock of {hostname} is {seconds} s behind the manager's, or its report waited as long"


class ClockOffset(Struct, gc=False):
    """The offset of one agent's clock; kept across sessions and restarts.

    `seconds` is added to the agent's time to get the manager's time; None while it is unknown. `origin` is
    sentAt - uptime, which moves only when the clock steps or the guard restarts.
    """

    seconds: float | None = None
    origin: float | None = None
    session: int = -1
    smallest: float = inf
    """Smallest measurement of the current period; in memory only."""
    period_start: float | None = None

    def observe(self, received: float, sent_at: float, uptime: float, session: int, *, fresh: bool) -> None:
        """Update the offset from a message that carries its sending time.

        Args:
            received: the manager's time.
            sent_at: the agent's time.
            uptime: seconds on the guard's monotonic clock at `sent_at`.
            session: the agent's session; a new one may be a restarted guard, whose uptime starts at zero.
            fresh: whether the message cannot have waited in a broker's queue (a heartbeat cannot, a birth can).
        """
        measured, origin = received - sent_at, sent_at - uptime
        moved = self.origin is None or abs(origin - self.origin) > STEP
        if self.seconds is None or (moved and session == self.session):
            self._begin(measured, received)
        elif moved and not fresh:
            self.seconds = min(self.seconds, measured)
            return  # a restarted guard and maybe an old message: the session's first heartbeat determines the offset
        elif moved and abs(measured - self.seconds) > STEP:
            self._begin(measured, received)
        else:
            self._add(measured, received)
        self.origin, self.session = origin, session

    def shift(self, seconds: float) -> None:
        """Shift the offset by a step of the manager's clock."""
        if self.seconds is not None:
            self.seconds += seconds
        self.smallest += seconds
        if self.period_start is not None:
            self.period_start += seconds

    def _begin(self, measured: float, received: float) -> None:
        self.seconds = self.smallest = measured
        self.period_start = received

    def _add(self, measured: float, received: float) -> None:
        if measured < self.smallest:
            self.smallest = measured
        if self.period_start is None:
            self.period_start = received
        if received - self.period_start >= PERIOD:
            self.seconds, self.smallest, self.period_start = self.smallest, measured, received
        if self.seconds is None or measured < self.seconds:
            self.seconds = measured

    def event_time(self, timestamp: float, received: float) -> tuple[float, bool]:
        """Return the event time of a report on the manager's clock, and whether the offset is known.

        Never later than `received`. It is `received`, and False, while no offset is known, and where the result would
        lie before 1970, which no correct clock shows.
        """
        if self.seconds is None:
            return received, False
        happened = timestamp + self.seconds
        if happened < 0:
            return received, False
        return happened if happened < received else received, True
