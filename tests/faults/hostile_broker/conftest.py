from collections.abc import Iterator

import pytest

from tests.faults.hostile_broker.fleet import HostileFleet
from tests.faults.hostile_broker.past import live_through_a_past, new_fleet
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileFleet]:
    """A fleet that has lived through everything, shared by the tests of a file, which must leave it as it was."""
    with new_fleet(tmp_path_factory.mktemp("hostile")) as fleet:
        past = live_through_a_past(fleet)
        eventually(lambda: all(each["outboxDropped"] is not None for each in past.facts()["agents"]), what="heartbeats")
        yield past
