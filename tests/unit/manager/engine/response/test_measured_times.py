"""Measured times to acceptance and immunity: what is stored of them outlives what the trackers know."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.response import ResponderSettings
from manager.domain.response.progress import ProgressTracker
from manager.engine.commands.requests import ApproveIncident, FreezeResponses, ReadPolicy
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.presence import Enforced, PolicyState
from tests.support.attacks import attack, trusted
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

Times = dict[str, float]

AFTER_2_SECONDS: dict[str, Any] = {percent: pytest.approx(2, abs=0.5) for percent in ("50", "95", "100")}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def incidents(bench: Bench) -> list[tuple[str, str]]:
    """Return id and response of the incidents of addresses, in the order of their opening."""
    return [
        (incident_id, state)
        for incident_id, state in bench.rows(
            "SELECT id, state FROM incident JOIN incident_response ON id = incident_id "
            "WHERE kind = 'source_ip' ORDER BY opened_at"
        )
    ]


def accept(bench: Bench, *agents: SimulatedAgent) -> None:
    """Let each agent say that it has accepted its policy and blocklist, and that its kernel enforces them."""
    for agent in agents:
        policy, sequence = bench.ask(ReadPolicy(agent.agent_id)), bench.fleet.blocklists.sequences.get("default", 0)
        heartbeat = agent.heartbeat(
            bench.wall, policy_version=policy.version, policy_digest=policy.digest, policy_state=PolicyState.APPLIED,
            blocklist_sequence=sequence, enforcement="nftables",
            enforced=Enforced(policy_version=policy.version, blocklist_sequence=sequence, set=1),
        )  # fmt: skip
        bench.receive(topics.HEARTBEAT, agent.agent_id, heartbeat)


def measured(bench: Bench, incident_id: str) -> tuple[Times, Times]:
    """Return an incident's stored times to acceptance and to immunity."""
    ((acceptance, immunity),) = bench.rows(
        f"SELECT acceptance, immunity FROM incident_response WHERE incident_id = '{incident_id}'"
    )
    return json.loads(acceptance or "{}"), json.loads(immunity or "{}")


@pytest.mark.parametrize("forgets", ["restart", "more incidents"])
def test_what_was_measured_outlives_what_the_tracker_forgets(bench: Bench, forgets: str) -> None:
    """After a restart, or behind newer incidents, an agent that joins changes nothing in the stored times."""
    bench.fleet.acceptance, bench.fleet.immunity = ProgressTracker(2), ProgressTracker(2)
    first, second, third = trusted(bench, *"abc")
    attack(bench, first, second)
    bench.pass_time(2)
    accept(bench, first, second)
    ((incident_id, _),) = incidents(bench)
    before = measured(bench, incident_id)
    assert before == (AFTER_2_SECONDS, AFTER_2_SECONDS)
    if forgets == "restart":
        bench.crash()
        accept(bench, third)
    else:
        for address in ("203.0.113.67", "203.0.113.68"):
            attack(bench, first, second, sourceIp=address)
        assert bench.fleet.acceptance.get(incident_id) is None
    bench.pass_time(50)
    attack(bench, third)
    assert measured(bench, incident_id) == before
    bench.pass_time(5)
    accept(bench, first, second, third)
    assert measured(bench, incident_id) == before


def test_an_approval_after_a_restart_keeps_the_times_of_the_agents_own_blocks(tmp_path: Path) -> None:
    """The organization's entry reaches agents that had the block before: the stored times stay."""
    responder = ResponderSettings(organization_age=86_400.0)
    bench = Bench(tmp_path, EngineSettings(takeover=Takeover.ALLOW, responder=responder))
    agents = trusted(bench, *"abc")
    attack(bench, *agents)
    bench.pass_time(2)
    accept(bench, *agents)
    ((incident_id, state),) = incidents(bench)
    assert (state, measured(bench, incident_id)) == ("pending_approval", (AFTER_2_SECONDS, AFTER_2_SECONDS))
    bench.crash()
    bench.ask(ApproveIncident(incident_id, "ann"))
    bench.pass_time(5)
    accept(bench, *agents)
    assert bench.rows("SELECT count(*) FROM emergency_entry WHERE scope = 'organization'") == [(1,)]
    assert measured(bench, incident_id) == (AFTER_2_SECONDS, AFTER_2_SECONDS)
    bench.database.close()


def test_a_taken_over_response_is_not_measured_by_its_newcomers_alone(bench: Bench) -> None:
    """An incident that had no response absorbs one that has: the times stay with the absorbed one."""
    agents = trusted(bench, *"abcde")
    bench.ask(FreezeResponses(frozen=True, author="ann"))
    attack(bench, *agents[:2])
    bench.ask(FreezeResponses(frozen=False, author="ann"))
    bench.pass_time(400)
    attack(bench, *agents[2:4])
    bench.pass_time(2)
    accept(bench, *agents[2:4])
    (survivor, _), (absorbed, _) = incidents(bench)
    attack(bench, agents[4], at=bench.wall - 200)
    assert bench.rows(f"SELECT merged_into FROM incident WHERE id = '{absorbed}'") == [(survivor,)]
    assert dict(incidents(bench))[survivor] == "applied"
    accept(bench, *agents)
    assert measured(bench, absorbed) == (AFTER_2_SECONDS, AFTER_2_SECONDS)
    assert measured(bench, survivor) == ({}, {})
