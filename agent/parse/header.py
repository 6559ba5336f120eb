"""Reads the header of a log line: RFC 3164, RFC 3339, RFC 5424 and the text formats of journalctl.

The format is recognised line by line, so it may change within a file. Program and process id are read from the first
place where a header can have them, so text later in the line cannot forge them.
"""

import re
from datetime import tzinfo
from typing import NamedTuple

from agent.parse.timestamps import MONTHS, TimestampParser

# A host name neither contains a bracket nor ends in a colon: `kernel: sshd[1]: …` in a log without host names is the
# kernel's line and not sshd's. BusyBox writes facility and level after the host, FreeBSD's syslogd -v before it.
_BODY = (
    r"(?:<[\w.]{3,20}> )?"
    r"(?:(?P<host>[^\s\[]*[^\s\[:]) )?"
    r"(?:(?:auth|authpriv|security|daemon|user|local[0-7]|syslog|console)\.\w{3,7} )?"
    r"(?P<program>[^\s\[\]:]{1,128})(?:\[(?P<pid>\d{1,10})\])?: ?(?P<message>.*)"
)
_CLOCK = r"(?P<clock>\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)"
_PRIORITY = r"(?:<\d{1,3}>)?"

_TRADITIONAL_STAMP = (
    rf"{_PRIORITY}(?P<month>{'|'.join(MONTHS)}) {{1,2}}(?P<day>\d{{1,2}}) (?:(?P<year>\d{{4}}) )?{_CLOCK}:? "
)
_ISO_STAMP = rf"{_PRIORITY}(?P<iso>\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?(?:Z|[+-]\d\d:?\d\d)?):? "
_TRADITIONAL = re.compile(rf"{_TRADITIONAL_STAMP}(?P<body>.*)", re.ASCII | re.DOTALL)
_ISO = re.compile(rf"{_ISO_STAMP}(?P<body>.*)", re.ASCII | re.DOTALL)
_FULL = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?P<iso>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)"
    r" (?P<zone>[A-Z]{1,5}|[+-]\d\d(?:\d\d)?) (?P<body>.*)",
    re.ASCII | re.DOTALL,
)
_UNIX = re.compile(r"(?P<unix>\d{9,11}\.\d{1,9}) (?P<body>.*)", re.ASCII | re.DOTALL)
_SYSLOG = re.compile(
    r"<\d{1,3}>1 (?P<iso>\d{4}-\S+) \S+ (?P<program>\S{1,128}) (?P<pid>\S{1,128}) \S+ "
    r"(?:-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: \ufeff? ?(?P<message>.*))?",
    re.ASCII | re.DOTALL,
)
_BODY_PATTERN = re.compile(_BODY, re.ASCII | re.DOTALL)

# The two commonest formats as a whole, in one step: the same as the stamp's pattern and then the body's.
_TRADITIONAL_LINE = re.compile(rf"{_TRADITIONAL_STAMP}{_BODY}", re.ASCII | re.DOTALL)
_ISO_LINE = re.compile(rf"{_ISO_STAMP}{_BODY}", re.ASCII | re.DOTALL)
_SOLARIS_ID = re.compile(r"\[ID \d{1,10} \w+\.\w+\] ", re.ASCII)
_REPEATED_TEXT = "last message repeated"
_LAST_REPEATED = re.compile(
    r"(?:\S+ )?(?:(?:syslogd|syslog)(?:\[\d+\])?: )?(?:--- )?last message repeated (?P<times>\d{1,6}) times?(?: ---)?",
    re.ASCII,
)
_LAST_REPEATED_MESSAGE = re.compile(r"last message repeated (?P<times>\d{1,6}) times?", re.ASCII)


class Header(NamedTuple):
    """The header fields of a line, and its message.

    Attributes:
        at: Epoch seconds of the time stamp; None if it is invalid.
        program: The program's name without its folder; empty for the line of a syslog daemon about the one before it.
        pid: The process id, None if the line has none.
        message: The text after the header.
        repeats: N of `last message repeated N times`; otherwise 0.
    """

    at: float | None
    program: str
    pid: int | None
    message: str
    repeats: int = 0


Stamp = tuple[str] | tuple[str, str, str, str | None]
"""The text of a time stamp: of RFC 3339 as a whole; month, day, time and year of a traditional one."""

CommonHeader = tuple[Stamp, str, str | None, str]
"""Time stamp, program, process id and message of a line, as text."""


