"""Removal of agents that signed off, by the setting of their retention."""

import pytest

from manager.domain.agents.agent import State
from manager.engine.settings import EngineSettings
from schemas import topics
from tests.support.engine import Bench

HOUR = 3600.0


@pytest.mark.parametrize(("kept", "left"), [(None, {"gone", "lost"}), (2 * HOUR, {"lost"})])
def test_only_agents_that_signed_off_are_removed_by_age(bench: Bench, kept: float | None, left: set[str]) -> None:
    """By default none is; a stale agent stays whatever its age, and the audit log names each removal."""
    bench.database.close()
    bench.settings = EngineSettings(offline_retention=kept)
    bench.build()
    agents = {hostname: bench.enroll(hostname) for hostname in ("gone", "lost")}
    gone = agents["gone"]
    bench.receive(topics.PRESENCE, gone.agent_id, gone.presence("offline", bench.wall))
    bench.pass_time(1.5 * HOUR)
    assert {agent.hostname for agent in bench.fleet.registry.agents.values()} == set(agents)
    assert bench.fleet.registry.agents[agents["lost"].agent_id].state is State.STALE
    bench.fleet.clock_trust.accept(bench.now)
    bench.pass_time(HOUR)
    bench.pass_time(61)
    assert {agent.hostname for agent in bench.fleet.registry.agents.values()} == left
    removed = bench.rows("SELECT target, actor FROM audit_entry WHERE action = 'agent.remove'")
    assert removed == ([] if kept is None else [(gone.agent_id, "manager")])
