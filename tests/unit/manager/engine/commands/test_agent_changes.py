"""Removal of agents that signed off, by the setting of their retention."""

import pytest

from manager.domain.agents.agent import State
from manager.engine.settings import EngineSettings
from schemas import topics
from tests.support.engine import Bench

HOUR = 3600.0


@pytest.mark.parametrize(("kept", "left"), [(None, {"gone", "lost", "back"}), (2 * HOUR, {"lost", "back"})])
def test_only_agents_that_signed_off_are_removed_by_age(bench: Bench, kept: float | None, left: set[str]) -> None:
    """By default none is; a stale agent stays whatever its age, also if it came back after it had signed off.

    The audit log names each removal, which happens once.
    """
    bench.database.close()
    bench.settings = EngineSettings(offline_retention=kept)
    bench.build()
    agents = {hostname: bench.enroll(hostname) for hostname in ("gone", "lost", "back")}
    gone, back = agents["gone"], agents["back"]
    for agent in (gone, back):
        bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    back.session += 1
    bench.receive(topics.PRESENCE, back.agent_id, back.presence("online", bench.wall))
    bench.pass_time(1.5 * HOUR)
    assert {agent.hostname for agent in bench.fleet.registry.agents.values()} == set(agents)
    assert [bench.fleet.registry.agents[agents[name].agent_id].state for name in ("lost", "back")] == [State.STALE] * 2
    bench.fleet.clock_trust.accept(bench.now)
    bench.pass_time(HOUR)
    bench.pass_time(61)
    bench.pass_time(3 * HOUR)
    assert {agent.hostname for agent in bench.fleet.registry.agents.values()} == left
    removed = bench.rows("SELECT target, actor FROM audit_entry WHERE action = 'agent.remove'")
    assert removed == ([] if kept is None else [(gone.agent_id, "manager")])
    assert bench.fleet.counters["parts_failed"] == 0
