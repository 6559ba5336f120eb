"""Retention: the conditions under which old rows may be deleted by the wall clock, and the limit on their number.

A wall clock that is wrong makes fresh rows look old. So nothing is deleted by it until agents confirm it, and never
many rows in an hour; rows whose time of receipt cannot be right are judged by those around them.
"""

from collections import deque
from collections.abc import Iterable
from math import ceil, inf
from statistics import median
from typing import Final
from zlib import crc32

from manager.domain.instant import Instant

HOUR: Final = 3600.0
DAY: Final = 86_400.0

_WITNESSES = 3
_MOST_WITNESSES = 2000
_AGREEMENT = 600.0
_STEP = HOUR
_SLACK = 1.1
_PARTS = 24

EARLIEST: Final = 1_735_689_600.0
"""2025-01-01 UTC; no release with this rule existed before."""


class ClockTrust:
    """Decides whether the wall clock is trusted for the deletion of rows.

    After a start, and after a step of more than an hour, it is not, until one of these is true: the median of the
    sending times of three agents or more agrees with it within ten minutes; an operator accepts it; the manager has run
    for 24 hours. The first call of any method is the start.

    Of a large fleet a sample is compared, because sorting the times of a million agents would delay every receipt. The
    manager makes the ids that draw it, so no agent can get itself drawn. A sample that is halved keeps the agents of
    which one more bit of the id's hash is zero.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._followed: Instant | None = None
        """The last reading of the clocks that was compared; a batch has one."""
        self._reference: float | None = None
        self._offsets: dict[str, float] = {}
        self._zero_bits = 0
        self._trusted = False

    @property
    def witnesses(self) -> int:
        """The number of agents whose clocks are compared."""
        return len(self._offsets)

    def observe(self, agent_id: str, sent_at: float, now: Instant) -> None:
        """Record the sending time of an agent's fresh message, in seconds since 1970."""
        if now is not self._followed:
            self._follow(now)
        if not self._trusted and self._is_drawn(agent_id):
            self._offsets[agent_id] = sent_at - now.wall
            while len(self._offsets) > _MOST_WITNESSES:
                self._zero_bits = 2 * self._zero_bits + 1
                self._offsets = {drawn: self._offsets[drawn] for drawn in filter(self._is_drawn, self._offsets)}

    def accept(self, now: Instant) -> None:
        """Trust the clock on an operator's word."""
        self._follow(now)
        self._trusted = True

    def is_trusted(self, now: Instant) -> bool:
        """Return whether rows may be deleted by the wall clock."""
        self._follow(now)
        if not self._trusted and (self._agreed() or now.monotonic - self._since >= DAY):
            self._trusted = True
            self._forget_agents()
        return self._trusted

    def difference(self) -> float | None:
        """Return the median of the agents' clocks minus the wall clock, in seconds; None with fewer than three."""
        return median(self._offsets.values()) if len(self._offsets) >= _WITNESSES else None

    def _agreed(self) -> bool:
        difference = self.difference()
        return difference is not None and abs(difference) <= _AGREEMENT

    def _follow(self, now: Instant) -> None:
        """Withdraw the trust after a clock step, including a step in several parts."""
        self._followed = now
        reference = now.wall - now.monotonic
        if self._reference is None or abs(reference - self._reference) > _STEP:
            self._reference = reference
            self._since = now.monotonic
            self._forget_agents()
            self._trusted = False

    def _is_drawn(self, agent_id: str) -> bool:
        return not self._zero_bits or not crc32(agent_id.encode()) & self._zero_bits

    def _forget_agents(self) -> None:
        self._offsets.clear()
        self._zero_bits = 0


class DeletionBudget:
    """Limits the rows that are deleted in an hour to those that a 24th of the retention held, plus a tenth.

    The rows held are the most of the last 24 hours. For a retention below 24 hours the limit holds for a 24th of it.

    Args:
        retention: seconds that rows are kept.

    Attributes:
        window: seconds for which the limit holds.
    """

    def __init__(self, retention: float) -> None:
        self.window = min(HOUR, retention / _PARTS)
        self._deleted: deque[tuple[float, int]] = deque()
        self._held: deque[tuple[float, int]] = deque()

    def left(self, held: int, monotonic: float) -> int:
        """Return the number of rows that may be deleted now.

        Args:
            held: rows in the table.
            monotonic: seconds on the monotonic clock.
        """
        while self._deleted and self._deleted[0][0] <= monotonic - self.window:
            self._deleted.popleft()
        while self._held and self._held[0][0] <= monotonic - _PARTS * self.window:
            self._held.popleft()
        while self._held and self._held[-1][1] <= held:
            self._held.pop()
        self._held.append((monotonic, held))
        allowed = ceil(self._held[0][1] / _PARTS * _SLACK)
        return max(0, allowed - sum(number for _, number in self._deleted))

    def spend(self, number: int, monotonic: float) -> None:
        """Count deleted rows."""
        if number:
            self._deleted.append((monotonic, number))


def last_expired(rows: Iterable[tuple[int, float]], before: float, now: float) -> int | None:
    """Return the sequence up to which the oldest rows have expired; None if the oldest row has not expired.

    A time of receipt that lies ahead of now, before 2025, or more than an hour before that of an earlier row, cannot be
    right: such a row expires with the next one whose time is right.

    Args:
        rows: sequence and time of receipt, in the order of storing.
        before: rows received before this time have expired.
        now: the present time.
    """
    last: int | None = None
    newest = -inf
    for sequence, received_at in rows:
        if not _is_plausible(received_at, newest, now):
            continue
        newest = max(newest, received_at)
        if newest >= before:
            break
        last = sequence
    return last


def _is_plausible(received_at: float, newest: float, now: float) -> bool:
    return EARLIEST <= received_at <= now and received_at >= newest - HOUR
