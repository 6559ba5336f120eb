"""The queue of logins for heartbeats."""

from agent.report.login_reports import IN_HEARTBEAT, QUEUED, REPETITIONS, LoginReports

ADDRESS = "203.0.113.7"


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
    assert [(each.at.timestamp(), each.guessed) for each in reports.take()] == [(3.0, False), (2.5, True)]


def test_a_heartbeat_takes_sixteen_and_the_queue_is_bounded() -> None:
    """More logins wait for the next heartbeats; of more than a thousand the oldest is dropped and counted."""
    reports = LoginReports()
    for number in range(QUEUED + 1):
        reports.add(ADDRESS, f"user-{number}", float(number), guessed=False)
    assert reports.dropped == 1
    assert [each.user for each in reports.take()] == [f"user-{number}" for number in range(1, IN_HEARTBEAT + 1)]


def test_a_name_that_the_contract_does_not_carry_is_shortened_or_left_out() -> None:
    """A user's name comes from a log, so it may be long, empty or no text."""
    reports = LoginReports()
    for user in ("", "x" * 999, "\udcff"):
        reports.add(ADDRESS, user, 1.0, guessed=False)
    assert [each.user for each in reports.take()] == ["x" * 64, "?"]
