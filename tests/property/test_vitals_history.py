"""Vitals over time are the sums of the heartbeats of each period, however the heartbeats come to the store."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.domain.agents.vitals_history import PERIOD, VitalsSample, period_of
from manager.engine.batch import Changes
from manager.engine.ports import PruneOrder
from manager.storage import tables
from manager.storage.queries import StoreQueries
from manager.storage.store import PeeweeStore
from schemas.model import iso
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

NOW = 1_800_000_450.0
NEWEST = period_of(NOW)


def _sample(period: int, agent_number: int, cpu: int, memory: int, events_total: int) -> VitalsSample:
    return VitalsSample(period, agent_number, cpu, cpu, memory, events_total)


samples = st.lists(
    st.builds(
        _sample,
        period=st.integers(NEWEST - 99, NEWEST) | st.integers(NEWEST - 3, NEWEST),
        agent_number=st.integers(1, 2),
        cpu=st.integers(0, 1000),
        memory=st.integers(0, 1000),
        events_total=st.integers(0, 50),
    ),
    max_size=30,
)


class Stored:
    """A store of two agents, and its queries."""

    def __init__(self, path: Path) -> None:
        self.database = open_migrated(path)
        tables.database.initialize(self.database)
        self.store = PeeweeStore(self.database, bytes(32))
        agents = [
            Agent(number, f"ag-{number}", "acme", Host.of(f"host-{number}", "os", "arch", "1"),
                  credential_of(bytes(32)), None, Door.MQTT, NOW)
            for number in (1, 2)
        ]  # fmt: skip
        self.store.commit(Changes(agents={agent.agent_id: agent for agent in agents}))
        self.queries = StoreQueries(open_reading(path))


@pytest.fixture(scope="module")
def stored(each_system: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    made = Stored(tmp_path_factory.mktemp(each_system) / "store.db")
    yield made
    made.queries._reader._database.close()
    made.database.close()


def _expected(given_: list[VitalsSample], number: int) -> list[dict[str, Any]]:
    periods: dict[int, list[VitalsSample]] = defaultdict(list)
    for each in given_:
        if each.agent_number == number:
            periods[each.period].append(each)
    found = []
    for period in sorted(periods):
        if period < NEWEST - 96:
            continue
        of_it, before = periods[period], periods.get(period - 1)
        events = None if before is None else of_it[-1].events_total - before[-1].events_total
        found.append(
            {
                "at": iso(period * PERIOD),
                "heartbeats": len(of_it),
                "cpu": round(sum(each.cpu for each in of_it) / len(of_it) / 10, 1),
                "cpuHighest": max(each.cpu for each in of_it) / 10,
                "memory": round(sum(each.memory for each in of_it) / len(of_it) / 10, 1),
                "events": None if events is None or events < 0 else events,
            }
        )
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(60))
@given(given_=samples, size=st.integers(1, 7))
def test_the_periods_are_the_sums_of_their_heartbeats(stored: Stored, given_: list[VitalsSample], size: int) -> None:
    """For each agent, in transactions of any size; a count that goes back, or begins, tells no events."""
    stored.database.execute_sql("DELETE FROM agent_vitals_history")
    for start in range(0, len(given_), size):
        stored.store.commit(Changes(vitals_history=given_[start : start + size]))
    for number in (1, 2):
        found = stored.queries.agent_vitals(f"ag-{number}", NOW)
        assert found is not None
        assert found["periods"] == _expected(given_, number)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(30))
@given(given_=samples, rows=st.integers(1, 5))
def test_old_periods_are_deleted_in_pieces(stored: Stored, given_: list[VitalsSample], rows: int) -> None:
    """Each pruning deletes at most its share, the oldest first, and none that is young enough."""
    stored.database.execute_sql("DELETE FROM agent_vitals_history")
    stored.store.commit(Changes(vitals_history=given_))
    kept = {(each.period, each.agent_number) for each in given_}
    order = PruneOrder(NOW, 0, 0, 0, 0, 0, 0, threats=0, ids=0, rows=rows, vitals_before=NOW - 86_400)
    while any(period < NEWEST - 96 for period, _ in kept):
        expired = sorted(each for each in kept if each[0] < NEWEST - 96)[:rows]
        assert stored.store.prune(order).other == len(expired)
        kept -= set(expired)
        left = stored.database.execute_sql("SELECT period, agent_number FROM agent_vitals_history").fetchall()
        assert set(left) == kept
    assert stored.store.prune(order).other == 0
