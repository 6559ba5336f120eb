"""Readers of the systemd journal: by libsystemd through ctypes, or by a `journalctl` process where that is missing."""

import ctypes
import errno
import fcntl
import json
import os
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from agent.parse import sshd
from agent.sources.source import SourceError

TEXT_FIELDS = ("SYSLOG_IDENTIFIER", "MESSAGE")
"""The fields that are read from each entry."""

WRITER_FIELDS = ("_EXE", "_UID", "_SYSTEMD_CGROUP", "_PID")
"""The fields that are read, too, unless the message is one of sshd's that cannot contain an event."""

JOURNALD = "systemd-journald"
"""The identifier of journald's own messages, from which the fields of `JOURNALD_FIELDS` are read, too."""

JOURNALD_FIELDS = ("MESSAGE_ID", "_TRANSPORT")
"""The extra fields of journald's messages; the second one exposes programs that use journald's name."""

MAX_FIELD = 16 * 1024
"""The maximum size of a field in bytes; longer fields are cut."""

MATCHES = (
    ("SYSLOG_FACILITY", ("4", "10")),
    ("SYSLOG_IDENTIFIER", ("sshd", "sshd-session", "sshd-auth", "sudo", "su", "login", JOURNALD)),
)
"""The entries that are read: of the authentication facilities, of these programs, and of journald itself."""

_NAMES = {name: name.encode() for name in (*TEXT_FIELDS, *WRITER_FIELDS, *JOURNALD_FIELDS)}
_LIBRARY = "libsystemd.so.0"
_LOCAL_ONLY = 1  # journald keeps what persons' sudo and su log in journals of their own: those are read, too
_SYSTEM = 4
_INVALIDATED = 2
_CHUNK = 256 * 1024
_LARGEST_LINE = 4 * 1024 * 1024

# Seconds without output after which `journalctl --follow` counts as having printed all existing entries.
_PAUSE = 0.5


@dataclass(slots=True)
class JournalEntry:
    """One entry of the journal.

    Attributes:
        fields: The values of the fields that were read and that the entry has.
        at: The time at which journald received the entry, in epoch seconds.
        cursor: The entry's position in the journal; a reader may set it for the last entry of a `read` only.
        cut: The message was longer than `MAX_FIELD`.
    """

    fields: Mapping[str, str]
    at: float
    cursor: str = ""
    cut: bool = False


class JournalReader(Protocol):
    """Reads the entries of the journal in order."""

    def seek(self, cursor: str) -> bool:
        """Go behind the entry of a cursor; return False if the journal does not have it."""
        ...

    def seek_time(self, at: float) -> None:
        """Go to the first entry at or after a time, in epoch seconds."""
        ...

    def seek_back(self, entries: int, since: float) -> None:
        """Go to the first of the newest `entries`, or to the first one at or after `since`, whichever is later."""
        ...

    def read(self, budget: int) -> Sequence[JournalEntry]:
        """Return the next entries, at most `budget`; fewer mean that the end was reached."""
        ...

    def oldest(self) -> float | None:
        """Return when the oldest entry of the journal was received; None if there is none."""
        ...

    def close(self) -> None:
        """Release the reader's resources."""
        ...


