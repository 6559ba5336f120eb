"""Report budgets of HTTP agents: bursts, debt and bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from manager.api.middleware.rate_limits import ReportBudgets
from manager.domain.budget import Budget

BUDGET = Budget(messages=10, bytes=1000, burst=2)
STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 30), st.integers(0, 500)), max_size=40)


@given(STEPS)
def test_no_more_than_the_rate_passes_beyond_one_burst(steps: list[tuple[float, int, int]]) -> None:
    """At any time the admitted reports are within burst and rate, but for the last request, which may make debt."""
    budgets, now, passed = ReportBudgets(BUDGET), 0.0, 0
    for pause, reports, size in steps:
        now += pause
        if budgets.wait("a", now) == 0:
            assert passed <= 20 + 10 * now
            budgets.charge("a", reports, size, now)
            passed += reports


@given(STEPS)
def test_waiting_as_told_is_enough(steps: list[tuple[float, int, int]]) -> None:
    """After the returned wait the next report is admitted."""
    budgets, now = ReportBudgets(BUDGET), 0.0
    for pause, reports, size in steps:
        now += pause
        wait = budgets.wait("a", now)
        if wait:
            now += wait + 1e-6
            assert budgets.wait("a", now) == 0
        budgets.charge("a", reports, size, now)


def test_an_agent_in_debt_is_not_forgotten() -> None:
    """Only a full bucket is dropped: forgetting a debt would pay it."""
    budgets = ReportBudgets(BUDGET)
    budgets.charge("in-debt", 60, 0, 0.0)
    budgets.charge("other", 1, 0, 3.0)  # later than the burst's length
    assert budgets.wait("in-debt", 3.0) > 0
    assert len(budgets) == 2
    budgets.charge("other", 1, 0, 10.0)
    assert len(budgets) == 1


def test_memory_is_bounded() -> None:
    """Beyond the maximum of agents the one idle longest is dropped."""
    budgets = ReportBudgets(BUDGET, max_keys=3)
    for number in range(10):
        budgets.charge(str(number), 20, 0, 0.0)
    assert len(budgets) == 3
    assert budgets.wait("9", 0.0) > 0
    assert budgets.wait("0", 0.0) == 0
