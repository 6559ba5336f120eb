"""Reader of the systemd journal through libsystemd, by ctypes."""

import ctypes
import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.parse import sshd
from agent.sources.journal_entry import (
    JOURNALD,
    JOURNALD_FIELDS,
    MATCHES,
    MAX_FIELD,
    TEXT_FIELDS,
    WRITER_FIELDS,
    JournalEntry,
    JournalReader,
)
from agent.sources.journalctl_reader import JournalctlReader
from agent.sources.source import SourceError

_Field = tuple[str, bytes, int]
"""A field's name as text and as bytes, and the offset of its value in the data that libsystemd returns."""


def _fields(names: Sequence[str]) -> tuple[_Field, ...]:
    return tuple((name, name.encode(), len(name) + 1) for name in names)


_TEXT, _WRITER, _JOURNALD = _fields(TEXT_FIELDS), _fields(WRITER_FIELDS), _fields(JOURNALD_FIELDS)
_LIBRARY = "libsystemd.so.0"
_LOCAL_ONLY = 1  # journald keeps what persons' sudo and su log in journals of their own: those are read, too
_SYSTEM = 4
_INVALIDATED = 2


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
        self._changed = False
        self._journal = ctypes.c_void_p()
        self._directory = directory
        self._open(ctypes.byref(self._journal))
        self._call("sd_journal_set_data_threshold", ctypes.c_size_t(MAX_FIELD), deed="opened")
        self._call("sd_journal_get_fd", deed="watched")  # start change notification, for `_process_changes`
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
        self._process_changes()
        entries: list[JournalEntry] = []
        advance, journal = self._next, self._journal
        while len(entries) < budget and (code := advance(journal)):
            if code < 0:
                self._check(code, "read")
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

    def has_changed(self) -> bool:
        """Return whether files of the journal were added or removed since the last call."""
        self._process_changes()
        changed, self._changed = self._changed, False
        return changed

    def _process_changes(self) -> None:
        """Let libsystemd open and close files that were added, rotated or removed."""
        while self._call("sd_journal_process") == _INVALIDATED:
            self._changed = True

    def _entry(self) -> JournalEntry:
        fields: dict[str, str] = {}
        self._add(fields, _TEXT)
        program, message = fields.get("SYSLOG_IDENTIFIER"), fields.get("MESSAGE", "")
        if program == JOURNALD:
            self._add(fields, _JOURNALD)
        elif program not in sshd.PROGRAMS or sshd.may_have_event(message):
            self._add(fields, _WRITER)
        code = self._get_time(self._journal, self._at_reference)
        if code < 0:
            self._check(code, "read")
        return JournalEntry(fields, self._at.value / 1e6, "", len(message) >= MAX_FIELD - len("MESSAGE="))

    def _add(self, fields: dict[str, str], wanted: Sequence[_Field]) -> None:
        """Add the fields of the current entry that it has and that can be read."""
        journal, get, data, size = self._journal, self._get_data, self._data, self._size
        data_reference, size_reference = self._data_reference, self._size_reference
        for name, encoded, begin in wanted:
            if get(journal, encoded, data_reference, size_reference):
                continue
            end = size.value
            # A slice of a pointer to characters is bytes.
            content: bytes = data[begin : min(MAX_FIELD, end)]  # type: ignore[assignment]
            fields[name] = content.decode("utf-8", "replace")

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
