"""The durable outbox: each report is stored here until the manager's receipt confirms it.

Reports are stored without agentId, because a guard detects before it is registered, and its agentId may change.
`coded` returns the bytes to send, which are always the same for one agentId and secret.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from agent.storage.database import Database, add_to_counter, counter
from schemas import message_codes
from schemas.limits import THREAT_LIMIT
from schemas.report_batches import batch_body
from schemas.threats import Severity
from schemas.topics import THREATS

_DROPPED = "outbox_dropped"
_DEAD_LETTERS = 1_000
_RANKS = {severity: rank for rank, severity in enumerate(Severity)}
_ROOM_FOR_CODE = 256


Keep = Callable[[sqlite3.Connection, Sequence[tuple[str, bytes]]], None]
"""Keeps stored reports, given as ids and bodies, within a transaction."""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One waiting report; `body` is its JSON without agentId."""

    sequence: int
    id: str
    body: bytes


def coded(bodies: Sequence[bytes], agent_id: str, mac_key: bytes, *, resent: bool = False) -> bytes:
    """Return the message with one report or several, each with its agentId, and the message code.

    A message with reports that are sent again after a receipt says so, and has the form of several.
    """
    whole = [b'{"agentId":"%b",%b' % (agent_id.encode(), body[1:]) for body in bodies]
    message = whole[0] if len(whole) == 1 and not resent else batch_body(whole, resent=resent)
    return message_codes.with_mac(mac_key, THREATS.below_root(agent_id), message)


class Outbox:
    """Unconfirmed reports, in order, and dead letters: reports that the manager refused permanently.

    Bounded: when it is full, the newest reports of the lowest severity are dropped first, and counted. The
    first reports of an attack are worth more than its repetitions, and the oldest may be in flight.

    Args:
        database: The guard's database.
        max_reports: The capacity in reports.
        max_bytes: The capacity in bytes.
    """

    def __init__(self, database: Database, max_reports: int, max_bytes: int) -> None:
        self._database = database
        self._max_reports = max_reports
        self._max_bytes = max_bytes
        self._data_version = self._read_data_version()
        self.recount()

    def recount(self) -> None:
        """Read size and dropped count from the database, at the start and after a failed transaction."""
        connection = self._database.connection
        row = connection.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM outbox").fetchone()
        self._size, self._bytes = int(row[0]), int(row[1])
        self._dropped = counter(connection, _DROPPED)

    def __len__(self) -> int:
        """Return the number of waiting reports."""
        return self._size

    @property
    def dropped(self) -> int:
        """The number of reports dropped because the outbox was full, since the guard was first started."""
        return self._dropped

    @property
    def dead_letters(self) -> int:
        """The number of refused reports that are stored with the reason: the newest 1,000."""
        return int(self._database.connection.execute("SELECT COUNT(*) FROM dead_letters").fetchone()[0])

    def add(self, connection: sqlite3.Connection, report_id: str, body: bytes, at: float, severity: Severity) -> bool:
        """Add a report within the caller's transaction; return whether it was queued.

        A report above the size limit becomes a dead letter at once.

        Args:
            connection: The transaction.
            report_id: The report's id.
            body: Its JSON without agentId.
            at: Now, in epoch seconds.
            severity: The threat's severity; decides which reports are dropped when the outbox is full.
        """
        if len(body) + _ROOM_FOR_CODE > THREAT_LIMIT:
            bury(connection, report_id, body[:1024], f"the report has {len(body)} bytes, more than the limit", at)
            return False
        rank = _RANKS[severity]
        if not self._has_room(len(body)):
            self._drop_below(connection, rank, len(body))
        if not self._has_room(len(body)):
            self._count_dropped(connection, 1)
            return False
        connection.execute("INSERT INTO outbox (id, body, severity) VALUES (?, ?, ?)", (report_id, body, rank))
        self._size += 1
        self._bytes += len(body)
        return True

    def _has_room(self, size: int) -> bool:
        return self._size < self._max_reports and self._bytes + size <= self._max_bytes

    def _drop_below(self, connection: sqlite3.Connection, rank: int, size: int) -> None:
        """Drop reports of a lower severity, lowest and newest first, to make room; none if it would not suffice."""
        rows = connection.execute(
            "SELECT sequence, LENGTH(body) FROM outbox WHERE severity < ? ORDER BY severity, sequence DESC", (rank,)
        )
        victims: list[tuple[int, int]] = []
        count, total = self._size, self._bytes
        for sequence, length in rows:
            victims.append((int(sequence), int(length)))
            count, total = count - 1, total - int(length)
            if count < self._max_reports and total + size <= self._max_bytes:
                break
        else:
            return
        rows.close()
        connection.executemany("DELETE FROM outbox WHERE sequence = ?", [(sequence,) for sequence, _ in victims])
        self._size, self._bytes = count, total
        self._count_dropped(connection, len(victims))

    def _count_dropped(self, connection: sqlite3.Connection, number: int) -> None:
        add_to_counter(connection, _DROPPED, number)
        self._dropped += number

    def after(self, sequence: int, count: int) -> Iterator[OutboxEntry]:
        """Yield at most `count` reports after `sequence`, in order.

        Another process may have moved dead letters back into the outbox meanwhile.
        """
        version = self._read_data_version()
        if version != self._data_version:
            self._data_version = version
            self.recount()
        found = self._database.connection.execute(
            "SELECT sequence, id, CAST(body AS BLOB) FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (sequence, count),
        )
        for row in found:
            yield OutboxEntry(*row)

    def get(self, report_id: str) -> OutboxEntry | None:
        """Return a waiting report; None if it is not in the outbox."""
        found = self._database.connection.execute(
            "SELECT sequence, id, CAST(body AS BLOB) FROM outbox WHERE id = ?", (report_id,)
        ).fetchone()
        return None if found is None else OutboxEntry(*found)

    def settle(
        self, stored: Collection[str], refused: Collection[tuple[str, str]], at: float, keep: Keep | None = None
    ) -> tuple[int, int]:
        """Apply a receipt: delete stored reports, move refused ones to the dead letters.

        Args:
            stored: Ids; unknown ones are ignored.
            refused: Ids and reasons.
            at: Now, in epoch seconds.
            keep: Called with the stored reports in the same transaction.

        Returns:
            The numbers of stored and of refused reports.
        """
        gone: list[int] = []
        with self._database.transaction() as connection:
            removed = [(report_id, body) for report_id in stored for body in _remove(connection, report_id)]
            if keep is not None:
                keep(connection, removed)
            gone += [len(body) for _, body in removed]
            forgotten = len(gone)
            for report_id, reason in refused:
                entry = self.get(report_id)
                if entry is not None:
                    bury(connection, report_id, entry.body, reason, at)
                    gone += map(len, _remove(connection, report_id))
        self._size -= len(gone)
        self._bytes -= sum(gone)
        return forgotten, len(gone) - forgotten

    def _read_data_version(self) -> int:
        """Return a number that changes when another connection commits."""
        return int(self._database.connection.execute("PRAGMA data_version").fetchone()[0])


