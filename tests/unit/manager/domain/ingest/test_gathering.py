"""The pace of processes that share the agents' messages."""

import pytest

from manager.domain.ingest.gathering import Gathering


@pytest.mark.parametrize(("processes", "left"), [(0, 0.0), (1, 0.05), (3, 0.15), (5, 0.25), (40, 0.25)])
def test_the_more_processes_the_longer_a_batch_is_gathered(processes: int, left: float) -> None:
    """Up to the longest wait; without processes nothing is gathered."""
    gathering = Gathering(0.05, 0.25)
    gathering.processes = processes
    assert gathering.left(100.0) == 0
    gathering.begin(100.0)
    assert gathering.left(100.0) == pytest.approx(left)
    assert gathering.left(100.0 + left + 0.001) == 0
