"""Record parser: converts the records of one source into events."""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import NamedTuple

from agent.events import NOTHING_VOUCHED, Event, Record
from agent.parse import pam, sshd
from agent.parse.header import Header, HeaderParser

MAX_COUNT = 1_000_000
"""The maximum number of repetitions that a line may claim."""


Witness = Callable[[str], bool]
"""Returns whether the kernel confirms that this host answered an address on a port of sshd's."""


class ParsedRecord(NamedTuple):
    """The result of one record.

    Attributes:
        understood: The record's header could be parsed, or its source provides the header's fields.
        event: The event in the record, if any.
        stamp: Epoch seconds of the time stamp in the text; None without one.
    """

    understood: bool
    event: Event | None = None
    stamp: float | None = None


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
        if record.origin.identifier is not None:
            header: Header | None = Header(None, record.origin.identifier, record.origin.pid, record.text.rstrip())
        else:
            header = self._headers.read(record.text, now)
        if header is None:
            self._last = None
            return ParsedRecord(understood=False)
        at = record.at if record.at is not None else now if record.live else header.at
        if record.cut or at is None:
            self._last = None
            return ParsedRecord(True, stamp=header.at)
        event = self._repeated(header, record, at) if header.repeats else self._event(header, record, at)
        return ParsedRecord(True, event, header.at)

    def _event(self, header: Header, record: Record, at: float) -> Event | None:
        _, program, pid, message, _ = header
        if program in sshd.PROGRAMS:
            found = sshd.read(message)
        elif program in pam.PROGRAMS:
            found = pam.read(program, message)
        else:
            found = None
        if found is None:
            self._last = None
            return None
        kind, fields, count = found
        if pid is not None and "pid" not in fields:  # sshd's listener logs the process id of the connection itself
            fields["pid"] = pid
        vouched = frozenset(fields) if record.vouched or self._is_witnessed(record, fields) else NOTHING_VOUCHED
        count = min(MAX_COUNT, count)
        self._last = Event(at, kind, fields, vouched, count, record.origin)
        return self._last

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
