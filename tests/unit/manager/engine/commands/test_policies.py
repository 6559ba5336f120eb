"""Policy commands, and policies that agents prove or lack."""

import pytest

from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.engine.commands.requests import ReadPolicy, SetPolicy
from manager.errors import Invalid
from schemas import topics
from schemas.keys import has_version_proof
from tests.support.engine import Bench

pytestmark = pytest.mark.usefixtures("each_system")


def test_a_policy_reaches_each_agent_once_with_a_version_that_never_falls(bench: Bench) -> None:
    """A change is published once to the agents that it affects; a change without effect is not published."""
    acme, other = bench.enroll("a", organization_id="acme"), bench.enroll("b")
    for agent in (acme, other):
        (first,) = bench.publisher.take(topics.POLICY.address(agent.agent_id))
        assert agent.reads(topics.POLICY, first, bench.keyring)["version"] == 1
    document = {"thresholds": {"autoRespond": 70.0}}
    result = bench.ask(SetPolicy(Scope("organization", "acme"), document, "test"))
    assert (result.revision, result.agents) == (2, 1)
    (payload,) = bench.publisher.take(topics.POLICY.address(acme.agent_id))
    policy = acme.reads(topics.POLICY, payload, bench.keyring)
    assert policy["thresholds"] == {"autoRespond": 70.0, "notifyAndWait": 50.0}
    assert policy["version"] == 2
    assert has_version_proof(
        bench.keyring.sign_key.public_key(), acme.agent_id, 2, policy["digest"], policy["versionProof"]
    )
    assert bench.publisher.take(topics.POLICY.address(other.agent_id)) == []
    assert not bench.ask(SetPolicy(Scope("organization", "acme"), document, "test")).changed
    bench.crash()
    assert bench.publisher.take(topics.POLICY.address(acme.agent_id)) in ([], [payload])
    assert bench.ask(ReadPolicy(acme.agent_id)).version == 2


def test_a_restored_store_continues_above_what_agents_prove(bench: Bench) -> None:
    """A heartbeat with a valid proof of a higher version raises the fleet's revision; a wrong proof does not."""
    agent = bench.enroll("web-1")
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70.0}}, "test"))
    held = bench.ask(ReadPolicy(agent.agent_id)).document
    bench.fleet.policies.revision = 1
    bench.fleet.policies.effective[agent.agent_id].version = 1
    claim = {"policy_version": 2, "policy_digest": held["digest"]}
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, version_proof="x" * 86, **claim))
    assert bench.fleet.policies.revision == 1
    proof = held["versionProof"]
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, version_proof=proof, **claim))
    assert bench.fleet.policies.effective[agent.agent_id].version == 3


def test_a_guard_that_is_behind_is_sent_its_policy_again(bench: Bench) -> None:
    """A policy that the broker withheld or lost is published again when a heartbeat shows an older version."""
    agent = bench.enroll("web-1")
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70.0}}, "test"))
    bench.publisher.take(topics.POLICY.address(agent.agent_id))
    bench.pass_time(30)
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, policy_version=1))
    bench.engine.step(bench.now)
    assert len(bench.publisher.take(topics.POLICY.address(agent.agent_id))) == 1


def test_a_policy_that_no_message_can_hold_is_refused(bench: Bench) -> None:
    """A document whose effective policy would be over the limit changes nothing."""
    bench.enroll("web-1")
    big = {"detection": {"sigma": ["x" * 300_000]}}
    with pytest.raises(Invalid, match="bytes"):
        bench.ask(SetPolicy(GLOBAL, big, "test"))
    assert bench.fleet.policies.revision == 1
