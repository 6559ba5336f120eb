"""Record parser: converts the records of one source into events."""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import NamedTuple

from agent.events import NOTHING_VOUCHED, Event, EventKind, Record
from agent.parse import pam, sshd
from agent.parse.header import Header, HeaderParser, bare

MAX_COUNT = 1_000_000
"""The maximum number of repetitions that a line may claim."""

Parsed = tuple[EventKind, dict[str, str | int], int]
"""An event's kind, fields and number of occurrences."""

Witness = Callable[[str], bool]
"""Returns whether the kernel confirms that this host answered an address on a port of sshd's."""


class ParsedRecord(NamedTuple):
    """The result of one record.

    Attributes:
        understood: The record's header could be parsed, or its source provides the header's fields.
        event: The event in the record, if any.
        stamp: Epoch seconds of the time stamp in the text; None without one, and where nobody needs it: for a record
            without an event that is not live.
    """

    understood: bool
    event: Event | None = None
    stamp: float | None = None


NOT_UNDERSTOOD = ParsedRecord(understood=False)
NOTHING_FOUND = ParsedRecord(understood=True)


class RecordParser:
    """Parses the records of one source in order, because a line may report repetitions of the previous one.

    The text of a record whose origin has an identifier is a message without a header.

    Args:
        zone: The time zone of time stamps without one.
        witness: Asked about the source address of records that need a witness; None without a fence.
    """

    def __init__(self, zone: tzinfo, witness: Witness | None = None) -> None:
        self._witness = witness
        self._headers = HeaderParser(zone)
        self._last: Event | None = None

    def read(self, record: Record, now: float) -> ParsedRecord:
        """Parse one record.

        An event's time is the source's time; else now, for a live record; else the time stamp in the text.

        Args:
            record: The record.
            now: Epoch seconds.
        """
        identifier = record.origin.identifier
        if identifier is not None:
            found = None if record.cut else _parsed(identifier, record.text.rstrip())
            return self._result(record, found, record.origin.pid, None, now)
        line = bare(record.text)
        split = self._headers.common(line)
        if split is None:
            return self._other(record, line, now)
        stamp, program, pid, message = split
        found = None if record.cut else _parsed(program, message)
        if found is None and not record.live:
            self._last = None
            return NOTHING_FOUND
        return self._result(record, found, None if pid is None else int(pid), self._headers.stamp(stamp, now), now)

    def _other(self, record: Record, line: str, now: float) -> ParsedRecord:
        """Parse a line of one of the less common formats, or of unknown format."""
        header = self._headers.other(line, now)
        if header is None:
            self._last = None
            return NOT_UNDERSTOOD
        if not header.repeats:
            found = None if record.cut else _parsed(header.program, header.message)
            return self._result(record, found, header.pid, header.at, now)
        at = _time(record, header.at, now)
        if record.cut or at is None:
            self._last = None
            return ParsedRecord(True, stamp=header.at)
        return ParsedRecord(True, self._repeated(header, record, at), header.at)

    def _result(
        self, record: Record, found: Parsed | None, pid: int | None, stamp: float | None, now: float
    ) -> ParsedRecord:
        """Return the event of a record's message, if there is one and its time is known."""
        at = _time(record, stamp, now)
        if found is None or at is None:
            self._last = None
            return ParsedRecord(True, stamp=stamp)
        kind, fields, count = found
        if pid is not None and "pid" not in fields:  # sshd's listener logs the process id of the connection itself
            fields["pid"] = pid
        vouched = frozenset(fields) if record.vouched or self._is_witnessed(record, fields) else NOTHING_VOUCHED
        event = self._last = Event(at, kind, fields, vouched, min(MAX_COUNT, count), record.origin)
        return ParsedRecord(True, event, stamp)

    def _is_witnessed(self, record: Record, fields: Mapping[str, str | int]) -> bool:
        """Return whether the kernel is the witness that a record without executable lacks."""
        address = fields.get("sourceIp")
        return (
            record.needs_witness and self._witness is not None and address is not None and self._witness(str(address))
        )

    def _repeated(self, header: Header, record: Record, at: float) -> Event | None:
        """Return the event of the previous line for `last message repeated N times`."""
        last = self._last
        if last is None:
            return None
        vouched = last.vouched if record.vouched or record.needs_witness else NOTHING_VOUCHED
        return Event(at, last.kind, last.fields, vouched, min(header.repeats, MAX_COUNT), last.origin)


def _parsed(program: str, message: str) -> Parsed | None:
    """Parse one whole message of a program; return None if it contains no event."""
    if program in sshd.PROGRAMS:
        return sshd.read(message)
    return pam.read(program, message) if program in pam.PROGRAMS else None


def _time(record: Record, stamp: float | None, now: float) -> float | None:
    """Return the time of a record: the source's, else now for a live one, else that of its time stamp."""
    if record.at is not None:
        return record.at
    return now if record.live else stamp
