"""Which lines have a header, and when, by which program and process they were written."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agent.parse.header import Header, HeaderParser

NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC).timestamp()
AT = datetime(2026, 11, 22, 10, 0, 1, tzinfo=UTC).timestamp()
TEXT = "Invalid user x from 192.0.2.7 port 22"


def header(line: str) -> Header | None:
    """The header of a line, read in UTC at `NOW`."""
    return HeaderParser(UTC).read(line, NOW)


@pytest.mark.parametrize(
    "line",
    [
        "Nov 22 10:00:01 host sshd[77]: ",
        "Nov 22 10:00:01 host.example.org sshd-session[77]: ",
        "Nov 22 10:00:01 2001:db8::1 sshd[77]: ",
        "Nov 22 10:00:01 sshd[77]: ",
        "<38>Nov 22 10:00:01 host sshd[77]: ",
        "Nov 22 10:00:01 host auth.info sshd[77]: ",
        "Nov 22 10:00:01 <auth.info> host sshd[77]: ",
        "Nov 22 10:00:01 host sshd[77]: [ID 800047 auth.info] ",
        "Nov 22 2026 10:00:01 host sshd[77]: ",
        "Nov 22 10:00:01 host /usr/sbin/sshd[77]: ",
        "2026-11-22T10:00:01Z host sshd[77]: ",
        "2026-11-22T10:00:01+00:00 host sshd[77]: ",
        "2026-11-22T11:00:01+0100 host sshd[77]: ",
        "2026-11-22 10:00:01 host sshd[77]: ",
        "<38>2026-11-22T10:00:01Z host sshd[77]: ",
        "<38>1 2026-11-22T10:00:01Z host sshd 77 - - ",
        "<38>1 2026-11-22T10:00:01Z host sshd 77 - - \ufeff",
        "<38>1 2026-11-22T10:00:01Z host sshd 77 - -  ",
        '<38>1 2026-11-22T10:00:01Z host sshd 77 ID7 [meta sequenceId="1"][x@1 a="\\]"] ',
        "Sun 2026-11-22 10:00:01 UTC host sshd[77]: ",
        "Sun 2026-11-22 13:00:01 +03 host sshd[77]: ",
        "\ufeffNov 22 10:00:01 host sshd[77]: ",
    ],
)
@pytest.mark.parametrize("end", ["", "\r", " \t", " \r\n"])
def test_formats(line: str, end: str) -> None:
    """Each format gives time, program, process and message; marks and blanks at the ends do not matter."""
    found = header(line + TEXT + end)
    assert found is not None
    assert found.at == AT
    assert found.program in {"sshd", "sshd-session"}
    assert (found.pid, found.message, found.repeats) == (77, TEXT, 0)


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 22 10:00:01.250000 host sshd[77]: {TEXT}",
        f"2026-11-22T10:00:01.250000+00:00 host sshd[77]: {TEXT}",
        f"2026-11-22T10:00:01,250+00:00 host sshd[77]: {TEXT}",
        f"Sun 2026-11-22 10:00:01.250000 UTC host sshd[77]: {TEXT}",
        f"<38>1 2026-11-22T10:00:01.25Z host sshd 77 - - {TEXT}",
        f"1795341601.250000 host sshd[77]: {TEXT}",
    ],
)
def test_fractions_of_seconds(line: str) -> None:
    """Formats with microseconds keep them."""
    found = header(line)
    assert found is not None
    assert found.at == AT + 0.25


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("Nov 22 10:00:01 host last message repeated 5 times", 5),
        ("Nov 22 10:00:01 host last message repeated 1 time", 1),
        ("Nov 22 10:00:01 last message repeated 5 times", 5),
        ("Nov 22 10:00:01 host syslogd: last message repeated 5 times", 5),
        ("Nov 22 10:00:01 host --- last message repeated 5 times ---", 5),
        ("<46>1 2026-11-22T10:00:01Z host syslogd - - - last message repeated 5 times", 5),
        ("Nov 22 10:00:01 host app[1]: last message repeated 5 times", 0),
        ("Nov 22 10:00:01 host app[1]: x last message repeated 5 times", 0),
    ],
)
def test_line_about_the_line_before(line: str, times: int) -> None:
    """Only the syslog daemon's own line repeats the one before it."""
    found = header(line)
    assert found is not None
    assert found.repeats == times


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 22 10:00:01 kernel: sshd[77]: {TEXT}",
        f"Nov 22 10:00:01 app[1]: sshd[77]: {TEXT}",
        f"Nov 22 10:00:01 host app: sshd[77]: {TEXT}",
        f"Nov 22 10:00:01 host app[1]: Nov 22 10:00:01 host sshd[77]: {TEXT}",
        f"Nov 22 10:00:01 host notsshd[77]: {TEXT}",
        f"<38>1 2026-11-22T10:00:01Z sshd app 77 - - sshd[77]: {TEXT}",
    ],
)
def test_program_is_the_first_one(line: str) -> None:
    """Text along the line is never taken for the program, with or without a host name in the header."""
    found = header(line)
    assert found is not None
    assert found.program != "sshd"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        f"sshd[77]: {TEXT}",
        f"10:00:01 host sshd[77]: {TEXT}",
        "{}",
        f"[  12.3] sshd[77]: {TEXT}",
        "-- Boot x --",
    ],
)
def test_line_without_a_header(line: str) -> None:
    """A line without one of the known headers is not understood."""
    assert header(line) is None


