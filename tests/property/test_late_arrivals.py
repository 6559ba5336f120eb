"""Seeded late arrivals through the engine and its store: one incident for each attack, however late the reports are."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from schemas import topics
from tests.support.engine import Bench

pytestmark = pytest.mark.usefixtures("each_system")

ATTACKS, AGENTS = 15, 20


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("most", [250.0, 2500.0])
@pytest.mark.parametrize("seed", range(2))
def test_late_reports_open_no_second_incident(tmp_path: Path, seed: int, most: float) -> None:
    """A third of the reports arrives up to `most` seconds late, after incidents closed and left memory, too."""
    chance = random.Random(seed)  # noqa: S311 -- the same arrivals each time
    bench = Bench(tmp_path)
    token = bench.token()
    agents = [bench.enroll(f"srv-{number}", token) for number in range(AGENTS)]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    arrivals = []
    for attack in range(ATTACKS):
        for agent in chance.sample(agents, 5):
            at = bench.wall + attack * 10 + chance.random()
            delay = chance.uniform(0, most) if chance.random() < 1 / 3 else chance.uniform(0, 3)
            arrivals.append((at + delay, at, agent, f"198.18.0.{attack + 1}"))
    for received, at, agent, address in sorted(arrivals, key=lambda arrival: arrival[0]):
        if received > bench.wall:
            bench.pass_time(received - bench.wall, step=5.0)
        bench.put(topics.THREATS, agent.agent_id, agent.threat(at, sourceIp=address))
    bench.pass_time(2)
    opened = bench.rows("SELECT count(*), count(DISTINCT value) FROM incident WHERE kind = 'source_ip'")
    assert opened == [(ATTACKS, ATTACKS)]
    assert bench.rows("SELECT sum(report_count) FROM incident WHERE kind = 'source_ip'") == [(ATTACKS * 5,)]
    assert bench.failures() == {}
    bench.database.close()
