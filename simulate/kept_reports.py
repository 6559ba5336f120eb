"""One agent's reports with a receipt, in memory, and those that the manager asks for again.

Pure: times are arguments; `now` is seconds on a monotonic clock.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from schemas.generations import StoreGeneration
from schemas.report_batches import AT_ONCE
from schemas.threats import Receipt

_INTERVAL = 1.0
_PATIENCE = 10.0
_SPREAD = random.Random()  # noqa: S311 -- no secret


class _Kept(NamedTuple):
    body: bytes
    receipted_at: float | None
    generation: int


class KeptReports:
    """The newest reports with a receipt. As guards do, an agent answers each generation of the store once.

    Args:
        most: The largest number of reports.
    """

    __slots__ = ("_again", "_due", "_generation", "_kept", "_most", "mark")

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._again: OrderedDict[str, None] = OrderedDict()
        self._generation = 0
        self._due = 0.0
        self.mark: str | None = None
        """The mark of the latest receipt that had one."""

    @property
    def again(self) -> int:
        """The number of reports to send again."""
        return len(self._again)

    def is_superseded(self, receipt: Receipt) -> bool:
        """Return whether a receipt names a generation before the newest one."""
        return receipt.generation is not None and receipt.generation < self._generation

    def keep(self, reports: Iterable[tuple[str, bytes]], receipt: Receipt) -> None:
        """Keep reports with a receipt; drop the oldest beyond the limit."""
        self.mark = receipt.mark or self.mark
        sent_at = None if receipt.sent_at is None else receipt.sent_at.timestamp()
        for report_id, body in reports:
            self._kept[report_id] = _Kept(body, sent_at, receipt.generation or 0)
        while len(self._kept) > self._most:
            dropped, _ = self._kept.popitem(last=False)
            self._again.pop(dropped, None)

    def hear(self, generation: StoreGeneration, now: float) -> None:
        """Follow a generation of the store: send what it asks for, from a random time within its spread on."""
        if generation.number <= self._generation:
            return
        self._generation = generation.number
        if generation.resend_from is None:
            return
        since = generation.resend_from.timestamp()
        for report_id, kept in self._kept.items():
            if kept.generation < generation.number and (kept.receipted_at is None or kept.receipted_at >= since):
                self._again[report_id] = None
        self._due = now + _SPREAD.uniform(0, generation.resend_within)

    def take(self, now: float) -> list[tuple[str, bytes]]:
        """Return the reports to send again now, the oldest first: 50 at most, the next a second after their receipt."""
        if not self._again or now < self._due:
            return []
        self._due = now + _PATIENCE
        return [(report_id, self._kept[report_id].body) for report_id, _ in zip(self._again, range(AT_ONCE))]  # noqa: B905 -- the shorter one ends it

    def settle(self, receipt: Receipt, now: float) -> None:
        """Apply a receipt to reports that were sent again."""
        settled = [report_id for report_id in receipt.stored if report_id in self._again]
        self.keep([(report_id, self._kept[report_id].body) for report_id in settled], receipt)
        for report_id in (*settled, *(refusal.id for refusal in receipt.refused)):
            self._again.pop(report_id, None)
        if settled:
            self._due = min(self._due, now + _INTERVAL)

    def begin(self, now: float) -> None:
        """Begin a session: what was sent in the former one without a receipt is sent again."""
        self._due = min(self._due, now + _INTERVAL) if self._again else self._due
