"""One entry of the systemd journal, the fields and entries that are read, and the interface of a reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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

    def has_changed(self) -> bool:
        """Return whether files of the journal were added or removed since the last call, as far as the reader sees."""
        ...

    def oldest(self) -> float | None:
        """Return when the oldest entry of the journal was received; None if there is none."""
        ...

    def close(self) -> None:
        """Release the reader's resources."""
        ...
