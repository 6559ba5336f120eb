"""Stores events in the writer's transaction, each with the next sequence, and bounds their number."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from manager.domain.notifications.event import KINDS, Topic
from manager.engine.events import EventRow
from manager.storage.statements import Statements

EVENTS_KEPT = 100_000
"""The number of events that are kept; the oldest goes first."""

UNTOLD_KEPT = 10_000
"""The number of events on an intrusion that are kept beyond, until their channels have taken them."""

_INTRUSIONS = json.dumps(sorted(name for name, kind in KINDS.items() if kind.topic is Topic.GOT_IN))


class StoredEvents:
    """Writes the event table.

    Args:
        statements: those of the writer's database.
        kept: the number of events that are kept.
    """

    def __init__(self, statements: Statements, kept: int = EVENTS_KEPT) -> None:
        self._statements = statements
        self._kept = kept
        self._highest: int | None = None

    def write(self, rows: Sequence[EventRow]) -> None:
        """Write events with the sequences after the highest one, and delete the oldest beyond the limit."""
        if self._highest is None:
            self._highest = int(self._statements.rows("events.highest")[0][0])
        self._statements.execute_many(
            "events.insert",
            [
                (
                    sequence,
                    row.at,
                    row.event.event,
                    row.severity,
                    row.event.organization_id,
                    row.site,
                    row.alerting,
                    row.body.decode(),
                )
                for sequence, row in enumerate(rows, self._highest + 1)
            ],
        )
        self._bound(self._highest + len(rows) - self._kept)

    def recall(self, count: int) -> None:
        """Number the last stored events again: their commit took place, but was not answered."""
        self._highest = int(self._statements.rows("events.highest")[0][0]) - count

    def _bound(self, last: int) -> None:
        """Delete the events up to a sequence, but keep those on an intrusion that a channel has not taken."""
        if last <= 0:
            return
        self._statements.execute("events.keep_untold", {"last": last, "names": _INTRUSIONS})
        self._statements.execute("events.bound", (last,))
        self._statements.execute("events.delete_told")
        self._statements.execute("events.bound_untold", (UNTOLD_KEPT,))

    @contextmanager
    def numbered(self, rows: Sequence[EventRow]) -> Iterator[None]:
        """Give events their sequences after the commit of the transaction in which they are written."""
        try:
            yield
        except BaseException:
            self._highest = None  # it is read again before the next write
            raise
        if self._highest is not None:
            for row in rows:
                self._highest += 1
                row.sequence = self._highest
