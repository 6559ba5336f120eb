"""Keeps the agents of the database in the memory of a manager that stands by, so that it is ready soon once it leads.

Most of what is stored of agents changes with every heartbeat, and is read again at a take-over. Once the lease has not
been renewed for some seconds nobody writes any more, as a rule: so what has changed is read then, before the lease may
be taken, and little is left to read after it.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext

import structlog
from cryptography.exceptions import InvalidTag
from peewee import DatabaseError, InterfaceError

from manager.errors import SetupError
from manager.runtime import gc_tuning
from manager.runtime.lease_keeper import LeaseKeeper
from manager.storage.opening import open_store_reader
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.warm_agents import WarmAgents
from manager.storage.statements import Statements

log = structlog.get_logger(__name__)

_EVERY = 60.0
"""Seconds between two readings while another manager leads: the vitals of all agents change in half of them."""

_SILENT = 3.0
"""Seconds without a renewal of the lease after which changes are read at once; more than between two renewals."""


class WarmStandby:
    """Reads agents at intervals, in the thread that waits for the lease.

    Args:
        place: the database.
        store_key: opens the secrets of agents.
        keeper: reads the lease.
        clock: seconds on a monotonic clock.
    """

    def __init__(
        self,
        place: DatabaseAddress,
        store_key: bytes,
        keeper: LeaseKeeper,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.agents = WarmAgents(store_key)
        self._place = place
        self._keeper = keeper
        self._clock = clock
        self._due = 0.0
        self._has_read_in_silence = False
        self._problem: str | None = None

    def tick(self, goes_on: Callable[[], bool]) -> None:
        """Read what has changed, if it is due.

        Args:
            goes_on: returns whether the manager still runs.
        """
        is_silent = self._keeper.unchanged_for() >= _SILENT
        if not is_silent:
            self._has_read_in_silence = False
        if self._clock() < self._due and (not is_silent or self._has_read_in_silence):
            return
        self._has_read_in_silence = is_silent
        try:
            self._read(goes_on)
        except (DatabaseError, InterfaceError, SetupError) as error:
            self._fail(str(error))
        except InvalidTag:
            self._fail("a secret of an agent does not open with the key file")
        except Exception:
            log.exception("agents_not_kept_warm")
            self.agents.clear()
        else:
            self._problem = None
        self._due = self._clock() + _EVERY

    def _read(self, goes_on: Callable[[], bool]) -> None:
        began = time.thread_time()
        is_first = self.agents.is_empty
        database = open_store_reader(self._place)
        try:
            with gc_tuning.paused() if is_first else nullcontext():
                self.agents.refresh(Statements(database), goes_on)
        finally:
            database.close()
        if is_first:
            log.info("agents_read", agents=len(self.agents), cpu_seconds=round(time.thread_time() - began, 2))

    def _fail(self, reason: str) -> None:
        """Log a failure once; a take-over reads everything then, or says what is wrong."""
        if self._problem is None:
            log.warning("agents_not_kept_warm", reason=reason)
        self._problem = reason
