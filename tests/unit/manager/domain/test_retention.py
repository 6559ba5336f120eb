"""Retention: trust in the clock, the limit on deletions in an hour, and times of receipt that cannot be right."""

from math import ceil
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.instant import Instant
from manager.domain.retention import DAY, EARLIEST, HOUR, ClockTrust, DeletionBudget, last_expired

WALL = 1_800_000_000.0


def at(seconds: float, ahead: float = 0.0) -> Instant:
    return Instant(WALL + seconds + ahead, 1000.0 + seconds)


def started() -> ClockTrust:
    trust = ClockTrust()
    assert not trust.is_trusted(at(0))
    return trust


def test_three_agents_confirm_the_clock() -> None:
    """Two agents are not enough; the third makes it, and one whose own clock is wrong does not prevent it."""
    trust = started()
    for name in ("a", "b", "a", "b"):
        trust.observe(name, WALL, at(1))
        assert not trust.is_trusted(at(1))
    trust.observe("c", WALL - 30 * DAY, at(1))
    assert trust.is_trusted(at(1))


def test_agents_that_disagree_do_not_confirm_it() -> None:
    """A clock that is ten minutes off by the median of the agents stays untrusted; within ten minutes it is trusted."""
    for off, trusted in ((601, False), (-601, False), (599, True), (-599, True)):
        trust = started()
        for name in ("a", "b", "c"):
            trust.observe(name, WALL + off, at(0))
        assert trust.is_trusted(at(0)) is trusted
        assert trust.difference() == (None if trusted else off)


OFFSETS = st.lists(st.floats(-1200, 1200), max_size=60)


@given(OFFSETS, st.lists(st.integers(0, 59), max_size=20))
def test_the_median_of_each_agents_newest_message_decides(offsets: list[float], again: list[int]) -> None:
    """An agent counts once, however often it sends."""
    trust, newest = started(), {}
    for name in [*range(len(offsets)), *(each % len(offsets) for each in again if offsets)]:
        newest[name] = offsets[name] - len(newest)
        trust.observe(str(name), WALL + newest[name], at(0))
    agreed = len(newest) >= 3 and abs(median(newest.values())) <= 600
    assert trust.is_trusted(at(0)) is agreed


@pytest.mark.parametrize(("wrong_percent", "trusted"), [(45, True), (55, False)])
def test_a_sample_of_a_large_fleet_confirms_the_clock(wrong_percent: int, trusted: bool) -> None:
    """However many agents there are, two thousand clocks are compared at most: the work of a step has a bound."""
    trust = started()
    for number in range(100_000):
        off = 2 * DAY if number % 100 < wrong_percent else 1.0
        trust.observe(f"ag-{number:016x}", WALL + off, at(0))
    assert 1_000 <= trust.witnesses <= 2_000
    assert trust.is_trusted(at(0)) is trusted
    assert trust.difference() == (None if trusted else 2 * DAY)


def test_after_a_step_all_agents_are_drawn_anew() -> None:
    """The sample of a fleet that was large before does not keep three agents from confirming the clock."""
    trust = started()
    for number in range(5_000):
        trust.observe(str(number), WALL - 2 * DAY, at(0))
    for name in ("a", "b", "c"):
        trust.observe(name, WALL + 2 * DAY, at(0, 2 * DAY))
    assert trust.witnesses == 3
    assert trust.is_trusted(at(0, 2 * DAY))


def test_a_day_of_running_or_an_operator_makes_it_trusted() -> None:
    """Without agents it takes 24 hours, or one command."""
    trust = started()
    assert not trust.is_trusted(at(DAY - 1))
    assert trust.is_trusted(at(DAY))
    accepted = started()
    accepted.accept(at(1))
    assert accepted.is_trusted(at(2))


def test_a_step_of_more_than_an_hour_withdraws_the_trust() -> None:
    """Forward and back, at once or in pieces; a shorter one does not; the agents confirm the new time."""
    for steps, trusted in (([3500.0], True), ([3601.0], False), ([-3601.0], False), ([1900.0, 3700.0], False)):
        trust = started()
        trust.accept(at(0))
        found = [trust.is_trusted(at(second, step)) for second, step in enumerate(steps, 1)]
        assert found[-1] is trusted
        for name in ("a", "b", "c"):
            trust.observe(name, at(10, steps[-1]).wall, at(10, steps[-1]))
        assert trust.is_trusted(at(10, steps[-1]))


