"""Sends kept reports again that the manager's store lost: after those of the outbox, 50 in a second at most."""

import random
from collections.abc import Callable

from agent.link.link import Link
from agent.logs import EventLog
from agent.report.kept_reports import KeptReports
from agent.report.outbox import coded
from schemas.generations import StoreGeneration
from schemas.report_batches import AT_ONCE, fitting
from schemas.threats import Receipt
from schemas.topics import THREATS

_log = EventLog("resending")

INTERVAL = 1.0
"""Seconds between two sends of kept reports; each has at most 50 reports and 256 KiB."""

_BUSY_FOR = 0.5
"""Seconds to the next look while reports of the outbox wait to be sent."""

_ROOM_FOR_ID = 64
_LONGEST_PATIENCE = 900.0
_NEVER = float("inf")


class Resending:
    """Sends the kept reports that a generation asks for.

    - A guard begins at a random time within the spread that the manager named, and after a restart again.
    - Reports of the outbox go first: kept reports are sent only while all of those are in flight and none is deferred.
    - At most 50 reports are in flight, in one message that says that they are sent again (a manager that asks takes
      such messages), and the next follow a second later at the earliest. After `receipt_timeout`, which doubles each
      time up to 15 minutes, they are sent again, each in a message of its own, until one has a receipt.

    Args:
        kept: The kept reports.
        outbox_is_idle: Returns whether no report of the outbox waits to be sent.
        receipt_timeout: Seconds.
        spread: Returns a random time within a number of seconds.
    """

    def __init__(
        self,
        kept: KeptReports,
        outbox_is_idle: Callable[[], bool],
        receipt_timeout: float,
        spread: Callable[[float], float] = lambda seconds: random.uniform(0, seconds),  # noqa: S311 -- no secret
    ) -> None:
        self._kept = kept
        self._outbox_is_idle = outbox_is_idle
        self._receipt_timeout = receipt_timeout
        self._patience = receipt_timeout
        self._spread = spread
        self._link: Link | None = None
        self._agent_id = ""
        self._mac_key = b""
        self._sends_each_alone = False
        self._flight: set[str] = set()
        self._overdue = _NEVER
        self._not_before: float | None = None

    @property
    def due(self) -> float:
        """The next deadline, on the monotonic clock."""
        if self._link is None or not self._kept.again or self._not_before is None:
            return _NEVER
        return self._overdue if self._flight else self._not_before

    def opened(self, link: Link, agent_id: str, mac_key: bytes, now: float) -> None:
        """Go on with a new link."""
        self._link, self._agent_id, self._mac_key = link, agent_id, mac_key
        self._flight.clear()
        self._patience = self._receipt_timeout
        if self._not_before is None:
            self._not_before = now + self._spread(self._kept.spread)

    def closed(self) -> None:
        """Handle the loss of the link."""
        self._link = None

    def hear(self, generation: StoreGeneration, now: float) -> None:
        """Follow the generation of the manager's store."""
        asked = self._kept.hear(generation)
        if asked is None:
            return
        self._flight.clear()
        delay = self._spread(generation.resend_within)
        self._not_before = now + delay
        if generation.resend_from is not None:
            _log.warning("reports_asked_again", generation=generation.number, count=asked, begins_in=round(delay, 1))

    def tick(self, now: float) -> None:
        """Send the next message that is due."""
        if now < self.due or self._link is None:
            return
        if self._flight:
            self._flight.clear()
            self._sends_each_alone = True
            self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
        if not self._outbox_is_idle():
            self._not_before = now + _BUSY_FOR
            return
        self._send(self._link, now)

    def _send(self, link: Link, now: float) -> None:
        entries = self._kept.first_again(AT_ONCE)
        entries = entries[: fitting([len(entry.body) + _ROOM_FOR_ID for entry in entries])]
        self._not_before = now + INTERVAL
        self._overdue = now + self._patience
        for message in [[entry] for entry in entries] if self._sends_each_alone else [entries]:
            payload = coded([entry.body for entry in message], self._agent_id, self._mac_key, resent=True)
            if link.publish(THREATS, payload) is None:
                return
            self._flight |= {entry.id for entry in message}

    def receipt(self, receipt: Receipt, now: float, at: float) -> None:
        """Apply a receipt to the reports in flight.

        Args:
            receipt: The receipt.
            now: Current time on the monotonic clock.
            at: Current time in epoch seconds.
        """
        if self._kept.settle(receipt, at):
            self._patience, self._sends_each_alone = self._receipt_timeout, False
            self._flight.difference_update(receipt.stored)
            self._flight.difference_update(refusal.id for refusal in receipt.refused)
            if not self._kept.again:
                _log.info("reports_sent_again_stored")
        for deferral in receipt.deferred:
            if not self._flight.isdisjoint(deferral.ids):
                self._flight.clear()
                self._not_before = now + max(deferral.retry_after, INTERVAL)
