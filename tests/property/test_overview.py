"""The fleet's overview against a plain list of agents, and against the overview of all organizations by name."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Door, InForce, State, credential_of
from manager.domain.agents.host import Host
from manager.domain.correlation import Incident, Indicator
from manager.domain.policies.fleet_policies import Policies
from manager.domain.policies.groups import Placement
from manager.engine.batch import Changes
from manager.storage import tables
from manager.storage.queries import StoreQueries, overview
from manager.storage.store import PeeweeStore
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

NOW = 1_800_000_000.0
ORGANIZATIONS = ("acme", "beta", "zeta")
SHOWN = 4


class Drawn(NamedTuple):
    """An agent; one of two policies is in force, or the agent is removed."""

    organization: str
    state: State
    since: float
    system: str
    policy: str


AGENT = st.builds(
    Drawn,
    st.sampled_from(ORGANIZATIONS),
    st.sampled_from(tuple(State)),
    st.sampled_from([NOW, NOW - 1, NOW - 500]),
    st.sampled_from(["Debian 12", "Ubuntu", ""]),
    st.sampled_from(["current", "former", "removed"]),
)


@given(st.lists(AGENT, max_size=14), st.lists(st.tuples(st.sampled_from(ORGANIZATIONS), st.booleans()), max_size=5))
def test_the_fleets_figures_are_those_of_its_agents(drawn: list[Drawn], incidents: list[tuple[str, bool]]) -> None:
    """The most urgent agents come first, each count is that of the agents; all organizations by name agree with it."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(overview, "AGENTS_SHOWN", SHOWN)
        path = Path(name) / "panguard.db"
        database = open_migrated(path)
        tables.database.initialize(database)
        agents = [_agent(number, each) for number, each in enumerate(drawn, 1)]
        _store(PeeweeStore(database, bytes(32)), agents, drawn, incidents)
        reader = open_reading(path)
        found = StoreQueries(reader).overview(NOW)
        by_name = StoreQueries(reader).overview(NOW, ORGANIZATIONS)
        reader.close()
        database.close()
    living = [agent for agent, each in zip(agents, drawn, strict=True) if each.policy != "removed"]
    urgency = (State.STALE, State.OFFLINE, State.ONLINE)
    living.sort(key=lambda agent: (urgency.index(agent.state), -agent.state_since, agent.number))
    assert [each["agentId"] for each in found["agents"]] == [agent.agent_id for agent in living[:SHOWN]]
    assert found["totalAgents"] == len(living)
    for state in urgency:
        assert found[f"{state}Agents"] == sum(agent.state is state for agent in living)
    assert found["agentsByOs"] == {
        system: sum(agent.host.os == system for agent in living) for system in {agent.host.os for agent in living}
    }
    assert found["policyCurrentAgents"] == sum(each.policy == "current" for each in drawn)
    assert found["threatSummary"]["correlatedGroups"] == sum(is_open for _, is_open in incidents)
    assert found == by_name


def _agent(number: int, drawn: Drawn) -> Agent:
    return Agent(
        number, f"ag-{number:02}", drawn.organization, Host.of(f"srv-{number}", drawn.system, "x64", "1"),
        credential_of(bytes([number]) * 32), None, Door.MQTT, NOW, drawn.state, drawn.since,
    )  # fmt: skip


def _store(store: PeeweeStore, agents: list[Agent], drawn: list[Drawn], incidents: list[tuple[str, bool]]) -> None:
    changes, policies = Changes(), Policies()
    for agent, each in zip(agents, drawn, strict=True):
        policy = policies.assign(agent.agent_id, Placement(agent.organization_id), NOW)
        version = policy.version + (each.policy != "current")
        agent.in_force = InForce.of(version, policy.resolved.digest, "applied")
        changes.agents[agent.agent_id], changes.policies[agent.agent_id] = agent, policy
    for number, (organization, is_open) in enumerate(incidents):
        indicator = Indicator("source_ip", f"203.0.113.{number}", organization, None)
        closed_at = None if is_open else NOW
        incident = Incident(f"inc-{number}", indicator, {}, NOW, NOW, NOW, closed_at, report_count=1)
        changes.incidents[incident.id] = incident
    store.commit(changes)
    gone = [agent for agent, each in zip(agents, drawn, strict=True) if each.policy == "removed"]
    store.commit(Changes(removed=gone))
