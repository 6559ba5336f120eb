"""Sends the outbox: a window of reports in flight, each retransmitted until the manager's receipt."""

from collections import OrderedDict
from dataclasses import dataclass

from agent.link.link import Link
from agent.logs import EventLog
from agent.report.outbox import Outbox, OutboxEntry, coded
from schemas.threats import Receipt
from schemas.topics import THREATS

_log = EventLog("delivery")

WINDOW_BYTES = 2 * 1024 * 1024
"""The largest number of bytes in flight, unless a single report is larger."""

_LONGEST_PATIENCE = 900.0
_NEVER = float("inf")


@dataclass(slots=True)
class _Flight:
    sent_at: float
    size: int


class Delivery:
    """Keeps a window of reports in flight.

    - On each new link all waiting reports are sent again, in order.
    - A report without a receipt after `receipt_timeout` is sent again; the timeout doubles each time, up to 15 minutes,
      and is reset by the next receipt, so a broker without its manager is not filled with copies.
    - A deferred report leaves the window and is sent again after the delay that the manager named.

    Args:
        outbox: The queue.
        window: The largest number of reports in flight.
        receipt_timeout: Seconds.
    """

    def __init__(self, outbox: Outbox, window: int, receipt_timeout: float) -> None:
        self._outbox = outbox
        self._window = window
        self._receipt_timeout = receipt_timeout
        self._patience = receipt_timeout
        self._link: Link | None = None
        self._agent_id = ""
        self._mac_key = b""
        self._flights: OrderedDict[str, _Flight] = OrderedDict()
        self._flying = 0
        self._deferred: dict[str, float] = {}
        self._cursor = 0

    @property
    def due(self) -> float:
        """The next deadline, on the monotonic clock."""
        if self._link is None:
            return _NEVER
        oldest = next(iter(self._flights.values()), None)
        again = _NEVER if oldest is None else oldest.sent_at + self._patience
        return min(again, min(self._deferred.values(), default=_NEVER))

    def opened(self, link: Link, agent_id: str, mac_key: bytes, now: float) -> None:
        """Start from the beginning of the outbox on a new link."""
        self._link, self._agent_id, self._mac_key = link, agent_id, mac_key
        self._flights.clear()
        self._flying = 0
        self._cursor = 0
        self._patience = self._receipt_timeout
        self.pump(now)

    def closed(self) -> None:
        """Handle the loss of the link: nothing is sent until the next link."""
        self._link = None

    def tick(self, now: float) -> None:
        """Retransmit due reports, and send new ones."""
        if self._link is None:
            return
        overdue = [report for report, flight in self._flights.items() if flight.sent_at + self._patience <= now]
        if overdue:
            _log.info("reports_sent_again", count=len(overdue), waited=self._patience)
            self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
        for report_id in overdue:
            self._again(report_id, now)
        for report_id in [report for report, until in self._deferred.items() if until <= now]:
            if not self._room():
                break
            del self._deferred[report_id]
            self._again(report_id, now)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send new reports while the window has room."""
        while self._link is not None and self._room():
            count = self._window - len(self._flights)
            entries = list(self._outbox.after(self._cursor, min(count, 50)))
            for entry in entries:
                if not self._room() or (entry.id not in self._deferred and not self._send(entry, now)):
                    return
                self._cursor = entry.sequence
            if not entries:
                return

    def receipt(self, receipt: Receipt, now: float, at: float) -> None:
        """Apply a receipt: settle, defer or retransmit its reports.

        Args:
            receipt: The receipt.
            now: Current time on the monotonic clock.
            at: Current time in epoch seconds.
        """
        refused = [(refusal.id, refusal.reason) for refusal in receipt.refused]
        stored, buried = self._outbox.settle(receipt.stored, refused, at)
        for report_id in (*receipt.stored, *(report for report, _ in refused)):
            self._landed(report_id)
            self._deferred.pop(report_id, None)
        for deferral in receipt.deferred:
            for report_id in deferral.ids:
                if self._landed(report_id):
                    self._deferred[report_id] = now + deferral.retry_after
        if buried:
            _log.warning("reports_refused", count=buried, reasons=sorted({reason for _, reason in refused})[:3])
        if stored or buried:
            self._patience = self._receipt_timeout
        self.pump(now)

    def _room(self) -> bool:
        return len(self._flights) < self._window and (self._flying < WINDOW_BYTES or not self._flights)

    def _again(self, report_id: str, now: float) -> None:
        self._landed(report_id)
        entry = self._outbox.get(report_id)
        if entry is not None:
            self._send(entry, now)

    def _send(self, entry: OutboxEntry, now: float) -> bool:
        payload = coded(entry.body, self._agent_id, self._mac_key)
        if self._link is None or self._link.publish(THREATS, payload) is None:
            return False
        self._flights[entry.id] = _Flight(now, len(payload))
        self._flying += len(payload)
        return True

    def _landed(self, report_id: str) -> bool:
        """Remove a report from the window; return whether the window contained it."""
        flight = self._flights.pop(report_id, None)
        if flight is not None:
            self._flying -= flight.size
        return flight is not None
