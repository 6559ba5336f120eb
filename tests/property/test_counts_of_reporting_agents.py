"""The number of agents that reported within a day against the stored reports, from memory and from the counts."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peewee import OperationalError

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import CommitWork, PruneOrder
from manager.errors import StoreRejected, StoreUnavailable
from manager.storage import tables
from manager.storage.queries import StoreQueries
from manager.storage.queries.reader import Reader
from manager.storage.store import PeeweeStore
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

START, HOUR, DAY = 1_800_000_000.0, 3600, 86_400
PIECE = 4
AGENTS, UNKNOWN_AGENT = 5, 9

threat = st.tuples(
    st.integers(1, AGENTS), st.sampled_from([0.0, 1.5, 7_200.0, 40_000.0, 86_000.0, 86_400.0, 90_000.0, -50_000.0])
)
threats = st.lists(threat, min_size=1, max_size=3 * PIECE)
step: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("store"), threats),
    st.tuples(st.just("store"), threats),
    st.tuples(st.just("rejected"), threats),
    st.tuples(st.just("unanswered"), threats),
    st.tuples(st.just("rolled back"), threats),
    st.tuples(st.just("pass"), st.sampled_from([1, 1_800, 40_000, 86_399, 200_000, -3_600, -100_000])),
    st.tuples(st.just("prune"), st.integers(1, 2 * PIECE)),
    st.tuples(st.just("restart"), st.booleans()),
)


@settings(deadline=None, max_examples=examples(60))
@given(st.lists(step, max_size=20), st.sampled_from([0, 100]))
def test_agents_that_reported_within_a_day_are_counted_alike(steps: list[tuple[str, Any]], remembered: int) -> None:
    """Memory, counts and reports agree after commits and failed ones, pruning, restarts and steps of the clock."""
    with tempfile.TemporaryDirectory() as name:
        history = _History(Path(name) / "panguard.db", remembered)
        for number, (what, argument) in enumerate(steps):
            history.carry_out(what, argument, number)
            history.compare()
        history.close()


@pytest.mark.parametrize("remembered", [0, 100], ids=["from the store", "from memory"])
def test_the_writer_counts_without_the_store_after_a_start_and_after_commits(tmp_path: Path, remembered: int) -> None:
    """What is loaded, what pieces added, and what waits for the next piece is one number."""
    history = _History(tmp_path / "panguard.db", remembered)
    for number in range(1, AGENTS + 1):
        assert history.counted() == number - 1
        history.carry_out("store", [(number, 0.0)] * PIECE, number)
    history.carry_out("restart", True, 0)
    assert history.counted() == AGENTS
    history.carry_out("pass", DAY + 1, 0)
    history.carry_out("rolled back", [(1, 0.0)] * PIECE, AGENTS + 1)
    assert history.counted() is None
    history.carry_out("store", [(2, 0.0)], AGENTS + 2)
    assert history.counted() == 1
    history.carry_out("unanswered", [(3, 0.0)] * PIECE, AGENTS + 3)
    history.carry_out("store", [(2, 0.0)], AGENTS + 4)
    assert history.counted() == 2
    history.close()


def test_a_time_before_the_loaded_days_is_counted_by_the_store(tmp_path: Path) -> None:
    """After a start that loaded later days, and a clock that is set back then."""
    history = _History(tmp_path / "panguard.db", 100)
    history.carry_out("store", [(1, 0.0)] * PIECE, 1)
    history.carry_out("pass", 5 * DAY, 2)
    history.carry_out("store", [(2, 0.0)] * PIECE, 3)
    history.carry_out("restart", True, 4)
    assert history.counted() == 1
    history.carry_out("pass", -5 * DAY, 5)
    assert history.counted() is None
    history.compare()
    history.close()


class _History:
    """A store, its clock, and the reports that it took."""

    def __init__(self, path: Path, remembered: int) -> None:
        self._database, self._reading = open_migrated(path), open_reading(path)
        self._remembered = remembered
        self._now = START
        self._reported: list[tuple[int, float]] = []
        self._open(loaded=True)
        for number in range(1, AGENTS + 1):
            host, agent_id = Host.of(f"host-{number}", "Linux", "x64", "1"), f"ag-{number}"
            agent = Agent(number, agent_id, "acme", host, credential_of(bytes(32)), None, Door.MQTT, START)
            self._store.commit(Changes(agents={agent_id: agent}))

    def _open(self, *, loaded: bool) -> None:
        tables.database.initialize(self._database)
        self._store = PeeweeStore(self._database, bytes(32), piece=PIECE, remembered=self._remembered)
        if loaded:
            self._store.load()

    def close(self) -> None:
        self._reading.close()
        self._database.close()

    def carry_out(self, what: str, argument: Any, number: int) -> None:
        """Carry out a step."""
        match what:
            case "store":
                self._store.commit(Changes(threats=self._rows(argument, number)))
                self._took(argument)
            case "rejected":
                with pytest.raises(StoreRejected):
                    self._store.commit(Changes(threats=self._rows([*argument, (UNKNOWN_AGENT, 0.0)], number)))
            case "unanswered":
                self._commit_unanswered(Changes(threats=self._rows(argument, number)), is_stored=True)
                self._took(argument)
            case "rolled back":
                self._commit_unanswered(Changes(threats=self._rows(argument, number)), is_stored=False)
            case "pass":
                self._now += argument
            case "prune":
                order = PruneOrder(self._now, self._now - HOUR, 0, 0, 0, 0, 0, threats=argument, ids=0, rows=100)
                self._store.prune(order)
            case "restart":
                self._open(loaded=argument)

    def compare(self) -> None:
        """Compare what the overview says, with the writer's figures and without."""
        for later in (0, HOUR, DAY, 2 * DAY):
            now = self._now + later
            expected = len({agent for agent, at in self._reported if at >= now - DAY})
            for figures in (self._store.figures, None):
                overview = StoreQueries(self._reading, figures=figures).overview(now)
                assert overview["threatSummary"]["affectedAgents"] == expected

    def counted(self) -> int | None:
        """Return the number of agents in memory that reported within a day; None if it is unknown."""
        since = self._now - DAY
        (uncounted,) = Reader(self._reading).values(("counts.uncounted_agents",), {"since": since})
        return self._store.figures.reporters.count(since, json.loads(uncounted))

    def _commit_unanswered(self, changes: Changes, *, is_stored: bool) -> None:
        backend = type(self._store._backend)
        commit_of_system = backend.commit

        def commit(own: Any, end: Callable[[], None], number: int, work: CommitWork | None) -> None:
            if is_stored:
                commit_of_system(own, end, number, work)
            raise OperationalError("the connection was lost")

        with patch.object(backend, "commit", commit), pytest.raises(StoreUnavailable):
            self._store.commit(changes)

    def _took(self, reports: list[tuple[int, float]]) -> None:
        self._reported += [(agent, self._now - ago) for agent, ago in reports]

    def _rows(self, reports: list[tuple[int, float]], number: int) -> list[ThreatRow]:
        return [
            ThreatRow(
                agent, f"t-{number}-{place}", bytes(16), self._now - ago, self._now, True, "scan", "low", 1.0, None,
                None, None, "{}",
            )
            for place, (agent, ago) in enumerate(reports)
        ]  # fmt: skip
