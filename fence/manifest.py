"""The manifest: every measure with its end, stored before it is set in the kernel; and the fence's audit chain."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fence.addresses import Network, parse

Measure = Literal["block", "throttle"]
Origin = Literal["own", "operator", "policy", "blocklist"]

AUDIT_KEPT = 20_000
MANAGER_OFFSET = "manager_offset"
"""The state that holds the manager's time less this boot's clock, in seconds."""

_MANAGED = ("policy", "blocklist")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
  id TEXT PRIMARY KEY, measure TEXT NOT NULL, value TEXT NOT NULL, origin TEXT NOT NULL, reason TEXT NOT NULL,
  port INTEGER, added_at REAL NOT NULL, ends_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY, at REAL NOT NULL, line TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit_root
  (number INTEGER PRIMARY KEY, at REAL NOT NULL, line TEXT NOT NULL, hash TEXT NOT NULL);
"""


class ManifestEntry(NamedTuple):
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

    Entries and state are read once; a damaged file is renamed to `fence.db.damaged` and a new one is begun.

    Args:
        directory: the directory of the file; created with mode 0700 if missing.
        boot_id: the id of the host's boot.

    Raises:
        ManifestError: the file cannot be opened.

    Attributes:
        entries: the measures by id.
        fault: why the last write failed; None if it succeeded.
        set_aside: why the file of an earlier fence was not read; None if it was.
    """

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._boot_id = boot_id
        self.entries: dict[str, ManifestEntry] = {}
        self.fault: str | None = None
        self.set_aside: str | None = None
        self._state: dict[str, str] = {}
        self._owed_state: dict[str, str] = {}
        self._owed_removals: set[str] = set()
        self._owes_all_since: tuple[float, float] | None = None
        path = directory / "fence.db"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._open(path)
            except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self.set_aside = f"{path} is damaged: {error}"
                self._database.close()
                for end in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        Path(f"{path}{end}").replace(f"{path}.damaged{end}")
                self._open(path)
        except (OSError, sqlite3.Error) as error:
            if hasattr(self, "_database"):
                self._database.close()
            raise ManifestError(f"cannot open {directory}: {error}") from error

    def _open(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._database = sqlite3.connect(path, isolation_level=None, timeout=5)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("PRAGMA cache_size=-256")  # KiB: every row is read once, at the start
        self._database.executescript(_SCHEMA)
        self._state = {str(key): str(value) for key, value in self._database.execute("SELECT key, value FROM state")}
        texts: dict[Any, Any] = {}

        def one(text: Any) -> Any:  # of equal texts in many rows
            return texts.setdefault(text, text)

        rows = self._database.execute("SELECT id, measure, value, origin, reason, port, added_at, ends_at FROM entry")
        self.entries = {
            name: ManifestEntry(name, one(measure), parse(value), one(origin), one(reason), port, at, float(end))
            for name, measure, value, origin, reason, port, at, end in rows
        }
        self._database.execute("SELECT number, at, line, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()

    def load(self, now: float, wall: float) -> None:
        """Drop ended entries; after a reboot give each entry the remaining time that was last written.

        A wall clock earlier than the last written time is ignored; a later one shortens the remaining time, and
        a policy or blocklist that lost an entry by it counts as released, so that the guard passes it on again.
        Raises nothing where the file cannot be written: the next change writes what is due.

        Args:
            now: seconds of this boot's clock.
            wall: seconds since 1970.
        """
        shift = 0.0
        if self.state("boot_id") not in (None, self._boot_id):
            written_at = float(self.state("written_at") or 0.0)
            away = max(0.0, wall - float(self.state("written_wall") or wall))
            shift = now - written_at - away
        self.entries = {name: entry._replace(ends_at=entry.ends_at + shift) for name, entry in self.entries.items()}
        ended = [entry for entry in self.entries.values() if entry.ends_at <= now]
        for entry in ended:
            del self.entries[entry.id]
        if shift:
            self._owed_state |= {f"{entry.origin}_released": "true" for entry in ended if entry.origin in _MANAGED}
            if self.state(MANAGER_OFFSET):
                self._owed_state[MANAGER_OFFSET] = str(float(self.state(MANAGER_OFFSET) or 0.0) - shift)
        self._state |= self._owed_state
        self._owes_all_since = now, wall
        with suppress(ManifestError), self._transaction():
            pass

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
        self._state |= state or {}

    def withdraw(self, removed: Iterable[str], state: dict[str, str] | None = None) -> None:
        """Remove entries and set state, whether or not the file can be written.

        Where it cannot, `fault` says why, and the next write that succeeds carries them out in the file too.
        """
        removed = list(removed)
        for identifier in removed:
            self.entries.pop(identifier, None)
        self._state |= state or {}
        self._owed_removals.update(removed)
        self._owed_state |= state or {}
        with suppress(ManifestError), self._transaction():
            pass

    def mark_time(self, now: float, wall: float) -> None:
        """Write the current time, from which the remaining times are computed after a reboot."""
        with self._transaction():
            self._mark_time(now, wall)

    def state(self, key: str) -> str | None:
        """Return a single stored value."""
        return self._state.get(key)

    def audit(self, at: float, line: dict[str, Any], *, by_root: bool) -> None:
        """Append a line to the guard's or root's audit chain; its hash covers the previous line's hash.

        Each chain keeps its last lines, so that no number of requests by the guard pushes out a line of root's.
        """
        chain = "audit_root" if by_root else "audit"
        text = json.dumps(line, sort_keys=True, separators=(",", ":"))
        with self._transaction():
            last = self._database.execute(f"SELECT number, hash FROM {chain} ORDER BY number DESC LIMIT 1").fetchone()  # noqa: S608
            number, before = last or (0, "")
            digest = _chained(before, at, text)
            self._database.execute(f"INSERT INTO {chain} VALUES (?, ?, ?, ?)", (number + 1, at, text, digest))  # noqa: S608
            self._database.execute(f"DELETE FROM {chain} WHERE number <= ?", (number + 1 - AUDIT_KEPT,))  # noqa: S608

    def audit_is_whole(self) -> bool:
        """Return whether both audit chains can be read and are intact: no line was changed, removed or inserted."""
        try:
            return all(
                self._is_whole(f"SELECT at, line, hash FROM {chain} ORDER BY number")  # noqa: S608
                for chain in ("audit", "audit_root")
            )
        except sqlite3.Error:
            return False

    def _is_whole(self, query: str) -> bool:
        before: str | None = None
        for at, line, digest in self._database.execute(query):
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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run statements in one transaction, after those that an earlier failure left due."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._write_due()
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                if self._database.in_transaction:  # SQLite has rolled back by itself on a full disk
                    self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                self.fault = f"the manifest cannot be written: {error}"
                raise ManifestError(self.fault) from error
            raise
        self.fault = None
        self._owed_state, self._owes_all_since = {}, None
        self._owed_removals.clear()

    def _write_due(self) -> None:
        if self._owes_all_since is not None:
            self._database.execute("DELETE FROM entry")
            self._insert(self.entries.values())
            self._mark_time(*self._owes_all_since)
        self._database.executemany("DELETE FROM entry WHERE id = ?", [(name,) for name in self._owed_removals])
        for key, value in self._owed_state.items():
            self._database.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))


def _chained(before: str, at: float, text: str) -> str:
    return hashlib.sha256(f"{before}\n{at!r}\n{text}".encode()).hexdigest()