def open_reader(directory: Path | None = None) -> JournalReader:
    """Open the journal of this host, or the one in a directory.

    Raises:
        SourceError: neither libsystemd nor journalctl is installed, or the journal cannot be opened.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return JournalctlReader(directory)
    return LibsystemdReader(library, directory)


class LibsystemdReader:
    """A `JournalReader` through libsystemd. It maps the files that it reads into memory until it is closed.

    Args:
        library: libsystemd.
        directory: The journal's directory; None for the host's own.

    Raises:
        SourceError: the journal cannot be opened.
    """

    def __init__(self, library: ctypes.CDLL, directory: Path | None) -> None:
        self._library = library
        self._free = ctypes.CDLL(None).free
        self._data, self._size, self._at = ctypes.POINTER(ctypes.c_char)(), ctypes.c_size_t(), ctypes.c_uint64()
        self._data_reference, self._size_reference = ctypes.byref(self._data), ctypes.byref(self._size)
        self._at_reference = ctypes.byref(self._at)
        # These three are called for every entry, so they are looked up once.
        self._next, self._get_data = library.sd_journal_next, library.sd_journal_get_data
        self._get_time = library.sd_journal_get_realtime_usec
        self._journal = ctypes.c_void_p()
        self._directory = directory
        self._open(ctypes.byref(self._journal))
        self._call("sd_journal_set_data_threshold", ctypes.c_size_t(MAX_FIELD), deed="opened")
        self._call("sd_journal_get_fd", deed="watched")  # start change notification, for `_refresh`
        for number, (field, values) in enumerate(MATCHES):
            if number:
                self._call("sd_journal_add_disjunction", deed="filtered")
            for value in values:
                self._call("sd_journal_add_match", f"{field}={value}".encode(), ctypes.c_size_t(0), deed="filtered")

    def seek(self, cursor: str) -> bool:
        """Go behind the entry of a cursor; return False if the journal does not have it."""
        with suppress(SourceError):  # a damaged cursor is treated like one that the journal does not have
            self._call("sd_journal_seek_cursor", cursor.encode())
            found = self._call("sd_journal_next") > 0 and self._call("sd_journal_test_cursor", cursor.encode()) > 0
            return bool(found)
        return False

    def seek_time(self, at: float) -> None:
        """Go to the first entry at or after a time, in epoch seconds."""
        self._call("sd_journal_seek_realtime_usec", ctypes.c_uint64(max(0, int(at * 1e6))))

    def seek_back(self, entries: int, since: float) -> None:
        """Go to the first of the newest `entries`, or to the first one at or after `since`, whichever is later."""
        self._call("sd_journal_seek_tail")
        moved = self._call("sd_journal_previous_skip", ctypes.c_uint64(entries + 1))
        if moved == entries + 1:
            self._call("sd_journal_get_realtime_usec", self._at_reference)
            if self._at.value / 1e6 >= since:
                return
        self.seek_time(since)

    def read(self, budget: int) -> Sequence[JournalEntry]:
        """Return the next entries, at most `budget`; fewer mean that the end was reached."""
        self._refresh()
        entries: list[JournalEntry] = []
        while len(entries) < budget and self._check(self._next(self._journal), "read") > 0:
            entries.append(self._entry())
        if entries:
            entries[-1].cursor = self._cursor()
        return entries

    def oldest(self) -> float | None:
        """Return when the oldest entry of the system's journal was received; None if there is none.

        The journals of persons are left out: they are rotated rarely, and would hide a gap.
        """
        system = ctypes.c_void_p()
        self._open(ctypes.byref(system), _SYSTEM)
        first, last = ctypes.c_uint64(), ctypes.c_uint64()
        try:
            cutoff = self._library.sd_journal_get_cutoff_realtime_usec
            found = self._check(cutoff(system, ctypes.byref(first), ctypes.byref(last)), "read")
        finally:
            self._library.sd_journal_close(system)
        return first.value / 1e6 if found else None

    def close(self) -> None:
        """Close the journal."""
        if self._journal:
            self._library.sd_journal_close(self._journal)
            self._journal = ctypes.c_void_p()

    def _open(self, reference: Any, kinds: int = 0) -> None:
        if self._directory is None:
            self._check(self._library.sd_journal_open(reference, _LOCAL_ONLY | kinds), "opened")
        else:
            path = os.fsencode(self._directory)
            self._check(self._library.sd_journal_open_directory(reference, path, kinds), "opened")

    def _refresh(self) -> None:
        """Process changes of the journal's files: rotated, added or removed since the last read."""
        while self._call("sd_journal_process") == _INVALIDATED:
            pass

    def _entry(self) -> JournalEntry:
        fields: dict[str, str] = {}
        self._add(fields, TEXT_FIELDS)
        program = fields.get("SYSLOG_IDENTIFIER")
        if program == JOURNALD:
            self._add(fields, JOURNALD_FIELDS)
        elif program not in sshd.PROGRAMS or sshd.may_have_event(fields.get("MESSAGE", "")):
            self._add(fields, WRITER_FIELDS)
        cut = len(fields.get("MESSAGE", "")) >= MAX_FIELD - len("MESSAGE=")
        self._check(self._get_time(self._journal, self._at_reference), "read")
        return JournalEntry(fields, self._at.value / 1e6, "", cut)

    def _add(self, fields: dict[str, str], names: Sequence[str]) -> None:
        """Add the fields of the current entry that it has and that can be read."""
        journal, get, data, size = self._journal, self._get_data, self._data, self._size
        for name in names:
            if get(journal, _NAMES[name], self._data_reference, self._size_reference):
                continue
            # A slice of a pointer to characters is bytes.
            content: bytes = data[len(name) + 1 : min(size.value, MAX_FIELD)]  # type: ignore[assignment]
            fields[name] = content.decode(errors="replace")

    def _cursor(self) -> str:
        cursor = ctypes.c_char_p()
        self._call("sd_journal_get_cursor", ctypes.byref(cursor))
        try:
            return (cursor.value or b"").decode()
        finally:
            self._free(cursor)

    def _call(self, name: str, *arguments: Any, deed: str = "read") -> int:
        return self._check(getattr(self._library, name)(self._journal, *arguments), deed)

    @staticmethod
    def _check(code: int, deed: str) -> int:
        if code < 0:
            reason = os.strerror(-code) if -code != errno.EBADMSG else "a file of it is damaged"
            raise SourceError(f"the journal cannot be {deed}: {reason}")
        return code