class HeaderParser:
    """Parses the headers of log lines.

    Args:
        zone: The time zone of time stamps without one.
    """

    def __init__(self, zone: tzinfo) -> None:
        self._stamps = TimestampParser(zone)

    def read(self, line: str, now: float) -> Header | None:
        """Parse one whole line without its newline; return None if it has no known header.

        A byte order mark, blanks and carriage returns at the ends are ignored.

        Args:
            line: The line.
            now: Epoch seconds, to determine the year of a time stamp without one.
        """
        line = bare(line)
        return self._common(line, now) or self.other(line, now)

    def common(self, line: str) -> CommonHeader | None:
        """Split a line of one of the two commonest formats in one step, without parsing its time stamp.

        Return None for any other line. The line has no byte order mark, and no blanks at its ends.
        """
        if _REPEATED_TEXT in line or "[ID " in line:
            return None
        match = _ISO_LINE.fullmatch(line)
        if match is not None:
            stamp, _host, program, pid, message = match.groups()
            return (stamp,), program if "/" not in program else _base(program), pid, message
        match = _TRADITIONAL_LINE.fullmatch(line)
        if match is None:
            return None
        month, day, year, clock, _host, program, pid, message = match.groups()
        return (month, day, clock, year), _base(program), pid, message

    def stamp(self, stamp: Stamp, now: float) -> float | None:
        """Return the epoch seconds of the time stamp of a split line; None if there is no such time."""
        return self._stamps.iso(stamp[0]) if len(stamp) == 1 else self._stamps.traditional(*stamp, now)

    def _common(self, line: str, now: float) -> Header | None:
        """Parse a line of one of the two commonest formats; return None for any other."""
        split = self.common(line)
        if split is None:
            return None
        stamp, program, pid, message = split
        return Header(self.stamp(stamp, now), program, None if pid is None else int(pid), message)

    def other(self, line: str, now: float) -> Header | None:
        """Parse a line of any format, `bare` already; return None if it has no known header."""
        first = line[:1]
        if first.isdigit():
            return self._iso(line) or self._unix(line)
        if first == "<":
            return self._syslog(line) or self._iso(line) or self._traditional(line, now)
        return self._traditional(line, now) or self._full(line)

    def _traditional(self, line: str, now: float) -> Header | None:
        match = _TRADITIONAL.fullmatch(line)
        if match is None:
            return None
        at = self._stamps.traditional(match["month"], match["day"], match["clock"], match["year"], now)
        return _with_body(at, match["body"])

    def _iso(self, line: str) -> Header | None:
        match = _ISO.fullmatch(line)
        return None if match is None else _with_body(self._stamps.iso(match["iso"]), match["body"])

    def _full(self, line: str) -> Header | None:
        match = _FULL.fullmatch(line)
        if match is None:
            return None
        return _with_body(self._stamps.with_zone_name(match["iso"], match["zone"]), match["body"])

    def _unix(self, line: str) -> Header | None:
        match = _UNIX.fullmatch(line)
        return None if match is None else _with_body(float(match["unix"]), match["body"])

    def _syslog(self, line: str) -> Header | None:
        match = _SYSLOG.fullmatch(line)
        if match is None:
            return None
        message, pid = match["message"] or "", match["pid"]
        repeated = _LAST_REPEATED_MESSAGE.fullmatch(message) if match["program"] in ("-", "syslogd") else None
        at = self._stamps.iso(match["iso"])
        if repeated is not None:
            return Header(at, "", None, message, int(repeated["times"]))
        return Header(at, _base(match["program"]), int(pid) if pid.isascii() and pid.isdigit() else None, message)


def bare(line: str) -> str:
    """Return a line without a byte order mark, and without blanks and carriage returns at its ends."""
    return line.lstrip("\ufeff").rstrip(" \t\r\n\0")


def _with_body(at: float | None, body: str) -> Header | None:
    repeated = _LAST_REPEATED.fullmatch(body) if _REPEATED_TEXT in body else None
    if repeated is not None:
        return Header(at, "", None, body, int(repeated["times"]))
    match = _BODY_PATTERN.fullmatch(body)
    if match is None:
        return None
    message = match["message"]
    if message.startswith("[ID "):
        message = _SOLARIS_ID.sub("", message, count=1)
    return Header(at, _base(match["program"]), None if match["pid"] is None else int(match["pid"]), message)


def _base(program: str) -> str:
    return program.rpartition("/")[2] if "/" in program else program
