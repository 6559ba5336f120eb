"""The named cases of a forecast, and the ends of the time in which something counts."""

import pytest

from manager.domain.protection.forecast import CASES_NAMED, Allowance, Followups, HostLogin, Lift, forecast
from manager.domain.protection.measures import MEASURES_KEPT_FOR, ReportedMeasure, ScopedAddress

DAY = 86_400.0


def _block(value: str, at: float) -> ReportedMeasure:
    address = ScopedAddress("acme", "", value)
    return ReportedMeasure(address, 1, at, "sshd-brute-force", "block", 5, "would_be_taken", None)


def _login(value: str, at: float, *, guessed: bool = False) -> HostLogin:
    return HostLogin(ScopedAddress("acme", "", value), 2, "bob", at, guessed)


def test_at_most_fifty_cases_are_named_the_newest_first() -> None:
    """Of more addresses with evidence the 50 with the newest are named; all are counted."""
    addresses = sorted(f"198.51.100.{number}" for number in range(100))
    logins = [_login(value, DAY + number) for number, value in enumerate(addresses)]
    found = forecast((_block(value, DAY / 2) for value in addresses), Followups(logins, (), (), 2 * DAY))
    assert found.counts["loggedIn"] == len(addresses)
    assert [case.first.subject.value for case in found.cases()] == addresses[: -1 - CASES_NAMED : -1]


def test_an_address_without_evidence_is_counted_and_not_named() -> None:
    """An address that nobody used later is no case."""
    found = forecast([_block("203.0.113.7", DAY)], Followups((), (), (), 2 * DAY))
    assert (found.counts["addresses"], found.cases()) == (1, [])


def test_a_guessed_login_is_no_friend() -> None:
    """A login that looks like a guessed password is counted apart; a genuine one of another user counts."""
    guessed, genuine = _login("203.0.113.7", 2 * DAY, guessed=True), _login("203.0.113.7", 1.5 * DAY)
    alone = forecast([_block("203.0.113.7", DAY)], Followups([guessed], (), (), 3 * DAY)).counts
    both = forecast([_block("203.0.113.7", DAY)], Followups([guessed, genuine], (), (), 3 * DAY)).counts
    assert (alone["guessed"], alone["loggedIn"], alone["friends"]) == (1, 0, 0)
    assert (both["guessed"], both["loggedIn"], both["friends"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("after", "now", "counts"),
    [
        (0.0, 90 * DAY, 0),
        (1.0, 90 * DAY, 1),
        (MEASURES_KEPT_FOR, 90 * DAY, 1),
        (MEASURES_KEPT_FOR + 1, 90 * DAY, 0),
        (DAY, 2 * DAY, 1),
        (DAY + 1, 2 * DAY, 0),
    ],
)
def test_a_login_and_a_lift_count_within_thirty_days(after: float, now: float, counts: int) -> None:
    """From the moment after the block to 30 days after it, both ends known, and never what is not past."""
    block = _block("203.0.113.7", DAY)
    login, lift = _login("203.0.113.7", DAY + after), Lift(block.subject, DAY + after, "undo", "ann")
    found = forecast([block], Followups([login], [lift], (), now)).counts
    assert (found["loggedIn"], found["lifted"]) == (counts, counts)


@pytest.mark.parametrize(
    ("since", "until", "counts"),
    [
        (0.0, DAY, 0),
        (0.0, DAY + 1, 1),
        (2 * DAY, 3 * DAY, 1),
        (2 * DAY + 1, 3 * DAY, 0),
    ],
)
def test_an_allowance_counts_from_the_block_on(since: float, until: float, counts: int) -> None:
    """An entry that ended at the block does not count, nor one that is not there yet; any other does."""
    allowance = Allowance("203.0.113.0/24", "global", None, None, since, until)
    found = forecast([_block("203.0.113.7", DAY)], Followups((), (), [allowance], 2 * DAY)).counts
    assert found["allowlisted"] == counts
