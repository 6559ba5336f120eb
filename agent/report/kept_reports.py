"""Reports that the manager has given a receipt for, kept for 24 hours in case that its store loses them.

A store that is restored from an older copy, or a database whose fail-over lost commits, no longer has reports that
guards have receipts for. The manager then begins a new generation of its store, and asks for those reports
(`schemas.generations`).
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from agent.logs import EventLog
from agent.report.outbox import OutboxEntry, bury
from agent.storage.database import Database
from agent.storage.disk_reserve import DiskReserve
from schemas.generations import StoreGeneration
from schemas.succession import TrustedKeys
from schemas.threats import Receipt

_log = EventLog("kept_reports")

KEPT_FOR = 86_400.0
"""Seconds that a report is kept after its first receipt, by the manager's clock."""

_EXPIRY_INTERVAL = 600.0
_STATED = 3
"""The number of heartbeats of a session that state the latest mark from before it."""


class KeptReports:
    """Reports with a receipt, the newest within a limit, and those of them that must be sent again.

    Args:
        database: The guard's database.
        max_reports: The largest number of reports; the oldest are dropped first. 0 keeps none.
        max_bytes: The largest number of bytes.
        address: The manager's address.
        time: Returns the manager's time in epoch seconds; before its first message, the host's.
        reserve: Disk space for the moment when the disk is full; None for none.
    """

    def __init__(
        self,
        database: Database,
        max_reports: int,
        max_bytes: int,
        *,
        address: str,
        time: Callable[[], float],
        reserve: DiskReserve | None = None,
    ) -> None:
        self._database = database
        self._max_reports = max_reports
        self._max_bytes = max_bytes
        self._address = address
        self._time = time
        self._reserve = reserve
        self._expiry_due: float | None = None
        self.recount()
        self._to_state = _STATED if self._former_mark is not None else 0

    def recount(self) -> None:
        """Read the state from the database, at the start and after a failed transaction."""
        connection = self._database.connection
        row = connection.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM kept_reports").fetchone()
        self._size, self._bytes = int(row[0]), int(row[1])
        row = connection.execute("SELECT COUNT(*) FROM kept_reports WHERE again").fetchone()
        self._again = int(row[0])
        row = connection.execute("SELECT owner, generation, spread, mark, former_mark FROM store_generation").fetchone()
        state: tuple[str, int, float, str | None, str | None] = row or ("", 0, 0.0, None, None)
        self._owner, self._generation, self._spread, self._mark, self._former_mark = state

    def __len__(self) -> int:
        """Return the number of kept reports."""
        return self._size

    @property
    def again(self) -> int:
        """The number of kept reports that must be sent again."""
        return self._again

    @property
    def spread(self) -> float:
        """Seconds over which the fleet's answers to the newest generation are spread."""
        return self._spread

    def begin_session(self) -> None:
        """Have the next heartbeats state the latest mark of the time before, whatever receipts come meanwhile.

        A receipt of a store that was restored would hide the mark that shows the loss; and a heartbeat may be lost. One
        that an earlier session has not stated often enough is stated first.
        """
        if not self._to_state and self._mark is not None:
            try:
                with self._database.transaction() as connection:
                    connection.execute("UPDATE store_generation SET former_mark = mark")
            except sqlite3.Error as error:
                _log.warning("receipt_mark_not_kept", reason=str(error))
            self._former_mark = self._mark
        self._to_state = _STATED if self._former_mark is not None else 0

    def mark_to_state(self) -> str | None:
        """Return the mark for the next heartbeat."""
        if not self._to_state:
            return self._mark
        self._to_state -= 1
        return self._former_mark

    def is_superseded(self, generation: int | None) -> bool:
        """Return whether a receipt names a generation before the newest one: its reports may be lost."""
        return generation is not None and generation < self._generation

    def pin(self, trusted: TrustedKeys | None) -> None:
        """Set the manager whose generations count; forget those of another one, and its reports.

        Args:
            trusted: The manager's signing keys; None over HTTP, where its address stands for it.
        """
        owner = self._address if trusted is None else trusted.root
        if owner == self._owner:
            return
        with self._transaction() as connection:
            if trusted is not None and trusted.knows(self._owner):
                connection.execute("UPDATE store_generation SET owner = ?", (owner,))
            else:
                connection.execute("DELETE FROM kept_reports")
                connection.execute("INSERT OR REPLACE INTO store_generation (only, owner) VALUES (1, ?)", (owner,))
        self.recount()

    def hear(self, generation: StoreGeneration) -> int | None:
        """Record a generation, and mark the reports that it asks for.

        The generation and the marks are one transaction, so it is answered once, also across restarts.

        Returns:
            The number of reports to send again; None if it is not newer than those that were heard.
        """
        if generation.number <= self._generation:
            return None
        with self._transaction() as connection:
            connection.execute(
                "UPDATE store_generation SET generation = ?, spread = ?", (generation.number, generation.resend_within)
            )
            if generation.resend_from is not None:
                connection.execute(
                    "UPDATE kept_reports SET again = 1 WHERE (generation IS NULL OR generation < ?)"
                    " AND (receipted_at IS NULL OR receipted_at >= ?) AND kept_at >= ?",
                    (generation.number, generation.resend_from.timestamp(), self._time() - KEPT_FOR),
                )
        self.recount()
        return self._again

    def keep(self, connection: sqlite3.Connection, reports: Sequence[tuple[str, bytes]], receipt: Receipt) -> None:
        """Keep reports with a receipt within the caller's transaction; drop the oldest beyond the limits.

        After a failed transaction `recount` must be called.

        Args:
            connection: The transaction.
            reports: Ids and bodies.
            receipt: Their receipt.
        """
        self._note_mark(connection, receipt.mark)
        now, sent_at = self._time(), _sent_at(receipt)
        for report_id, body in reports[-self._max_reports :] if self._max_reports else ():
            connection.execute(
                "INSERT OR REPLACE INTO kept_reports (id, body, kept_at, receipted_at, generation)"
                " VALUES (?, ?, ?, ?, ?)",
                (report_id, body, now, sent_at, receipt.generation),
            )
            self._size += 1
            self._bytes += len(body)
        while self._size > self._max_reports or self._bytes > self._max_bytes:
            if not self._drop_oldest(connection):
                break

    def _note_mark(self, connection: sqlite3.Connection, mark: str | None) -> None:
        if mark is not None and mark != self._mark:
            connection.execute("UPDATE store_generation SET mark = ?", (mark,))
            self._mark = mark

    def _drop_oldest(self, connection: sqlite3.Connection) -> bool:
        found = connection.execute(
            "DELETE FROM kept_reports WHERE sequence = (SELECT MIN(sequence) FROM kept_reports)"
            " RETURNING LENGTH(body), again"
        ).fetchone()
        if found is None:
            return False
        self._size -= 1
        self._bytes -= int(found[0])
        self._again -= int(found[1])
        return True

    def first_again(self, count: int) -> list[OutboxEntry]:
        """Return at most `count` of the reports to send again, the oldest first."""
        found = self._database.connection.execute(
            "SELECT sequence, id, CAST(body AS BLOB) FROM kept_reports WHERE again ORDER BY sequence LIMIT ?", (count,)
        )
        return [OutboxEntry(*row) for row in found]

    def settle(self, receipt: Receipt, at: float) -> int:
        """Apply a receipt to reports that were sent again: keep the stored ones, make the refused dead letters.

        A receipt of a superseded generation changes nothing.

        Args:
            receipt: The receipt.
            at: Now in epoch seconds.

        Returns:
            The number of reports that need not be sent again any more.
        """
        if not self._again or self.is_superseded(receipt.generation):
            return 0
        settled = 0
        with self._transaction() as connection:
            self._note_mark(connection, receipt.mark)
            for report_id in receipt.stored:
                settled += connection.execute(
                    "UPDATE kept_reports SET again = 0, receipted_at = ?, generation = ? WHERE id = ? AND again",
                    (_sent_at(receipt), receipt.generation, report_id),
                ).rowcount
            for refusal in receipt.refused:
                found = connection.execute(
                    "DELETE FROM kept_reports WHERE id = ? AND again RETURNING CAST(body AS BLOB)", (refusal.id,)
                ).fetchall()
                for (body,) in found:
                    bury(connection, refusal.id, body, refusal.reason, at)
                    self._size -= 1
                    self._bytes -= len(body)
                settled += len(found)
        self._again -= settled
        return settled

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a transaction; count again after one that failed."""
        try:
            with self._database.transaction() as connection:
                yield connection
        except sqlite3.Error:
            self.recount()
            raise

    def expire(self, now: float) -> None:
        """Drop reports that were kept for 24 hours; looks once in ten minutes, and not before the first ten.

        Args:
            now: On the monotonic clock.
        """
        if self._expiry_due is not None and now >= self._expiry_due and self._size:
            with self._transaction() as connection:
                connection.execute("DELETE FROM kept_reports WHERE kept_at < ?", (self._time() - KEPT_FOR,))
            self.recount()
        elif self._expiry_due is not None and now < self._expiry_due:
            return
        self._expiry_due = now + _EXPIRY_INTERVAL
        if self._reserve is not None:
            self._reserve.fill()

    def make_room(self, error: sqlite3.Error) -> bool:
        """Drop all kept reports if an error says that the disk is full; return whether there were any.

        Their pages are free for the outbox then. The reserve is given back, so that the WAL's pages fit into the
        database's file; the WAL is written from its beginning then, into the room that it has.
        """
        if not self._size or not is_full(error):
            return False
        dropped = self._size
        if self._reserve is not None:
            self._reserve.release()
        try:
            self._restart_wal()
            with self._database.transaction() as connection:
                connection.execute("DELETE FROM kept_reports")
            self._restart_wal()
        except sqlite3.Error as failure:
            _log.warning("kept_reports_not_dropped", reason=str(failure))
        finally:
            self.recount()
        if not self._size:
            _log.warning("kept_reports_dropped", count=dropped, reason="the disk is full")
        return not self._size

    def _restart_wal(self) -> None:
        self._database.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


def is_full(error: sqlite3.Error) -> bool:
    """Return whether an error says that the disk is full."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _sent_at(receipt: Receipt) -> float | None:
    """Return when the manager sent a receipt, by its clock; None over HTTP, where it does not say."""
    return None if receipt.sent_at is None else receipt.sent_at.timestamp()