class JournalctlReader:
    """A `JournalReader` through the output of `journalctl --follow --output=json`.

    Args:
        directory: The journal's directory; None for the host's own.
    """

    def __init__(self, directory: Path | None) -> None:
        self._command = ["journalctl", "--output=json", "--all", "--no-pager", "--quiet"]
        # `--follow` shows the current boot only, unless with `--merge`; so journalctl gets one machine's directory.
        self._command += ["--merge", f"--directory={directory or _own_directory()}"]
        self._start: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""
        self._flowing = False

    def seek(self, cursor: str) -> bool:
        """Go behind the entry of a cursor; return False if the journal does not have it."""
        found = self._run(f"--cursor={cursor}", "--lines=1", filtered=False)
        self._restart([f"--after-cursor={cursor}"])
        return next((entry.cursor == cursor for entry in found), False)

    def seek_time(self, at: float) -> None:
        """Go to the first entry at or after a time, in epoch seconds."""
        self._restart([f"--since=@{at:.6f}"])

    def seek_back(self, entries: int, since: float) -> None:
        """Go to the first of the newest `entries`, or to the first one at or after `since`, whichever is later."""
        self._restart([f"--since=@{since:.6f}", f"--lines={entries}"])

    def read(self, budget: int) -> Sequence[JournalEntry]:
        """Return the next entries, at most `budget`; fewer mean that no more have arrived yet."""
        process = self._process or self._follow()
        output = process.stdout
        entries: list[JournalEntry] = []
        while output is not None and len(entries) < budget:
            line, newline, rest = self._pending.partition(b"\n")
            if newline:
                self._pending = rest
                entries += _entries(line)
                continue
            try:
                chunk = os.read(output.fileno(), _CHUNK)
            except BlockingIOError:
                if not self._flowing or not select.select([output], [], [], _PAUSE)[0]:
                    self._flowing = False
                    break
                continue
            if not chunk:
                self._ended(process)
                break
            self._flowing = True
            self._pending = (self._pending + chunk)[:_LARGEST_LINE]
        if entries:
            self._start = [f"--after-cursor={entries[-1].cursor}"]
        return entries

    def oldest(self) -> float | None:
        """Return when the oldest entry of the journal was received; None if there is none."""
        with (
            suppress(OSError),
            subprocess.Popen(  # noqa: S603 -- the same
                [*self._command, "--system"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as process,
        ):
            line = b"" if process.stdout is None else process.stdout.readline(_LARGEST_LINE)
            process.kill()
            return next((entry.at for entry in _entries(line)), None)
        return None

    def close(self) -> None:
        """Stop the journalctl process."""
        process, self._process, self._pending = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def _restart(self, start: list[str]) -> None:
        self.close()
        self._start = start

    def _follow(self) -> "subprocess.Popen[bytes]":
        command = [*self._command, "--follow", *_whole(self._start), *_match_arguments()]
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- journalctl, with arguments of our own
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise SourceError(f"journalctl cannot be started: {error.strerror}", "missing") from error
        if self._process.stdout is not None:
            descriptor = self._process.stdout.fileno()
            self._flowing = True
            fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_NONBLOCK)
        return self._process

    def _ended(self, process: "subprocess.Popen[bytes]") -> None:
        code = process.wait()
        reason = b"" if process.stderr is None else process.stderr.read(1024)
        self.close()
        said = reason.decode(errors="replace").strip() or f"exit code {code}"
        raise SourceError(f"journalctl ended: {said}; it is started again")

    def _run(self, *arguments: str, filtered: bool = True) -> list[JournalEntry]:
        lines = self._output(*arguments, *(_match_arguments() if filtered else ()))
        return [entry for line in lines.splitlines() for entry in _entries(line)]

    def _output(self, *arguments: str) -> bytes:
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(  # noqa: S603 -- the same
                [*self._command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
            )
            return done.stdout
        return b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()


def _own_directory() -> Path:
    """Return the directory of this machine's own journal: the persistent one, else the volatile one."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    persistent = Path("/var/log/journal") / machine
    return persistent if persistent.is_dir() else Path("/run/log/journal") / machine


def _whole(start: list[str]) -> list[str]:
    """Return the start arguments; without a number of lines `journalctl --follow` would begin with the last ten."""
    return start if any(word.startswith("--lines") for word in start) else ["--no-tail", *start]


def _match_arguments() -> list[str]:
    groups = [[f"{field}={value}" for value in values] for field, values in MATCHES]
    return [word for number, group in enumerate(groups) for word in (["+"] if number else []) + group]


def _entries(line: bytes) -> Iterator[JournalEntry]:
    """Yield the entry in one line of `journalctl --output=json`; nothing if it cannot be read."""
    try:
        document = json.loads(line)
        at, cursor = int(document["__REALTIME_TIMESTAMP"]) / 1e6, str(document["__CURSOR"])
        fields = {name: _text(document[name]) for name in _NAMES if document.get(name) is not None}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return
    cut = len(fields.get("MESSAGE", "")) > MAX_FIELD
    yield JournalEntry({name: value[:MAX_FIELD] for name, value in fields.items()}, at, cursor, cut)


def _text(value: Any) -> str:
    """Return a field's text; journalctl writes bytes that are not text as numbers, and repeated fields as a list."""
    if isinstance(value, list) and value and all(isinstance(byte, int) for byte in value):
        return bytes(value).decode(errors="replace")
    return str(value[0] if isinstance(value, list) and value else value)