@pytest.mark.parametrize("stamp", ["Nov 31 10:00:01", "2026-13-22T10:00:01Z", "Nov 22 10:00:61", "Nov 22 25:00:00"])
def test_stamp_that_is_no_date(stamp: str) -> None:
    """A header whose date does not exist has no time."""
    found = header(f"{stamp} host sshd[77]: {TEXT}")
    assert found is not None
    assert found.at is None


@pytest.mark.parametrize(
    ("logged", "now", "zone", "meant"),
    [
        ("Nov  2 10:00:01", "2026-11-02T10:00:05Z", "UTC", "2026-11-02T10:00:01Z"),
        ("Dec 31 23:59:59", "2027-01-01T00:00:05Z", "UTC", "2026-12-31T23:59:59Z"),
        ("Jan  1 00:00:01", "2026-12-31T23:59:58Z", "UTC", "2027-01-01T00:00:01Z"),
        ("Nov 24 10:00:01", "2026-11-22T10:00:05Z", "UTC", "2026-11-24T10:00:01Z"),
        ("Dec  1 10:00:01", "2026-11-22T10:00:05Z", "UTC", "2025-12-01T10:00:01Z"),
        ("Feb 29 12:00:00", "2028-03-01T00:00:00Z", "UTC", "2028-02-29T12:00:00Z"),
        ("Feb 29 12:00:00", "2026-03-01T00:00:00Z", "UTC", "2024-02-29T12:00:00Z"),
        ("Jul  1 12:00:00", "2026-07-01T10:00:05Z", "Europe/Berlin", "2026-07-01T10:00:00Z"),
        ("Oct 25 02:30:00", "2026-10-25T00:30:05Z", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        ("Oct 25 02:30:00", "2026-10-25T01:30:05Z", "Europe/Berlin", "2026-10-25T01:30:00Z"),
        ("Jun 30 23:59:60", "2026-07-01T00:00:05Z", "UTC", "2026-07-01T00:00:00Z"),
        ("2026-11-22T10:00:01.250+01:00", "2030-01-01T00:00:00Z", "UTC", "2026-11-22T09:00:01.250Z"),
        ("2026-11-22T10:00:01", "2030-01-01T00:00:00Z", "Europe/Berlin", "2026-11-22T09:00:01Z"),
        ("Sun 2026-11-22 10:00:01 CET", "2030-01-01T00:00:00Z", "Europe/Berlin", "2026-11-22T09:00:01Z"),
    ],
)
def test_time(logged: str, now: str, zone: str, meant: str) -> None:
    """A missing year is the latest that is not far ahead, a repeated hour the closer one, a missing zone the host's."""
    parser = HeaderParser(ZoneInfo(zone))
    found = parser.read(f"{logged} host sshd[1]: {TEXT}", datetime.fromisoformat(now).timestamp())
    assert found is not None
    assert found.at == datetime.fromisoformat(meant).timestamp()


def test_cached_minute_is_not_used_for_another() -> None:
    """Lines of one minute, of the next and of the same minute of another day have their own times."""
    parser = HeaderParser(UTC)
    stamps = ["Nov 22 10:00:01", "Nov 22 10:00:59", "Nov 22 10:01:00", "Nov 21 10:01:00", "Nov 22 10:01:00"]
    times = [parser.read(f"{stamp} h sshd[1]: x", NOW) for stamp in stamps]
    assert [found and found.at for found in times] == [AT, AT + 58, AT + 59, AT + 59 - 86_400, AT + 59]
