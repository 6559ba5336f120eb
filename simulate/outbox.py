"""One agent's outbox in memory: stores reports until the manager's receipt, and repeats them without one.

Pure: times are arguments, seconds on a monotonic clock.
"""

from collections import OrderedDict
from collections.abc import Iterable

WINDOW = 200
"""The maximum number of reports in flight (sent without a receipt)."""

_LONGEST_PATIENCE = 900.0


class Outbox:
    """Reports in the order of their creation.

    - When a session begins, all waiting reports are sent again, in order.
    - A report without a receipt after `receipt_timeout` is sent again; the timeout doubles up to 15 minutes, and is
      reset by the next receipt.
    - A report that the manager defers is sent again after the delay that it names.

    Args:
        receipt_timeout: Seconds.
    """

    __slots__ = ("_deferred", "_flights", "_patience", "_receipt_timeout", "_unsent", "_waiting")

    def __init__(self, receipt_timeout: float) -> None:
        self._receipt_timeout = receipt_timeout
        self._patience = receipt_timeout
        self._waiting: OrderedDict[str, bytes] = OrderedDict()
        self._unsent: OrderedDict[str, None] = OrderedDict()
        self._flights: OrderedDict[str, float] = OrderedDict()  # the time of sending by report
        self._deferred: dict[str, float] = {}  # the end of the delay by report

    def __len__(self) -> int:
        """Return the number of reports without a receipt."""
        return len(self._waiting)

    def add(self, report_id: str, body: bytes) -> None:
        """Add a new report."""
        self._waiting[report_id] = body
        self._unsent[report_id] = None

    def begin(self) -> None:
        """Begin a session: all waiting reports must be sent."""
        self._unsent = OrderedDict.fromkeys(self._waiting)
        self._flights.clear()
        self._deferred.clear()
        self._patience = self._receipt_timeout

    def repeat(self, report_id: str) -> None:
        """Schedule a repeated send of a report in flight."""
        if self._flights.pop(report_id, None) is not None:
            self._unsent[report_id] = None

    def take(self, now: float, most: int = WINDOW) -> list[tuple[str, bytes]]:
        """Return the reports to send now, within the window."""
        for report_id in [name for name, until in self._deferred.items() if until <= now]:
            del self._deferred[report_id]
            self._unsent[report_id] = None
        overdue = []
        for report_id, sent_at in self._flights.items():
            if sent_at + self._patience > now:
                break
            overdue.append(report_id)
        if overdue:
            self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
        for report_id in reversed(overdue):
            del self._flights[report_id]
            self._unsent[report_id] = None
            self._unsent.move_to_end(report_id, last=False)
        taken = []
        while self._unsent and len(self._flights) < most:
            report_id, _ = self._unsent.popitem(last=False)
            self._flights[report_id] = now
            taken.append((report_id, self._waiting[report_id]))
        return taken

    def settle(self, report_ids: Iterable[str]) -> list[tuple[str, bytes]]:
        """Remove reports with a receipt; return those that waited, with their bodies."""
        settled = []
        for report_id in report_ids:
            body = self._waiting.pop(report_id, None)
            if body is not None:
                settled.append((report_id, body))
                self._patience = self._receipt_timeout
                self._unsent.pop(report_id, None)
                self._flights.pop(report_id, None)
                self._deferred.pop(report_id, None)
        return settled

    def defer(self, report_ids: Iterable[str], until: float) -> None:
        """Hold back reports in flight that the manager has deferred; ignore others."""
        for report_id in report_ids:
            if self._flights.pop(report_id, None) is not None:
                self._deferred[report_id] = until
