"""Ephemeral agents are removed after an hour offline, of which the manager must have heard every minute."""

from pathlib import Path

from manager.engine.commands.agent_changes import EPHEMERAL_RETENTION
from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent


def offline(directory: Path) -> tuple[Bench, SimulatedAgent]:
    """Return a manager, and an ephemeral agent that has signed off."""
    bench = Bench(directory)
    agent = bench.enroll("runner-1", bench.token(ephemeral=True))
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    return bench, agent


def test_an_hour_in_which_the_manager_was_down_does_not_count(tmp_path: Path) -> None:
    """An agent that came back meanwhile has its birth at the broker, and is read first."""
    bench, agent = offline(tmp_path)
    bench.pass_time(600, step=10)
    bench.elapsed += EPHEMERAL_RETENTION
    bench.crash()
    bench.pass_time(60, step=10)
    assert agent.agent_id in bench.fleet.registry.agents
    bench.pass_time(EPHEMERAL_RETENTION, step=10)
    assert agent.agent_id not in bench.fleet.registry.agents


def test_a_clock_that_is_set_forward_removes_nobody_early(tmp_path: Path) -> None:
    """Ten minutes offline stay ten minutes."""
    bench, agent = offline(tmp_path)
    bench.pass_time(600, step=10)
    bench.began += 2 * EPHEMERAL_RETENTION
    bench.pass_time(600, step=10)
    assert agent.agent_id in bench.fleet.registry.agents
    bench.pass_time(EPHEMERAL_RETENTION, step=10)
    assert agent.agent_id not in bench.fleet.registry.agents
