from collections.abc import Iterator

import pytest

from tests.faults.hostile_broker.fleet import HostileFleet
from tests.faults.hostile_broker.past import live_through_a_past, new_fleet


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileFleet]:
    """A fleet that has lived through everything, shared by the tests of a file, which must leave it as it was."""
    with new_fleet(tmp_path_factory.mktemp("hostile")) as fleet:
        yield live_through_a_past(fleet)