def test_a_day_of_running_counts_from_the_step() -> None:
    """A step starts the 24 hours anew, and an operator's word before it counts for nothing."""
    trust = started()
    trust.accept(at(0))
    assert not trust.is_trusted(at(DAY, 2 * DAY))
    assert not trust.is_trusted(at(2 * DAY - 1, 2 * DAY))
    assert trust.is_trusted(at(2 * DAY, 2 * DAY))


STEPS = st.lists(st.tuples(st.floats(0, 4000), st.integers(0, 500), st.integers(0, 5000)), max_size=40)


@given(STEPS, st.sampled_from([DAY, 7 * DAY, HOUR]))
def test_no_hour_deletes_more_than_its_share(steps: list[tuple[float, int, int]], retention: float) -> None:
    """In any window the deletions stay below a 24th of the most rows of the 24 windows before, plus a tenth."""
    budget, now, held = DeletionBudget(retention), 0.0, 1000
    window = min(HOUR, retention / 24)
    deleted: list[tuple[float, int]] = []
    sizes: list[tuple[float, int]] = []
    for passed, stored, wanted in steps:
        now += passed
        held += stored
        sizes.append((now, held))
        number = min(wanted, budget.left(held, now))
        budget.spend(number, now)
        deleted.append((now, number))
        held -= number
        most = max(size for moment, size in sizes if moment > now - 24 * window)
        in_window = sum(each for moment, each in deleted if moment > now - window)
        assert in_window <= ceil(most / 24 * 1.1) or number == 0


def test_a_fleet_that_reports_steadily_never_outgrows_the_budget() -> None:
    """A day's rows with a day's retention are deleted as fast as they come."""
    budget, held = DeletionBudget(DAY), 24_000
    for minute in range(60 * 48):
        held += 17
        number = min(17, budget.left(held, minute * 60.0))
        budget.spend(number, minute * 60.0)
        held -= number
    assert held == 24_000


def test_a_store_that_nobody_adds_to_is_emptied_in_a_day() -> None:
    """The rows of the last 24 hours count, so that the limit does not shrink with what is left."""
    budget, held, minutes = DeletionBudget(DAY), 24_000, 0
    while held:
        number = min(held, budget.left(held, minutes * 60.0))
        budget.spend(number, minutes * 60.0)
        held -= number
        minutes += 1
    assert 20 * 60 < minutes < 23 * 60


def test_a_time_that_cannot_be_right_is_judged_by_its_neighbours() -> None:
    """Rows of 1970 take no fresh row along and outlive their elders; rows stamped ahead go with the next good one."""
    before = WALL - DAY
    old, fresh = before - 10, before + 10
    assert last_expired([(1, old), (2, 0.0), (3, fresh)], before, WALL) == 1
    assert last_expired([(1, fresh), (2, 0.0), (3, 0.0)], before, WALL) is None
    assert last_expired([(1, 0.0), (2, 0.0)], before, WALL) is None
    assert last_expired([(1, WALL + DAY), (2, old), (3, fresh)], before, WALL) == 2
    assert last_expired([(1, old), (2, WALL + DAY), (3, fresh)], before, WALL) == 1
    assert last_expired([(1, old - 1), (2, old)], before, WALL) == 2


ROWS = st.lists(st.tuples(st.floats(0, 3 * DAY), st.sampled_from([0.0, 0.0, 0.0, -WALL, 10 * DAY])), max_size=30)


@given(ROWS)
def test_wrong_times_change_nothing_for_the_others(rows: list[tuple[float, float]]) -> None:
    """The oracle knows each row's true time: those up to the last good row that has expired go, and no other."""
    true = sorted(WALL - 3 * DAY + age for age, _ in rows)
    wrong = [error for _, error in rows]
    stamped = [(number, max(0.0, true[number] + wrong[number])) for number in range(len(rows))]
    before = WALL - DAY
    expired = [number for number in range(len(rows)) if not wrong[number] and true[number] < before]
    assert last_expired(stamped, before, WALL) == (expired[-1] if expired else None)


def test_the_earliest_time_is_the_first_day_of_2025() -> None:
    """No row of this release is older."""
    assert EARLIEST == 1_735_689_600.0
