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
