"""The systemd journal as a source of records."""

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent.events import Record, RecordOrigin
from agent.sources.journal_entry import JOURNALD, JournalEntry, JournalReader
from agent.sources.journal_reader import open_reader
from agent.sources.source import LOOK_BACK_RECORDS, Batch, ReadPace, SourceError, SourceState
from agent.sources.trust import trusted_executables, vouches

DIRECTORIES = (Path("/var/log/journal"), Path("/run/log/journal"))
"""The directories of journald's files: persistent, volatile."""

SOCKET = Path("/run/systemd/journal/socket")
"""The socket at which journald receives entries."""

_REOPEN_EVERY = 2_000
"""Entries after which the journal is opened anew: libsystemd keeps all of it mapped that was read."""

_AT_ONCE = 1_000
"""The maximum number of entries of one read: anybody may write entries of 16 KiB."""

_LIVE_WITHIN = 10.0
_KEEP_EVERY = 60.0
_REOPEN_AFTER = 5.0
_COMPARED = 5_000

# Seconds for which the source counts as degraded after records were dropped.
_DROPPING_FOR = 300.0

# The id of journald's own message (its catalogue) for dropped messages of a service. Kernel messages that journald
# missed are no gap: the guard reads none.
_DROPPED = "a596d6fe7bfa4994828e72309e95d61e"
_READ_UNITS = ("ssh", "sudo", "session-", "user@", "login")


_Writer = tuple[str | None, int | None, str | None, bool, bool]
"""Executable, user id and control group of a writer; whether it vouches; whether it needs the kernel as a witness."""


