"""The memory of emergency entries after a restart: each agent has one, and most of them say the same."""

from tests.support.attacks import attack, trusted
from tests.support.engine import Bench


def test_entries_that_say_the_same_share_it(bench: Bench) -> None:
    """Texts, times and subjects are one object each; an agent's entries have the id that its record has."""
    agents = trusted(bench, "a", "b")
    attack(bench, *agents)
    bench.crash()
    registered = bench.fleet.registry.agents
    first, second = (bench.fleet.responder.entries.list_of("agent", agent.agent_id) for agent in agents)
    assert [entry.kind for entry in first] == [entry.kind for entry in second] == ["ip", "sensitivity"]
    for one, other in zip(first, second, strict=True):
        for member in ("scope", "subject", "reason", "incident_id", "created_at", "expires_at"):
            assert getattr(one, member) is getattr(other, member), member
        assert one.target is registered[one.target].agent_id
