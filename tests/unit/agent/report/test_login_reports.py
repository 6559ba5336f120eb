"""The queue of logins for heartbeats."""

from collections import Counter
from collections.abc import Iterator
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.logs import log_to
from agent.report.login_reports import QUEUED, REPETITIONS, LoginReports
from schemas.limits import LOGINS_IN_HEARTBEAT

ADDRESS = "203.0.113.7"


@pytest.fixture
def guard_output() -> Iterator[StringIO]:
    """What the guard's parts log."""
    written = StringIO()
    log_to(written)
    yield written
    log_to(None)


def test_each_login_is_in_three_heartbeats() -> None:
    """A heartbeat may be lost, so each login is repeated, and no more often."""
    reports = LoginReports()
    reports.add(ADDRESS, "bob", 1.0, guessed=False)
    taken = [reports.take() for _ in range(REPETITIONS + 1)]
    assert [[each.user for each in logins] for logins in taken] == [["bob"]] * REPETITIONS + [[]]


def test_the_newest_login_of_a_user_replaces_the_earlier_one() -> None:
    """Of address and user only the newest is queued; an older one that is read later changes nothing."""
    reports = LoginReports()
    for at in (1.0, 3.0, 2.0):
        reports.add(ADDRESS, "bob", at, guessed=False)
    reports.add(ADDRESS, "bob", 2.5, guessed=True)
    assert [(each.at.timestamp(), each.guessed) for each in reports.take()] == [(2.5, True), (3.0, False)]


def test_a_new_login_goes_before_what_waits_and_before_repetitions() -> None:
    """With a day's logins queued, as after a restart, a login of now is in the next heartbeat."""
    reports = LoginReports()
    for number in range(LOGINS_IN_HEARTBEAT * 3 - 1):
        reports.add(ADDRESS, f"user-{number}", float(number), guessed=False)
    assert len(reports.take()) == LOGINS_IN_HEARTBEAT
    reports.add(ADDRESS, "now", 1e6, guessed=False)
    assert "now" in {each.user for each in reports.take()}
    assert {"user-0", "user-1"} <= {each.user for each in reports.take()}


@given(st.lists(st.integers(0, 120), max_size=100))
def test_each_login_is_in_three_heartbeats_whatever_comes_in_between(pauses: list[int]) -> None:
    """No login is lost while the queue has room, and none is reported more often."""
    reports, told, added = LoginReports(), Counter[str](), 0
    for pause in pauses:
        for _ in range(pause % 5):
            reports.add(ADDRESS, f"user-{added}", float(added), guessed=False)
            added += 1
        if pause > 60:
            told.update(each.user for each in reports.take())
    for _ in range(added * REPETITIONS):
        told.update(each.user for each in reports.take())
    assert told == {f"user-{number}": REPETITIONS for number in range(added)}


def test_beyond_the_bound_repetitions_are_left_out_first_and_what_is_lost_is_logged(guard_output: StringIO) -> None:
    """Only a login that no heartbeat has carried is lost, and the log says how many."""
    reports = LoginReports()
    for number in range(QUEUED):
        reports.add(ADDRESS, f"user-{number}", float(number), guessed=False)
    reports.take()
    for number in range(LOGINS_IN_HEARTBEAT):
        reports.add(ADDRESS, f"more-{number}", 2000.0 + number, guessed=False)
    assert reports.dropped == 0
    reports.add(ADDRESS, "last", 3000.0, guessed=False)
    assert reports.dropped == 1
    reports.take()
    reports.take()
    assert guard_output.getvalue().count("event=logins_not_reported part=logins count=1") == 1


def test_a_name_that_the_contract_does_not_carry_is_shortened_or_left_out() -> None:
    """A user's name comes from a log, so it may be long, empty or no text."""
    reports = LoginReports()
    for at, user in enumerate(("", "x" * 999, "\udcff")):
        reports.add(ADDRESS, user, float(at), guessed=False)
    assert [each.user for each in reports.take()] == ["x" * 64, "?"]