def retry_dead_letters(database: Database) -> tuple[int, int]:
    """Move dead letters back into the outbox, oldest first, to be sent again with their ids.

    A dead letter that was too large to be sent is kept only in part, and stays.

    Returns:
        The number of reports that were moved, and of dead letters that stay.
    """
    moved = 0
    with database.transaction() as connection:
        found = connection.execute("SELECT sequence, id, CAST(body AS BLOB) FROM dead_letters ORDER BY sequence")
        for sequence, report_id, body in found.fetchall():
            if not _is_whole(body):
                continue
            moved += connection.execute(
                "INSERT INTO outbox (id, body) VALUES (?, ?) ON CONFLICT DO NOTHING", (report_id, body)
            ).rowcount
            connection.execute("DELETE FROM dead_letters WHERE sequence = ?", (sequence,))
        left = connection.execute("SELECT COUNT(*) FROM dead_letters").fetchone()[0]
    return moved, int(left)


def _is_whole(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _remove(connection: sqlite3.Connection, report_id: str) -> list[bytes]:
    """Delete a report; return its body, or an empty list if it was not there."""
    found = connection.execute("DELETE FROM outbox WHERE id = ? RETURNING CAST(body AS BLOB)", (report_id,))
    return [row[0] for row in found.fetchall()]


def bury(connection: sqlite3.Connection, report_id: str, body: bytes, reason: str, at: float) -> None:
    """Add a dead letter within the caller's transaction; the newest 1,000 are kept."""
    connection.execute(
        "INSERT INTO dead_letters (id, body, reason, at) VALUES (?, ?, ?, ?)", (report_id, body, reason, at)
    )
    connection.execute(
        "DELETE FROM dead_letters WHERE sequence <= (SELECT MAX(sequence) FROM dead_letters) - ?", (_DEAD_LETTERS,)
    )