class JournalSource:
    """Reads the authentication entries of the journal; see `agent.sources.source.Source`.

    The cursor holds the last entry and the time up to which the journal was read, to distinguish an entry that was
    vacuumed after it was read from entries that were lost.

    Args:
        cursor: The cursor of an earlier run; None at the first start.
        interval: Seconds between two reads at rest; see `ReadPace`.
        now: The time of the first read, on the monotonic clock.
        wall: Current time in epoch seconds.
        look_back: At the first start, the epoch seconds from which entries are read; None to start at the end.
        directory: The journal's directory; None for the host's own.
        journald: The socket of journald; None for that of the host's own journal.
        open_journal: Opens the journal.
    """

    def __init__(
        self,
        cursor: str | None,
        *,
        interval: float,
        now: float,
        wall: Callable[[], float],
        look_back: float | None = None,
        directory: Path | None = None,
        journald: Path | None = None,
        open_journal: Callable[[Path | None], JournalReader] = open_reader,
    ) -> None:
        self.name = "journal"
        self.needs = "membership in the group systemd-journal, or adm"
        self.due = now
        self._pace = ReadPace(interval)
        self._wall = wall
        self._directory = directory
        self._journald = SOCKET if directory is None and journald is None else journald
        self._open_journal = open_journal
        self._executables = trusted_executables()
        self._writer = lru_cache(maxsize=256)(self._judge_writer)
        self._reader: JournalReader | None = None
        self._states: dict[Path, tuple[int, int]] = {}
        self._entries = 0
        self._more = False
        self._emptied: float | None = None  # the journal lacked the cursor and was empty; read up to this time
        self._lost: list[str] = []
        self._at_end: float | None = None
        self._kept: float | None = None
        self._dropped = ""
        self._dropping_until = float("-inf")
        self._cursor, self._read_to = _position(cursor)
        self.looking_back = not self._read_to and look_back is not None
        if not self._read_to:
            self._read_to = wall() if look_back is None else look_back

    @property
    def cursor(self) -> str:
        """The last entry, and the time up to which the journal was read."""
        return json.dumps({"cursor": self._cursor, "readTo": round(self._read_to, 6)})

    def read(self, budget: int, now: float) -> Batch:
        """Return the new entries; see `agent.sources.source.Source`."""
        self.due = self._pace.next(now)
        try:
            reader = self._current_reader()
            entries = reader.read(min(budget, _AT_ONCE))
        except SourceError:
            self._close()
            self.due = now + _REOPEN_AFTER
            raise
        live = self._at_end is not None and now - self._at_end <= _LIVE_WITHIN
        more = self._more = len(entries) >= min(budget, _AT_ONCE)
        if entries:
            self.due = self._pace.next(now, has_records=True)
            oldest = None if self._emptied is None else reader.oldest()
            if self._emptied is not None and oldest is not None and oldest > self._emptied:
                self._lost.append(_gap(self._emptied, oldest))
            self._emptied = None
            self._cursor, self._read_to = entries[-1].cursor, entries[-1].at
            self._entries += len(entries)
            if self._entries >= _REOPEN_EVERY:
                self._release()
        if more:
            self.due = now
        else:
            # Not the latest of both: after a clock that was ahead, the time up to which was read is earlier again.
            self._at_end, self.looking_back, self._read_to = now, False, self._wall()
        lost = self._take_lost()
        records = []
        for entry in entries:
            if entry.fields.get("SYSLOG_IDENTIFIER") == JOURNALD:
                lost += self._suppressed(entry, now)
            else:
                records.append(self._record(entry, live=live))
        keep = bool(lost) or self._kept is None or now - self._kept >= _KEEP_EVERY
        if keep:
            self._kept = now
        return Batch(records, self.cursor, lost, more=more, keep=keep)

    def skip_to_end(self) -> None:
        """Skip the unread entries."""
        self._close()
        self._cursor, self._read_to, self.looking_back = "", self._wall(), False

    def check(self, now: float) -> tuple[SourceState, str] | None:
        """Return the problem because of which entries do not reach the journal; None without a problem."""
        if self._journald is not None and not journald_listens(self._journald):
            return "silent", "systemd-journald does not run: what programs log reaches nobody; start it"
        if now < self._dropping_until:
            return "dropping", self._dropped
        return None

    def close(self) -> None:
        """Close the journal."""
        self._close()

    def _open(self) -> JournalReader:
        refusal = unreadable(self._directory)
        if refusal is not None:
            raise refusal
        reader = self._open_journal(self._directory)
        try:
            if self.looking_back and not self._cursor:
                reader.seek_back(LOOK_BACK_RECORDS, self._read_to)
                self._entries = _REOPEN_EVERY  # the entries that were skipped over are mapped, too
            elif not self._cursor:
                reader.seek_time(self._read_to)
            elif not reader.seek(self._cursor):
                oldest = reader.oldest()
                if oldest is None:
                    self._emptied = self._read_to
                elif oldest > self._read_to:
                    self._lost.append(_gap(self._read_to, oldest))
                reader.seek_time(self._read_to)
        except SourceError:
            reader.close()
            raise
        self._reader = reader
        self._states = {path: _state(path) for path in _live_files(self._directory)}
        return reader

    def _current_reader(self) -> JournalReader:
        """Return the reader; open the journal anew, at the cursor, if its files have changed."""
        reader = self._reader
        if reader is not None and self._is_cut_off():
            self._release()  # to touch mapped pages behind the end of a truncated file would kill this process
        elif reader is not None and self._has_unread() and reader.has_changed():
            self._release()  # what was removed unread is noticed when the journal is opened at the cursor
        return self._reader or self._open()

    def _is_cut_off(self) -> bool:
        """Return whether a file that journald writes, or has just renamed, is shorter than before; note the sizes."""
        for path, (inode, size) in self._states.items():
            now = self._states[path] = _state(path)
            # A file with another inode was rotated, or set aside as damaged; one that is gone can be read to its end.
            current = now[1] if now[0] == inode else _size_of(inode, path.parent)
            if current is not None and current < size:
                return True
        return False

    def _has_unread(self) -> bool:
        """Return whether there may be unread entries: the last read ended before the end, or was long ago."""
        return self._more or self._wall() - self._read_to > _LIVE_WITHIN

    def _close(self) -> None:
        self._release()
        self._at_end = None

    def _release(self) -> None:
        """Close the reader; the next read goes on behind the cursor."""
        reader, self._reader, self._entries = self._reader, None, 0
        if reader is not None:
            reader.close()

    def _take_lost(self) -> list[str]:
        """Return and clear the found gaps; the state no longer names a suppression that is older than they are."""
        lost, self._lost = self._lost, []
        if lost:
            self._dropping_until = float("-inf")
        return lost

    def _suppressed(self, entry: JournalEntry, now: float) -> list[str]:
        gaps = _dropped(entry)
        if gaps and self._wall() - entry.at < _DROPPING_FOR:
            self._dropped, self._dropping_until = gaps[-1], now + _DROPPING_FOR
        return gaps

    def _record(self, entry: JournalEntry, *, live: bool) -> Record:
        get = entry.fields.get
        exe, uid, cgroup, vouched, needs_witness = self._writer(get("_EXE"), get("_UID"), get("_SYSTEMD_CGROUP"))
        identifier = get("SYSLOG_IDENTIFIER", "")
        origin = RecordOrigin(self.name, identifier, exe, uid, cgroup, _number(get("_PID")))
        return Record(get("MESSAGE", ""), origin, entry.at, live, vouched, needs_witness, entry.cut)

    def _judge_writer(self, exe: str | None, uid: str | None, cgroup: str | None) -> _Writer:
        origin = RecordOrigin(self.name, exe=exe, uid=_number(uid), cgroup=cgroup)
        vouched = vouches(origin, self._executables)
        needs_witness = not vouched and vouches(origin, self._executables, witnessed=True)
        return exe, origin.uid, cgroup, vouched, needs_witness


