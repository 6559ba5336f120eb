"""Turns the records of one source into events."""

from datetime import tzinfo
from typing import NamedTuple

from agent.events import NOTHING_VOUCHED, Event, Record
from agent.parse import pam, sshd
from agent.parse.header import Header, HeaderParser

MAX_COUNT = 1_000_000
"""How often a message can have happened at most, however often a line says that it was repeated."""


class Read(NamedTuple):
    """The result of one record.

    Attributes:
        understood: The record's header could be read, or its source gives what a header has.
        event: The event that the record tells of, if it tells of one.
        stamp: Epoch seconds of the time stamp in the text; None if the text has none.
    """

    understood: bool
    event: Event | None = None
    stamp: float | None = None


class RecordReader:
    """Reads the records of one source, in order: a line may stand for repetitions of the one before it.

    The text of a record whose origin has an identifier is a message without a header.

    Args:
        zone: The zone of stamps that name none.
    """

    def __init__(self, zone: tzinfo) -> None:
        self._headers = HeaderParser(zone)
        self._last: Event | None = None

    def read(self, record: Record, now: float) -> Read:
        """Read one record.

        An event's time is the source's own; else now for a live record, whatever zone its stamp is in; else its stamp.

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
            return Read(understood=False)
        at = record.at if record.at is not None else now if record.live else header.at
        if record.cut or at is None:
            self._last = None
            return Read(True, stamp=header.at)
        event = self._repeated(header, record, at) if header.repeats else self._event(header, record, at)
        return Read(True, event, header.at)

    def _event(self, header: Header, record: Record, at: float) -> Event | None:
        self._last = None
        if header.program in sshd.PROGRAMS:
            found = sshd.read(header.message)
        elif header.program in pam.PROGRAMS:
            found = pam.read(header.program, header.message)
        else:
            return None
        if found is None:
            return None
        kind, fields, count = found
        if header.pid is not None:
            fields.setdefault("pid", header.pid)  # sshd's listener names the process that it speaks of
        vouched = frozenset(fields) if record.vouched else NOTHING_VOUCHED
        self._last = Event(at, kind, fields, vouched, min(count, MAX_COUNT), record.origin)
        return self._last

    def _repeated(self, header: Header, record: Record, at: float) -> Event | None:
        """The event of the line before, which happened again: `last message repeated N times`."""
        last = self._last
        if last is None:
            return None
        vouched = last.vouched if record.vouched else NOTHING_VOUCHED
        return Event(at, last.kind, last.fields, vouched, min(header.repeats, MAX_COUNT), last.origin)
