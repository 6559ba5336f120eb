"""The manager's log lines."""

from typing import Never

from manager.cli.logs import in_one_line


def test_a_line_cannot_be_broken_by_what_it_quotes() -> None:
    """Text from outside stands escaped; numbers and truth stay what they are."""
    event = in_one_line(None, "info", {"event": "x", "hostname": "a\nb\x1b[31m", "count": 3, "fresh": True, "of": None})
    assert event == {"event": "x", "hostname": r"a\nb\x1b[31m", "count": 3, "fresh": True, "of": None}


def test_an_exception_is_named_with_its_place_and_no_values() -> None:
    """What it is and where it was raised; the variables around it may be secrets."""
    try:
        _fail("swordfish")
    except ValueError:
        event = in_one_line(None, "error", {"event": "x", "exc_info": True})
    assert event["error"] == "ValueError: 9"
    assert "test_log_lines.py:" in event["where"]
    assert "swordfish" not in str(event)


def _fail(password: str) -> Never:
    raise ValueError(str(len(password)))
