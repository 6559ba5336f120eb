"""Sizes the writer's cache of pages: large while reports are stored at some rate, else small.

A report writes to pages all over the indexes, which later ones need again: read anew for each batch, they cost as
much as the rest of a small one; and a large batch with more pages than the cache has writes them twice. All else
needs few pages at a time: a start reads the fleet once, and heartbeats are written in the order of their rows. A
large cache would fill with such pages, and keep them.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from peewee import Database, DatabaseError, InterfaceError

LARGE = 64 * 2**20
SMALL = 8 * 2**20
"""Bytes."""

MANY = 600
"""Reports within `PERIOD` from which on the cache is large."""

PERIOD = 60.0
"""Seconds."""


class PageCache:
    """The cache of pages of the writer's connection to SQLite; small at first.

    Args:
        database: the writer's database.
        monotonic: returns seconds on the monotonic clock.
    """

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._reports = 0
        """Reports within the present period."""
        self._ends_at = monotonic() + PERIOD
        self._is_large = False
        self._set(SMALL)

    def before_reports(self, count: int) -> None:
        """Make room for the pages of so many reports, in their transaction."""
        self._reports += count
        if self._reports >= MANY and not self._is_large:
            self._set(LARGE)
            self._is_large = True

    def after_commit(self) -> None:
        """Give the room back at the end of a period with fewer reports.

        Committed transactions are durable before, so an error only delays it.
        """
        now = self._monotonic()
        if now < self._ends_at:
            return
        if self._is_large and self._reports < MANY:
            with suppress(DatabaseError, InterfaceError):
                self._set(SMALL)
                self._is_large = False
        self._reports, self._ends_at = 0, now + PERIOD

    def _set(self, size: int) -> None:
        self._database.execute_sql(f"PRAGMA cache_size = {-size // 1024}")
