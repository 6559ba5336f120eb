"""The guard's own log."""

from io import StringIO
from pathlib import Path

from agent.logs import EventLog, log_to


def test_text_from_outside_stays_on_its_line_and_in_its_field() -> None:
    """Line breaks, terminal escapes and quotes cannot forge a line, a field, or a colour."""
    stream = StringIO()
    log_to(stream)
    try:
        EventLog("watch").warning("threat", user='x" level=info\nevent=fine\x1b[31m', count=5, nothing=None)
    finally:
        log_to(None)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r'level=warning event=threat part=watch user="x\" level=info\nevent=fine\x1b[31m" count=5')


def test_an_exception_is_one_line() -> None:
    """An error is named with its text, without a traceback."""
    stream = StringIO()
    log_to(stream)
    try:
        Path("\n/none").stat()
    except FileNotFoundError:
        EventLog("x").exception("failed")
    finally:
        log_to(None)
    (line,) = stream.getvalue().splitlines()
    assert 'event=failed part=x error="FileNotFoundError: ' in line