def has_logins(begin: float, end: float, directory: Path | None = None) -> bool:
    """Return whether the journal has records of sshd between two times in epoch seconds; False without a journal."""
    if unreadable(directory) is not None:
        return False
    try:
        reader = open_reader(directory)
    except SourceError:
        return False
    try:
        reader.seek_time(begin)
        for entry in reader.read(_COMPARED):
            if begin < entry.at <= end and entry.fields.get("SYSLOG_IDENTIFIER", "").startswith("sshd"):
                return True
    except SourceError:
        return False
    finally:
        reader.close()
    return False


def journald_listens(path: Path = SOCKET) -> bool:
    """Return whether journald accepts messages; a socket without a process refuses the connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def unreadable(directory: Path | None = None) -> SourceError | None:
    """Return the reason why this process cannot read the journal; None if it can."""
    places = DIRECTORIES if directory is None else (directory,)
    files = [file for place in places for file in _journal_files(place)]
    if not files:  # a list that is read during a rename may have neither name: look again
        files = [file for place in places for file in _journal_files(place)]
    if not files:
        where = " or ".join(map(str, places))
        return SourceError(f"there is no journal in {where}; see that systemd-journald runs", "missing")
    if not any(os.access(file, os.R_OK) for file in files):
        return SourceError(
            f"{files[0]} cannot be read: add the guard's user to the group systemd-journal, and start it again"
        )
    return None


def _live_files(directory: Path | None) -> list[Path]:
    """Return the files that journald appends to: those of the system and of persons that are not archived."""
    places = DIRECTORIES if directory is None else (directory,)
    folders = [folder for place in places for folder in (place, *_folders(place))]
    return [file for folder in folders for file in folder.glob("*.journal") if "@" not in file.name]


def _size_of(inode: int, folder: Path) -> int | None:
    """Return the size of the file with an inode; None if the folder has no such file."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.inode() == inode:
                return entry.stat().st_size
    return None


def _state(path: Path) -> tuple[int, int]:
    """Return inode and size of a file; zeros if there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


def _journal_files(place: Path) -> list[Path]:
    """Return the system journal's files in a directory and in its subdirectories named by a machine id."""
    found = []
    for folder in (place, *_folders(place)):
        try:
            found += [file for file in folder.iterdir() if file.name.startswith("system") and ".journal" in file.name]
        except OSError:
            continue
    return found


def _folders(place: Path) -> list[Path]:
    try:
        return [entry for entry in place.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _dropped(entry: JournalEntry) -> list[str]:
    """Return the report of journald about dropped messages that the guard would have read."""
    message = entry.fields.get("MESSAGE", "")
    if entry.fields.get("_TRANSPORT") != "driver" or entry.fields.get("MESSAGE_ID") != _DROPPED:
        return []  # written by another program, or about something else
    unit = message.rpartition(" from ")[2].rstrip(".")
    if not unit.startswith(_READ_UNITS):
        return []
    writer = "sshd" if unit.startswith("ssh") else unit
    mend = f"raise RateLimitBurst= in journald.conf, or LogRateLimitBurst= of {unit}"
    return [f"{writer}'s records are being dropped: journald's rate limit, {message}; {mend}"]


def _position(text: str | None) -> tuple[str, float]:
    """Return the entry and the time in a stored cursor; empty values for an unreadable one."""
    try:
        document: Any = json.loads(text or "{}")
        cursor, read_to = document.get("cursor", ""), document.get("readTo", 0.0)
    except (ValueError, AttributeError, RecursionError):
        return "", 0.0
    if not isinstance(cursor, str) or type(read_to) not in (int, float) or not 0 <= read_to < 1e11:  # noqa: PLR2004
        return "", 0.0
    return cursor, float(read_to)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _gap(begin: float, end: float) -> str:
    return (
        f"the journal no longer has its entries from {_moment(begin)} to {_moment(end)}:"
        " vacuumed, removed, or kept in memory only when the host was restarted"
    )


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")
