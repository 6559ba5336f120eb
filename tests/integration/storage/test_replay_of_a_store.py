"""A replay of a store that a real engine wrote, compared with that engine's incidents."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.domain.correlation import Allowlist, CorrelatorSettings
from manager.domain.policies.fleet_policies import GLOBAL
from manager.domain.replay.outcomes import Comparison, compare
from manager.domain.replay.replay import Candidate, Replay
from manager.engine.commands.requests import RemoveAgent, SetPolicy, UndoIncident
from manager.storage.queries.replay_source import ReplaySource
from schemas import topics
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.engine import START, Bench
from tests.support.migrated_store import open_reading
from tests.support.simulated import SimulatedAgent

ADDRESSES = [f"203.0.113.{number}" for number in range(1, 6)] + ["192.168.1.10", "127.0.0.1", "::ffff:203.0.113.1"]
HASHES = ["ab" * 32, "cd" * 16]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def replay(bench: Bench, candidate: Candidate | None = None, since: float = START) -> Comparison:
    """Replay the store, and compare with the real incidents."""
    database = open_reading(bench.directory / "panguard.db")
    retained = ReplaySource(database)
    run = Replay(candidate or Candidate(), retained.fleet(bench.wall))
    extent = retained.extent(since)
    kept = list(retained.threats(extent))
    assert len(kept) == extent.count
    for each in kept:
        run.observe(each)
    run.advance(bench.wall)
    found = compare(retained.outcomes(since), run.outcomes())
    database.close()
    return found


def random_hour(bench: Bench, agents: list[SimulatedAgent], chance: random.Random) -> None:
    """Simulate an hour of random reports, some of them late."""
    for _ in range(120):
        bench.pass_time(chance.choice([1, 5, 20, 60]), step=1)
        agent = chance.choice(agents)
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
        late = chance.choice([0, 0, 0, 0, 120, 400, 1000])
        evidence = chance.choice([{"sourceIp": chance.choice(ADDRESSES)}, {"fileHash": chance.choice(HASHES)}, {}])
        if chance.random() < 0.05:
            evidence["lastLogin"] = bench.wall - 60
        attack(bench, agent, at=max(START, bench.wall - late), **evidence or {"note": "technique alone"})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_real_settings_reproduce_the_real_incidents(bench: Bench, seed: int) -> None:
    """Every incident has the same agents, flags and response, with late, private and forged reports among them."""
    agents = [*trusted(bench, "a", "b", "c", site="berlin"), *trusted(bench, "d", "e", organization_id="acme")]
    random_hour(bench, agents, random.Random(seed))  # noqa: S311 -- the same hour each time
    found = replay(bench)
    assert (found.only_real, found.only_replayed, found.changed) == ([], [], [])
    assert found.same > 8


def test_other_thresholds_and_allowlists_show_the_difference(bench: Bench) -> None:
    """Incidents that would not have opened are listed; the store is unchanged."""
    attack(bench, *trusted(bench, "a", "b"))
    before = bench.rows("SELECT count(*) FROM incident"), bench.rows("SELECT count(*) FROM emergency_entry")
    found = replay(bench, Candidate(correlator=CorrelatorSettings(source_ip_agents=3)))
    assert [each.indicator.value for each in found.only_real] == [ATTACKER]
    assert found.same == 1
    found = replay(bench, Candidate(allowed=Allowlist({"default": ["203.0.113.0/24"]})))
    assert [each.indicator.value for each in found.only_real] == [ATTACKER]
    assert before == (bench.rows("SELECT count(*) FROM incident"), bench.rows("SELECT count(*) FROM emergency_entry"))


def test_an_operators_undo_is_a_difference(bench: Bench) -> None:
    """An undone incident would be applied again: the comparison has both states."""
    attack(bench, *trusted(bench, "a", "b"))
    ((incident_id,),) = bench.rows("SELECT id FROM incident WHERE kind = 'source_ip'")
    bench.ask(UndoIncident(incident_id, "admin"))
    ((was, would),) = replay(bench).changed
    assert (was.response, would.response) == ("undone", "applied")


def test_current_policies_and_removed_agents_count(bench: Bench) -> None:
    """Documents are read from the store; threats of removed agents are replayed, too."""
    agents = trusted(bench, "a", "b", organization_id="acme")
    attack(bench, *agents)
    bench.ask(RemoveAgent(agents[0].agent_id, "admin"))
    bench.ask(SetPolicy(GLOBAL, {"response": {"escalation": {"repeatThreshold": 7}}}, "admin"))
    database = open_reading(bench.directory / "panguard.db")
    retained = ReplaySource(database)
    assert retained.documents() == {GLOBAL: {"response": {"escalation": {"repeatThreshold": 7}}}}
    assert retained.fleet(bench.wall).repeat("acme").threshold == 7
    assert retained.organizations() == {"acme"}
    database.close()
    assert replay(bench).same == 2
