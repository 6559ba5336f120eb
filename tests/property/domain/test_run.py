"""Runs, whose points are left out where they decide nothing, against runs that keep every report."""

from collections.abc import Collection
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.correlation.indicators import Indicator
from manager.domain.correlation.timeline import Timeline
from tests.property.domain.correlation_oracle import Seen, complete_runs
from tests.support.examples import examples

# Pauses that chain reports to long runs, and an agent that reports more than others: such runs stay incomplete long.
_PAUSES = st.sampled_from([0.0, 50.0, 100.0, 150.0, 250.0, 250.0, 300.0, 300.001])
_AGENTS = st.sampled_from("aaabbcd")
_REPORTS = st.lists(st.tuples(_PAUSES, _AGENTS, st.booleans()), min_size=3, max_size=12).map(
    lambda reports: [
        (round(sum(pause for pause, _, _ in reports[:position]), 3), agent_id, late)
        for position, (_, agent_id, late) in enumerate(reports)
    ]
)


def _place(timeline: Timeline, time: float, agent_id: str, *, late: bool = False) -> Collection[str]:
    """Place a report as the correlator does; return the agents that are in a complete run by it."""
    if not late and timeline.continue_alone(time, agent_id):
        return ()
    return timeline.place(time, agent_id, late=late).joined or ()


@given(_REPORTS.flatmap(st.permutations), st.sampled_from([2, 3, 3, 4]))
@settings(max_examples=examples(300))
def test_points_left_out_decide_nothing(reports: list[tuple[float, str, bool]], threshold: int) -> None:
    """After each report, in any order, the same runs are complete, with the same ends, counts and lateness."""
    timeline = Timeline(Indicator("technique", "T1110", "acme", None), threshold, -10_000.0)
    seen: list[Seen] = []
    for time, agent_id, late in reports:
        gathered = _place(timeline, time, agent_id, late=late)
        received = round(time * 1000) + (300_001 if late else 0)
        seen.append(Seen(round(time * 1000), received, agent_id, trusted=True))
        complete = complete_runs(seen, threshold)
        assert [
            (round(run.first * 1000), round(run.last * 1000), run.count, run.late)
            for run in timeline.runs
            if run.complete
        ] == [(run[0].event, run[-1].event, len(run), any(each.late for each in run)) for run in complete]
        here = [run for run in complete if run[0].event <= round(time * 1000) <= run[-1].event]
        assert bool(gathered) == bool(here)


@given(_REPORTS, st.sampled_from([2, 3, 3, 4]))
@settings(max_examples=examples(300))
def test_every_agent_of_a_complete_run_is_gathered_once_it_is(
    reports: list[tuple[float, str, bool]], threshold: int
) -> None:
    """A run's members are all its agents, also those whose points were left out or trimmed."""
    timeline = Timeline(Indicator("technique", "T1110", "acme", None), threshold, -10_000.0)
    gathered: set[str] = set()
    for time, agent_id, _ in reports:
        gathered |= set(_place(timeline, time, agent_id))
        timeline.forget(time - 600.001)
    seen = [Seen(round(time * 1000), round(time * 1000), agent_id, trusted=True) for time, agent_id, _ in reports]
    assert gathered == {each.agent_id for run in complete_runs(seen, threshold) for each in run}


def test_the_points_kept_of_one_agent_suffice_in_every_order() -> None:
    """All ways in which one agent reports thrice and two others once, on a grid of 60 s: three within 300 s or not."""
    for *own, second, third in product(range(9), repeat=5):
        if second > third:
            continue  # the same as the other way round
        timeline = Timeline(Indicator("technique", "T1110", "acme", None), 3, -10_000.0)
        for step in own:
            _place(timeline, step * 60.0, "a")
        _place(timeline, second * 60.0, "b")
        complete = bool(_place(timeline, third * 60.0, "c"))
        assert complete == any(max(step, third) - min(step, second) <= 5 for step in own), (own, second, third)
        reported = [step * 60.0 for step in (*own, second, third)]
        runs = timeline.runs
        assert (runs[0].first, runs[-1].last, sum(run.count for run in runs)) == (min(reported), max(reported), 5)
