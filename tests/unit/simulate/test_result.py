"""Books of incidents: one too many of a run is told from two runs."""

from datetime import UTC, datetime, timedelta

import pytest

from simulate.manager_reader import Opened
from simulate.result import further_incidents

START = datetime(2027, 1, 15, 8, tzinfo=UTC)


def _opened(value: str, first: float, last: float) -> Opened:
    return Opened(value, START + timedelta(seconds=first), START + timedelta(seconds=last))


@pytest.mark.parametrize(
    ("incidents", "counted"),
    [
        ([], (0, 0)),
        ([("a", 0, 5), ("b", 0, 5)], (0, 0)),
        ([("a", 0, 5), ("a", 305, 310)], (1, 0)),
        ([("a", 305.002, 310), ("a", 0, 5)], (0, 1)),
        ([("a", 0, 400), ("a", 10, 20), ("a", 701, 702)], (1, 1)),
        ([("a", 0, 5), ("b", 200, 210), ("a", 2, 3), ("a", 4, 4)], (2, 0)),
    ],
)
def test_incidents_of_one_run_are_doubled_and_those_of_two_are_split(
    incidents: list[tuple[str, float, float]], counted: tuple[int, int]
) -> None:
    """A run ends at a gap of more than 300 s, whatever the order in which incidents were opened."""
    assert further_incidents([_opened(*each) for each in incidents]) == counted
