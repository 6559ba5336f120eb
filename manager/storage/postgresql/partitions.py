"""Partitions of the threats by time of receipt: made ahead of the threats, dropped as a whole when all are expired."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import structlog
from peewee import Database, DatabaseError

from manager.storage.postgresql.migrate import LOCKS
from manager.storage.statements import Statements

log = structlog.get_logger(__name__)

_HOUR: Final = 3600
_LENGTHS: Final = tuple(hours * _HOUR for hours in (24, 12, 6, 3, 2, 1))
_PARTS: Final = 24
_NAME = re.compile("threat_([0-9]+)_([0-9]+)")
_LATEST: Final = 2**40
_PARTITION_LOCK: Final = 4
_PATIENCE = "300ms"
"""The longest time for which a new or a dropped partition waits for its locks; meanwhile nobody reads threats."""

_PAUSE: Final = 10.0
"""Seconds after a failure for which no partition is made: each attempt keeps all others from the threats."""


class Partition(NamedTuple):
    """A partition of the threats received from a time to another one, in seconds since 1970.

    Attributes:
        start: The earliest time.
        end: The time before which all of them were received.
    """

    start: int
    end: int

    @property
    def table(self) -> str:
        """The name of its table."""
        return f"threat_{self.start}_{self.end}"


def partition_length(retention: float) -> int:
    """Return the length of partitions in seconds: a 24th of the retention, but an hour to a day; 0 for no retention."""
    if not retention:
        return 0
    return next((length for length in _LENGTHS if length <= retention / _PARTS), _HOUR)


class ThreatPartitions:
    """Makes and drops partitions on the writer's connection.

    Threats of a time that has no partition are in the default partition; those are deleted row by row.

    Args:
        database: the writer's database.
        statements: its statements.
        length: the length of new partitions in seconds; 0 makes none.
    """

    def __init__(self, database: Database, statements: Statements, length: int) -> None:
        self._database = database
        self._statements = statements
        self.length = length
        self._covered = (0, 0)
        self._failed_at = -_PAUSE

    def cover(self, received_at: float) -> None:
        """Make the partition of a time of receipt, and in its second half the next one, in the caller's transaction.

        Nothing is made now if another writer makes one, or if the locks are not to be had soon. Threats in the default
        partition leave no room for the partition of their time; the next one is made all the same.
        """
        if not self.length or not 0 <= received_at < _LATEST:
            return
        ahead = received_at + self.length / 2
        if self._covered[0] <= received_at and ahead < self._covered[1]:
            return
        if self._failed_at <= received_at < self._failed_at + _PAUSE:
            return
        last, first = (self._made_for(time, received_at) for time in (ahead, received_at))
        if first is not None and last is not None:
            self._covered = first.start, last.end

    def forget(self) -> None:
        """Look again for the partitions of the next threats: the transaction that made some may be rolled back."""
        self._covered = (0, 0)

    def _made_for(self, time: float, now: float) -> Partition | None:
        """Return the partition of a time, which is made if there is none; None if it cannot be made now."""
        try:
            with self._database.atomic(), self._short_waits():
                ((is_alone,),) = self._statements.rows("partitions.lock", (LOCKS, _PARTITION_LOCK))
                if not is_alone:
                    return None
                known = self.made()
                found = next((each for each in known if each.start <= time < each.end), None)
                if found is None:
                    found = self._partition_of(time, known)
                    bounds = f"FOR VALUES FROM ({found.start}) TO ({found.end})"
                    self._database.execute_sql(f"CREATE TABLE {found.table} PARTITION OF threat {bounds}")
                return found
        except DatabaseError as error:
            log.warning("partition_not_made", received_at=time, reason=str(error).strip())
            self._failed_at = now
            return None

    def _partition_of(self, time: float, known: list[Partition]) -> Partition:
        """Return the partition to make for a time: shorter beside partitions of another length."""
        start = int(time // self.length) * self.length
        end = start + self.length
        start = max([start, *(each.end for each in known if each.end <= time)])
        return Partition(start, min([end, *(each.start for each in known if each.start > time)]))

    def made(self) -> list[Partition]:
        """Return the partitions in the order of time, without the default partition."""
        found = (_NAME.fullmatch(name) for (name,) in self._statements.rows("partitions.list"))
        return sorted(Partition(int(name[1]), int(name[2])) for name in found if name is not None)

    def drop_expired(self, before: float, most: int, before_drop: Callable[[int], None]) -> int:
        """Drop the partitions of which all threats were received before a time; return the number of these threats.

        Each partition is dropped in a transaction. The first one that is too large, or is being read, stays with all
        later ones.

        Args:
            before: the time, in seconds since 1970.
            most: the maximum number of threats.
            before_drop: called, in the transaction, with the highest sequence in a partition with threats.
        """
        dropped = 0
        for partition in self.made():
            if partition.end > before:
                break
            try:
                with self._database.atomic():
                    count = self._drop(partition, most - dropped, before_drop)
            except DatabaseError as error:
                log.warning("partition_not_dropped", partition=partition.table, reason=str(error).strip())
                break
            if count is None:
                break
            dropped += count
            log.info("partition_dropped", partition=partition.table, threats=count)
        return dropped

    def _drop(self, partition: Partition, most: int, before_drop: Callable[[int], None]) -> int | None:
        """Drop a partition and return the number of its threats; None if they are too many, or one is not old.

        A threat that was stored after one that was received more than an hour later has a wrong time of receipt; one
        above the low-water mark has just been stored.
        """
        with self._short_waits():  # until the end of the transaction nothing is stored in it
            self._database.execute_sql(f"LOCK TABLE {partition.table} IN SHARE MODE")
        count, highest = self._database.execute_sql(
            f"SELECT count(*), max(sequence) FROM {partition.table}"  # noqa: S608 -- its name has only numbers
        ).fetchone()
        if count > most:
            return None
        if count:
            ((limit,),) = self._statements.rows("partitions.first_later", (partition.end + _HOUR,))
            if highest >= limit:
                return None
            before_drop(highest)
        with self._short_waits():
            self._database.execute_sql(f"DROP TABLE {partition.table}")
        return int(count)

    @contextmanager
    def _short_waits(self) -> Iterator[None]:
        """Wait for locks for a short time only; an error ends the transaction, and with it this setting."""
        ((usual,),) = self._database.execute_sql("SHOW lock_timeout").fetchall()
        self._database.execute_sql(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
        yield
        self._database.execute_sql(f"SET LOCAL lock_timeout = '{usual}'")
