"""Removal of agents."""

import pytest

from manager.domain.policies.fleet_policies import Scope
from manager.engine.commands.requests import ReadPolicy, RemoveAgent, SetPolicy
from manager.errors import NotFound
from schemas import topics
from tests.support.engine import Bench


def test_a_removed_agent_is_gone(bench: Bench) -> None:
    """Removal deletes the record, ends the connection, clears retained messages, and refuses later messages."""
    agent = bench.enroll("web-1")
    bench.ask(SetPolicy(Scope("agent", agent.agent_id), {"thresholds": {"autoRespond": 1.0}}, "test"))
    bench.publisher.published.clear()
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    assert bench.broker_access.expelled == [agent.agent_id]
    for row in (topics.PRESENCE, topics.POLICY):
        assert bench.publisher.take(row.address(agent.agent_id)) == [b""]
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall))
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    assert bench.publisher.take(topics.PRESENCE.address(agent.agent_id)) == [b""]
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    with pytest.raises(NotFound):
        bench.ask(ReadPolicy(agent.agent_id))
    bench.crash()
    assert len(bench.fleet.registry) == 0
    assert bench.enroll("web-1").agent_id != agent.agent_id


@pytest.mark.parametrize("restarted", [False, True])
def test_a_removed_agents_retained_messages_are_cleared_when_the_broker_is_back(
    bench: Bench, *, restarted: bool
) -> None:
    """A removal while the broker is away clears presence and policy at the next connect, also after a restart."""
    agent = bench.enroll("web-1")
    addresses = [row.address(agent.agent_id) for row in (topics.PRESENCE, topics.POLICY)]
    bench.publisher.ready = False
    bench.engine.disconnected()
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    bench.publisher.ready = True
    bench.publisher.published.clear()
    if restarted:
        bench.crash()
    else:
        bench.engine.connected(bench.now, fresh=False)
    assert [bench.publisher.take(address) for address in addresses] == [[b""], [b""]]
    bench.pass_time(10)
    assert bench.rows("SELECT value FROM meta WHERE key = 'uncleared_agents'") == [("[]",)]
    bench.engine.connected(bench.now, fresh=True)
    assert [bench.publisher.take(address) for address in addresses] == [[], []]


def test_a_clearing_that_the_broker_did_not_confirm_is_repeated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks between the publication and its confirmation loses nothing."""
    agent = bench.enroll("web-1")
    monkeypatch.setattr(bench.publisher, "publish", bench.publisher.published.append)
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    monkeypatch.undo()
    bench.publisher.published.clear()
    bench.engine.connected(bench.now, fresh=False)
    assert bench.publisher.take(topics.POLICY.address(agent.agent_id)) == [b""]


@pytest.mark.parametrize("value", ["", "{}", "[1", '["x"]', "null"])
def test_a_strange_stored_value_ends_no_start(bench: Bench, value: str) -> None:
    """Whatever the store holds under the key, the manager starts and connects."""
    bench.store.set_meta("uncleared_agents", value)
    bench.crash()
    assert bench.enroll("web-1").agent_id
