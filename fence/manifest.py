"""The manifest: every measure with its end, stored before it is set in the kernel; and the fence's audit chain."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fence.addresses import Network, parse

Measure = Literal["block", "throttle"]
Origin = Literal["own", "operator", "policy", "blocklist"]

AUDIT_KEPT = 20_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
  id TEXT PRIMARY KEY, measure TEXT NOT NULL, value TEXT NOT NULL, origin TEXT NOT NULL, reason TEXT NOT NULL,
  port INTEGER, added_at REAL NOT NULL, ends_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY, at REAL NOT NULL, line TEXT NOT NULL, hash TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One measure.

    Attributes:
        id: the id used by `undo`.
        measure: `block` or `throttle`.
        network: the target.
        origin: the requester: the guard itself, an operator as root, the agent's policy, the organization's blocklist.
        reason: the reason for operators.
        port: the attacked port, if the guard named one.
        added_at: seconds since 1970.
        ends_at: seconds of this boot's clock (CLOCK_BOOTTIME).
    """

    id: str
    measure: Measure
    network: Network
    origin: Origin
    reason: str
    port: int | None
    added_at: float
    ends_at: float


class ManifestError(Exception):
    """The manifest cannot be read or written; the message says why."""


class Manifest:
    """One SQLite file in a directory that only root can write; each change is durable when the method returns.

    Args:
        directory: the directory of the file; created with mode 0700 if missing.
        boot_id: the id of the host's boot.

    Raises:
        ManifestError: the file cannot be opened.
    """

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._boot_id = boot_id
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = directory / "fence.db"
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(path, isolation_level=None, timeout=5)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ManifestError(f"cannot open {directory}: {error}") from error
        self.entries: dict[str, ManifestEntry] = {}

    def load(self, now: float, wall: float) -> None:
        """Load the entries; after a reboot each entry has the remaining time that was last written.

        A wall clock earlier than the last written time is ignored; a later one shortens the remaining time.

        Args:
            now: seconds of this boot's clock.
            wall: seconds since 1970.
        """
        shift = 0.0
        if self.state("boot_id") not in (None, self._boot_id):
            written_at = float(self.state("written_at") or 0.0)
            away = max(0.0, wall - float(self.state("written_wall") or wall))
            shift = now - written_at - away
        rows = self._database.execute("SELECT id, measure, value, origin, reason, port, added_at, ends_at FROM entry")
        for identifier, measure, value, origin, reason, port, added_at, ends_at in rows.fetchall():
            entry = ManifestEntry(identifier, measure, parse(value), origin, reason, port, added_at, ends_at + shift)
            self.entries[identifier] = entry
        ended = [entry.id for entry in self.entries.values() if entry.ends_at <= now]
        for identifier in ended:
            del self.entries[identifier]
        with self._transaction():
            self._database.execute("DELETE FROM entry")
            self._insert(self.entries.values())
            self._mark_time(now, wall)

    def change(
        self, added: Iterable[ManifestEntry], removed: Iterable[str], state: dict[str, str] | None = None
    ) -> None:
        """Add entries, remove entries and set state, in one transaction.

        Raises:
            ManifestError: nothing was changed.
        """
        added, removed = list(added), list(removed)
        with self._transaction():
            self._database.executemany("DELETE FROM entry WHERE id = ?", [(identifier,) for identifier in removed])
            self._insert(added)
            for key, value in (state or {}).items():
                self._database.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))
        for identifier in removed:
            self.entries.pop(identifier, None)
        self.entries.update({entry.id: entry for entry in added})

    def mark_time(self, now: float, wall: float) -> None:
        """Write the current time, from which the remaining times are computed after a reboot."""
        with self._transaction():
            self._mark_time(now, wall)

    def state(self, key: str) -> str | None:
        """Return a single stored value."""
        row = self._database.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def audit(self, at: float, line: dict[str, Any]) -> None:
        """Append a line to the audit chain; its hash covers the previous line's hash."""
        text = json.dumps(line, sort_keys=True, separators=(",", ":"))
        with self._transaction():
            last = self._database.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
            number, before = last or (0, "")
            digest = _chained(before, at, text)
            self._database.execute("INSERT INTO audit VALUES (?, ?, ?, ?)", (number + 1, at, text, digest))
            self._database.execute("DELETE FROM audit WHERE number <= ?", (number + 1 - AUDIT_KEPT,))

    def audit_is_whole(self) -> bool:
        """Return whether the audit chain is intact: no line was changed, removed or inserted."""
        before: str | None = None
        for at, line, digest in self._database.execute("SELECT at, line, hash FROM audit ORDER BY number"):
            if before is not None and digest != _chained(before, at, line):
                return False
            before = digest
        return True

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _insert(self, entries: Iterable[ManifestEntry]) -> None:
        self._database.executemany(
            "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(e.id, e.measure, str(e.network), e.origin, e.reason, e.port, e.added_at, e.ends_at) for e in entries],
        )

    def _mark_time(self, now: float, wall: float) -> None:
        for key, value in (("boot_id", self._boot_id), ("written_at", str(now)), ("written_wall", str(wall))):
            self._database.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._database)


class _Transaction:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise ManifestError(f"the manifest cannot be written: {error}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if kind is None:
            try:
                self._database.execute("COMMIT")
            except sqlite3.Error as failure:
                self._database.execute("ROLLBACK")
                raise ManifestError(f"the manifest cannot be written: {failure}") from failure
            return
        self._database.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise ManifestError(f"the manifest cannot be written: {error}") from error


def _chained(before: str, at: float, text: str) -> str:
    return hashlib.sha256(f"{before}\n{at!r}\n{text}".encode()).hexdigest()
