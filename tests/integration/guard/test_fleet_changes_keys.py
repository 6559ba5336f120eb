"""Ten thousand agents change over to a new signing key by the guards' own code, and none registers again."""

from pathlib import Path

import pytest

from agent.connection.key_succession import followed
from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.host import Host
from manager.engine.batch import Changes
from manager.engine.commands.key_requests import RotateKeys
from schemas import topics
from schemas.succession import TrustedKeys
from tests.support.engine import Bench

pytestmark = pytest.mark.long("tests/property/test_key_succession.py")

COUNT = 10_000
AWAY = 29 * 86_400.0


def _agents(now: float) -> dict[str, Agent]:
    """Return a fleet as its registrations leave it."""
    return {
        f"ag-{number:016x}": Agent(
            number=number,
            agent_id=f"ag-{number:016x}",
            organization_id="default",
            host=Host.of(f"host-{number}", "Debian 12", "x64", "1.0"),
            credential=credential_of(number.to_bytes(32, "big")),
            token_id=None,
            door=Door.MQTT,
            registered_at=now,
            session=1,
            clock=ClockOffset(0.0, now, 1),
        )
        for number in range(1, COUNT + 1)
    }


def test_ten_thousand_agents_change_over(tmp_path: Path) -> None:
    """Each takes the policy that the new key has signed, half of them after 29 days; the registry stays as it was."""
    bench = Bench(tmp_path)
    bench.store.commit(Changes(agents=_agents(bench.wall)))
    bench.crash()
    old, before = bench.keyring.sign_public, dict(bench.fleet.registry.agents)
    assert len(before) == COUNT
    bench.publisher.published.clear()
    new = bench.ask(RotateKeys("test"))["signKey"]
    while bench.engine.has_work:
        bench.engine.step(bench.now)
    keys = bench.publisher.take(topics.MANAGER_KEYS.address())[-1]
    policies = {each.topic: each.payload for each in bench.publisher.published}
    for number, agent_id in enumerate(before):
        now = bench.wall + (AWAY if number % 2 else 0.0)
        trusted, known = followed(TrustedKeys(old), keys, now)
        assert known is not None
        assert trusted.current == new
        payload = policies[topics.POLICY.address(agent_id)]
        signer = trusted.signer(topics.POLICY.below_root(agent_id), payload, now)
        assert signer is not None
        assert TrustedKeys(new).signer(topics.POLICY.below_root(agent_id), payload, now) is not None
    assert dict(bench.fleet.registry.agents) == before
    assert bench.fleet.counters["registration"] == 0
    bench.database.close()
