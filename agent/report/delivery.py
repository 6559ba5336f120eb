"""Sends the outbox: a window of reports in flight, each retransmitted until the manager's receipt."""

import sqlite3
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from agent.link.link import Link
from agent.logs import EventLog
from agent.report.kept_reports import KeptReports, is_full
from agent.report.outbox import Outbox, OutboxEntry, coded
from schemas.report_batches import AT_ONCE, FEATURE, PATIENCE, fitting
from schemas.threats import Receipt
from schemas.topics import THREATS

_log = EventLog("delivery")

WINDOW_BYTES = 2 * 1024 * 1024
"""The largest number of bytes in flight, unless a single report is larger."""

_ROOM_FOR_ID = 64
"""Bytes that a report has more in a message than in the outbox: agentId."""

_LONGEST_PATIENCE = 900.0
_NEVER = float("inf")


@dataclass(slots=True)
class _Flight:
    """A report in flight; `batched_at` is when it was first sent in a batch, infinity if it was not."""

    sent_at: float
    size: int
    batched_at: float = _NEVER


class Delivery:
    """Keeps a window of reports in flight.

    - On each new link all waiting reports are sent again, in order.
    - Where the manager takes batches, reports that wait together are sent in one message. If one of them has no receipt
      after 60 s, each report is sent alone until the manager's keys are heard again.
    - A report without a receipt after `receipt_timeout` is sent again; the timeout doubles each time, up to 15 minutes,
      and is reset by the next receipt, so a broker without its manager is not filled with copies.
    - A deferred report leaves the window and is sent again after the delay that the manager named.

    Args:
        outbox: The queue.
        window: The largest number of reports in flight.
        receipt_timeout: Seconds.
        kept: Keeps the reports with a receipt; None to forget them.
    """

    def __init__(self, outbox: Outbox, window: int, receipt_timeout: float, kept: KeptReports | None = None) -> None:
        self._outbox = outbox
        self._kept = kept
        self._window = window
        self._receipt_timeout = receipt_timeout
        self._patience = receipt_timeout
        self._link: Link | None = None
        self._agent_id = ""
        self._mac_key = b""
        self._sends_batches = False
        self._flights: OrderedDict[str, _Flight] = OrderedDict()
        self._flying = 0
        self._deferred: dict[str, float] = {}
        self._cursor = 0

    @property
    def due(self) -> float:
        """The next deadline, on the monotonic clock; after `tick` it is in the future.

        Deferred reports wait for room without a deadline: a receipt or a retransmission makes it.
        """
        if self._link is None:
            return _NEVER
        oldest = next(iter(self._flights.values()), None)
        again = _NEVER if oldest is None else oldest.sent_at + self._patience
        resumed = min(self._deferred.values(), default=_NEVER) if self._room() else _NEVER
        return min(again, self._batches_due, resumed)

    @property
    def is_idle(self) -> bool:
        """Whether every waiting report is in flight, and the manager defers none."""
        return not self._deferred and len(self._flights) >= len(self._outbox)

    @property
    def _batches_due(self) -> float:
        if not self._sends_batches:
            return _NEVER
        return min((flight.batched_at for flight in self._flights.values()), default=_NEVER) + PATIENCE

    def accept(self, features: Collection[str]) -> None:
        """Take over the features that the manager's keys list."""
        self._sends_batches = FEATURE in features

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
        if self._batches_due <= now:
            self._sends_batches = False
            batched = [report for report, flight in self._flights.items() if flight.batched_at < _NEVER]
            overdue = list(dict.fromkeys([*batched, *overdue]))
            _log.warning("batches_unanswered", count=len(batched), waited=PATIENCE)
        elif overdue:
            _log.info("reports_sent_again", count=len(overdue), waited=self._patience)
            self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
        self._again(overdue, now)
        back = [report for report, until in self._deferred.items() if until <= now]
        for start in range(0, len(back), AT_ONCE):
            self._resume(back[start : start + AT_ONCE], now)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send new reports while the window has room."""
        while self._link is not None and self._room():
            entries = list(self._outbox.after(self._cursor, self._places))
            for group in self._groups(entries):
                fresh = [entry for entry in group if entry.id not in self._deferred]
                if not self._room() or (fresh and not self._send(fresh, now)):
                    return
                self._cursor = group[-1].sequence
            if not entries:
                return

    def receipt(self, receipt: Receipt, now: float, at: float) -> None:
        """Apply a receipt: settle, defer or retransmit its reports.

        Args:
            receipt: The receipt.
            now: Current time on the monotonic clock.
            at: Current time in epoch seconds.
        """
        if self._kept is not None and self._kept.is_superseded(receipt.generation):
            receipt = receipt.model_copy(update={"stored": []})  # the store may have lost them: they are sent again
        refused = [(refusal.id, refusal.reason) for refusal in receipt.refused]
        stored, buried = self._settle(receipt, refused, at)
        for report_id in (*receipt.stored, *(report for report, _ in refused)):
            self._landed(report_id)
            self._deferred.pop(report_id, None)
        for deferral in receipt.deferred:
            for report_id in deferral.ids:
                if self._landed(report_id) is not None:
                    self._deferred[report_id] = now + deferral.retry_after
        if buried:
            _log.warning("reports_refused", count=buried, reasons=sorted({reason for _, reason in refused})[:3])
        if stored or buried:
            self._patience = self._receipt_timeout
        self.pump(now)

    def _settle(self, receipt: Receipt, refused: list[tuple[str, str]], at: float) -> tuple[int, int]:
        """Apply a receipt to the outbox, and keep its stored reports; on a full disk keep none."""
        kept = self._kept
        if kept is None:
            return self._outbox.settle(receipt.stored, refused, at)
        try:
            return self._outbox.settle(
                receipt.stored, refused, at, lambda connection, reports: kept.keep(connection, reports, receipt)
            )
        except sqlite3.Error as error:
            kept.recount()
            if not is_full(error):
                raise
            kept.make_room(error)
            return self._outbox.settle(receipt.stored, refused, at)

    def _room(self) -> bool:
        return len(self._flights) < self._window and (self._flying < WINDOW_BYTES or not self._flights)

    @property
    def _places(self) -> int:
        return min(self._window - len(self._flights), AT_ONCE)

    def _groups(self, entries: Sequence[OutboxEntry]) -> Iterator[Sequence[OutboxEntry]]:
        """Yield the reports of each message."""
        while entries:
            count = fitting([len(entry.body) + _ROOM_FOR_ID for entry in entries]) if self._sends_batches else 1
            yield entries[:count]
            entries = entries[count:]

    def _again(self, report_ids: Iterable[str], now: float) -> None:
        """Send reports again that have left the window, or are overdue in it."""
        batched = {
            report_id: flight.batched_at for report_id in report_ids for flight in [self._landed(report_id)] if flight
        }
        found = [entry for entry in map(self._outbox.get, report_ids) if entry is not None]
        for group in self._groups(found):
            self._send(group, now, batched)

    def _resume(self, report_ids: Iterable[str], now: float) -> None:
        """Send deferred reports whose delay is over, as far as the window has room; forget those that were dropped."""
        found: list[OutboxEntry] = []
        for report_id in report_ids:
            entry = self._outbox.get(report_id)
            if entry is None:  # a full outbox dropped it
                del self._deferred[report_id]
            else:
                found.append(entry)
        for group in self._groups(found):
            if not self._room():
                return
            for entry in group:
                del self._deferred[entry.id]
            self._send(group, now)

    def _send(self, entries: Sequence[OutboxEntry], now: float, batched: dict[str, float] | None = None) -> bool:
        """Send reports in one message; return whether the link took it."""
        payload = coded([entry.body for entry in entries], self._agent_id, self._mac_key)
        if self._link is None or self._link.publish(THREATS, payload) is None:
            return False
        for entry in entries:
            size, batched_at = len(payload), _NEVER
            if len(entries) > 1:
                size, batched_at = len(entry.body), min(now, (batched or {}).get(entry.id, now))
            self._flights[entry.id] = _Flight(now, size, batched_at)
            self._flying += size
        return True

    def _landed(self, report_id: str) -> _Flight | None:
        """Remove a report from the window; return its flight if the window contained it."""
        flight = self._flights.pop(report_id, None)
        if flight is not None:
            self._flying -= flight.size
        return flight
