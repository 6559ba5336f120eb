"""The forecast as text: it tells blocks from those that would be taken, and cuts nothing at a terminal's width."""

from typing import Any

import pytest

from manager.cli.commands.protection import forecast_lines
from manager.domain.protection.forecast import totals

ADDRESS = "2001:db8:1234:5678:9abc:def0:1234:5678"


def _case(**members: Any) -> dict[str, Any]:
    return {
        "address": ADDRESS,
        "at": "2026-11-29T08:00:00.000Z",
        "guesses": 5,
        "outcome": "would_be_taken",
        "connections": 0,
        "login": {"user": "bob", "hostname": "ip-10-0-12-34.eu-central-1", "at": "2026-11-29T09:00:00.000Z",
                  "guessed": False},
        "lift": None,
        "allowance": None,
    } | members  # fmt: skip


def _forecast(*cases: dict[str, Any], **counts: Any) -> dict[str, Any]:
    return {**totals({}), "hosts": 1, "hostsReportingLogins": 1, **counts, "cases": list(cases)}


@pytest.mark.parametrize("width", [80, 140])
def test_no_word_is_broken_at_a_terminals_width(width: int) -> None:
    """Addresses, hostnames and times stand whole in lines that fit."""
    lift = {"kind": "undo", "author": "ann", "at": "2026-11-29T10:00:00.000Z"}
    allowance = {"value": "2001:db8:1234::/48", "scope": "organization:acme", "since": "2026-11-29T11:00:00.000Z"}
    case = _case(lift=lift, allowance=allowance, connections=3)
    counts = {"loggedIn": 2, "addresses": 1204, "friends": 2, "lifted": 1, "allowlisted": 1, "beforeSixthGuess": 1168}
    lines = forecast_lines(_forecast(case, **counts), 30, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for whole in (ADDRESS, case["login"]["hostname"], allowance["value"], lift["at"] + ";"):
        assert whole in words
    assert " ".join(words).startswith(
        f"30 days: 1,204 addresses would have been blocked, 2 later logged in (bob from {ADDRESS}, …), "
        "0 customers cut; 97 % before their 6th guess"
    )


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"addresses": 1, "taken": 1}, "1 day: 1 address was blocked, 0 later logged in, 0 customers cut; 0 %"),
        ({"addresses": 3, "taken": 2}, "3 addresses were or would have been blocked (2 were)"),
        ({"addresses": 2, "connectionsUnknown": 2}, "customers cut: unknown"),
        ({"addresses": 2, "connectionsUnknown": 1}, "0 customers cut (unknown for 1)"),
        ({"addresses": 2, "guessed": 1}, "1 with a later login that looks like a guessed password"),
        ({"addresses": 2, "hosts": 9, "hostsReportingLogins": 7}, "2 of 9 hosts do not report logins"),
        ({"throttled": 1}, "1 throttled only"),
    ],
)
def test_the_sentence_says_what_is_known(counts: dict[str, int], said: str) -> None:
    """Taken is not the same as would be taken, and unknown is not zero."""
    assert said in " ".join(forecast_lines(_forecast(**counts), 1, 400))


def test_a_case_that_was_blocked_says_so() -> None:
    """Of a block that was taken the connections were cut; of another one they would have been."""
    taken, not_taken = (
        " ".join(forecast_lines(_forecast(_case(outcome=outcome, connections=2), addresses=1), 30, 400))
        for outcome in ("taken", "would_be_taken")
    )
    assert f"{ADDRESS} blocked at guess 5" in taken
    assert "2 connections cut" in taken
    assert f"{ADDRESS} would have been blocked at guess 5" in not_taken
    assert "2 connections would have been cut" in not_taken
