"""The manager's log lines."""

import errno
import io
import sys
from collections.abc import Iterator
from typing import Never

import pytest
import structlog

from manager.cli.support.logs import configure_logs, in_one_line


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


class _Full(io.TextIOBase):
    """A file on a disk without room."""

    asked = 0

    def write(self, _text: str) -> int:
        self.asked += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        if self.asked and not self.closed:
            raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.usefixtures("_logs_as_before")
def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is lost when the disk is full; a request or a batch that was logged goes on."""
    full = _Full()
    monkeypatch.setattr(sys, "stderr", full)
    configure_logs()
    structlog.get_logger().warning("store_unavailable", reason="full")
    assert full.asked


def test_a_line_cannot_be_broken_by_what_it_quotes() -> None:
    """Text from outside stands escaped; numbers and truth stay what they are."""
    event = in_one_line(None, "info", {"event": "x", "hostname": "a\nb\x1b[31m", "count": 3, "fresh": True, "of": None})
    assert event == {"event": "x", "hostname": r"a\nb\x1b[31m", "count": 3, "fresh": True, "of": None}


def test_an_exception_is_named_with_its_place_and_no_values() -> None:
    """Type and place of an exception; local variables may be secrets and are left out."""
    try:
        _fail("swordfish")
    except ValueError:
        event = in_one_line(None, "error", {"event": "x", "exc_info": True})
    assert event["error"] == "ValueError: 9"
    assert "test_logs.py:" in event["where"]
    assert "swordfish" not in str(event)


def _fail(password: str) -> Never:
    raise ValueError(str(len(password)))
