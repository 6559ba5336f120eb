"""The writer's running counts of agents against counts of all agents, over commits, failed commits and restarts."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peewee import Database

from manager.domain.agents.agent import Agent, Door, InForce, State, credential_of
from manager.domain.agents.host import Host
from manager.domain.policies.fleet_policies import Policies
from manager.domain.policies.groups import Placement
from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import PruneOrder
from manager.errors import StoreRejected
from manager.storage import tables
from manager.storage.agent_figures import ALL_AGENTS, AgentCounts
from manager.storage.queries.reader import Reader
from manager.storage.store import PeeweeStore
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

NOW = 1_800_000_000.0
UNKNOWN_AGENT = 99

numbers = st.integers(1, 6)
applied = st.sampled_from(["current", "former", "none"])
change = st.one_of(
    st.tuples(st.just("agent"), numbers, st.sampled_from(State), st.sampled_from(["Debian 12", "Ubuntu", ""]), applied),
    st.tuples(st.just("stated"), numbers, applied),
    st.tuples(st.just("policy"), numbers),
    st.tuples(st.just("removed"), numbers),
)
step = st.tuples(
    st.sampled_from(["commit", "commit", "commit", "rejected", "unread", "restart", "purge"]), st.lists(change)
)


@given(st.lists(step, max_size=12))
def test_running_counts_are_those_of_all_agents(steps: list[tuple[str, list[tuple[Any, ...]]]]) -> None:
    """After each commit, rejected commit, purge and start they are what the store has."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "panguard.db"
        database = open_migrated(path)
        reading = open_reading(path)
        history = _History(database, Reader(reading))
        for what, changes in steps:
            history.carry_out(what, changes)
        history.close()
        reading.close()
        database.close()


class _History:
    """A store, and the agents in it."""

    def __init__(self, database: Database, reader: Reader) -> None:
        self._database, self._reader = database, reader
        self._policies = Policies()
        self._agents: dict[int, Agent] = {}
        self._removed: set[int] = set()
        self._open()

    def _open(self) -> None:
        tables.database.initialize(self._database)
        self.store = PeeweeStore(self._database, bytes(32))

    def close(self) -> None:
        self._database.close()

    def carry_out(self, what: str, wanted: list[tuple[Any, ...]]) -> None:
        """Carry out a step and compare."""
        match what:
            case "commit":
                self.store.commit(self._changes(wanted))
                assert self.store.figures.agents.known == self._counted()
            case "rejected":
                self._reject()
            case "restart":
                self._open()
                assert self.store.figures.agents.known is None
                self.store.load()
                assert self.store.figures.agents.known == self._counted()
            case "unread":
                self._open()
            case "purge":
                self.store.prune(PruneOrder(NOW, NOW, NOW, NOW, NOW, NOW, NOW, threats=9, ids=9, rows=9))
        assert self.store.figures.agents.known in (None, self._counted())

    def _counted(self) -> AgentCounts:
        return AgentCounts.of_values(*self._reader.values(ALL_AGENTS))

    def _reject(self) -> None:
        """Commit changes of all agents with a report that fits no table."""
        row = ThreatRow(UNKNOWN_AGENT, "t", bytes(16), NOW, NOW, True, "scan", "low", 1.0, None, None, None, "{}")
        states = [agent.state for agent in self._agents.values()]
        for agent in self._agents.values():
            agent.state = State.OFFLINE
        with pytest.raises(StoreRejected):
            self.store.commit(Changes(agents={each.agent_id: each for each in self._agents.values()}, threats=[row]))
        for agent, state in zip(self._agents.values(), states, strict=True):
            agent.state = state

    def _changes(self, wanted: list[tuple[Any, ...]]) -> Changes:
        changes = Changes()
        for kind, number, *values in wanted:
            agent_id = f"ag-{number}"
            if kind == "agent" and number not in self._removed:
                self._put(changes, number, *values)
            elif number not in self._agents:
                continue
            elif kind == "stated":
                agent = self._agents[number]
                agent.in_force = self._in_force(agent_id, *values)
                changes.stated[agent_id] = agent
            elif kind == "policy":
                self._policies = Policies()  # other versions
                self._policies.revision = 7
                changes.policies[agent_id] = self._policies.assign(agent_id, Placement("acme"), NOW)
            elif kind == "removed":
                for written in (changes.agents, changes.stated, changes.policies):
                    written.pop(agent_id, None)
                changes.removed.append(self._agents.pop(number))
                self._removed.add(number)
        return changes

    def _put(self, changes: Changes, number: int, state: State, system: str, policy: str) -> None:
        agent_id = f"ag-{number}"
        agent = Agent(
            number, agent_id, "acme", Host.of(f"srv-{number}", system, "x64", "1"),
            credential_of(bytes([number]) * 32), None, Door.MQTT, NOW, state,
        )  # fmt: skip
        agent.in_force = self._in_force(agent_id, policy)
        self._agents[number] = changes.agents[agent_id] = agent
        if policy != "none":
            changes.policies[agent_id] = self._policies.effective[agent_id]

    def _in_force(self, agent_id: str, policy: str) -> InForce:
        effective = self._policies.assign(agent_id, Placement("acme"), NOW)
        return InForce.of(effective.version + (policy != "current"), effective.resolved.digest, "applied")
