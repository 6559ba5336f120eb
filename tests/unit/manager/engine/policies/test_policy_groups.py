"""Policy groups in the engine: resolved once for each change, and never by what an agent says of itself."""

import pytest

from manager.domain.policies.fleet_policies import Policies, Scope
from manager.engine.commands.requests import ChangeAgent, SetPolicy
from schemas import topics
from tests.support.engine import Bench

pytestmark = pytest.mark.usefixtures("each_system")

WEB = Scope("group", "web")


def group(threshold: float) -> dict[str, object]:
    """Return the document of a group of web servers."""
    policy = {"thresholds": {"autoRespond": threshold}}
    return {"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": policy}


def test_heartbeats_resolve_no_policy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change resolves the policy of each agent that it touches once; heartbeats after it resolve nothing."""
    agents = [bench.enroll(f"web-{number}") for number in range(3)]
    other = bench.enroll("db-1")
    for agent in agents:
        bench.ask(ChangeAgent(agent.agent_id, "test", tags=("web",)))
    resolved: list[str] = []
    resolve = Policies.resolve
    monkeypatch.setattr(
        Policies,
        "resolve",
        lambda self, agent_id, *rest: (resolved.append(agent_id), resolve(self, agent_id, *rest))[1],
    )
    assert bench.ask(SetPolicy(WEB, group(71.0), "test")).agents == 3
    assert sorted(each for each in resolved if each) == sorted(agent.agent_id for agent in agents)
    resolved.clear()
    for _ in range(5):
        bench.pass_time(30, step=30)
        for agent in (*agents, other):
            bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    assert resolved == []


def test_a_new_token_with_other_tags_changes_the_groups(bench: Bench) -> None:
    """Tags of a token survive registrations, until the agent registers with a token that has others."""
    bench.ask(SetPolicy(WEB, group(71.0), "test"))
    agent = bench.enroll("srv-1", bench.token(tags=("web",)), tags=["db"])
    effective = bench.fleet.policies.effective[agent.agent_id]
    assert effective.groups == ("web",)
    for tags, groups in (((), ("web",)), (("db",), ())):
        again = bench.enroll("srv-1", bench.token(tags=tags), tags=["web"])
        assert again.agent_id == agent.agent_id
        assert effective.groups == groups
    bench.ask(ChangeAgent(agent.agent_id, "test", tags=("web",)))
    bench.enroll("srv-1", bench.token(tags=("db",)))
    assert effective.groups == ("web",)


def test_members_are_known_after_a_restart(bench: Bench) -> None:
    """Groups, tags and what an operator set are in the store."""
    agent = bench.enroll("srv-1")
    bench.ask(ChangeAgent(agent.agent_id, "test", tags=("web",), site="bonn"))
    bench.ask(SetPolicy(WEB, group(71.0), "test"))
    version = bench.fleet.policies.effective[agent.agent_id].version
    bench.crash()
    effective = bench.fleet.policies.effective[agent.agent_id]
    assert bench.fleet.policies.members("web") == [agent.agent_id]
    assert (effective.version, effective.resolved.sections["thresholds"]["autoRespond"]) == (version, 71.0)
    assert bench.changed == []
    bench.enroll("srv-1", site="rome", tags=["db"])
    host = bench.fleet.registry.agents[agent.agent_id].host
    assert (host.tags, host.site, host.reported_tags) == (("web",), "bonn", ("db",))


def test_a_site_is_the_tokens_or_an_operators(bench: Bench) -> None:
    """A token without a site takes none away, one with a site gives it; what the agent states chooses nothing."""
    placed = bench.token(site="bonn")
    agent = bench.enroll("srv-1", placed, site="rome")
    bench.ask(SetPolicy(WEB, {"selector": {"sites": ["bonn"]}, "priority": 1, "policy": {}}, "test"))
    bench.ask(SetPolicy(Scope("group", "rome"), {"selector": {"sites": ["rome"]}, "priority": 2, "policy": {}}, "test"))
    for token, site in ((bench.token(), "bonn"), (bench.token(site="rome"), "rome"), (placed, "bonn")):
        bench.pass_time(1)
        bench.enroll("srv-1", token, site="rome")
        bench.crash()
        host = bench.fleet.registry.agents[agent.agent_id].host
        assert (host.site, host.reported_site, host.correlation_site) == (site, "rome", site)
        assert bench.fleet.policies.members("web") == ([agent.agent_id] if site == "bonn" else [])
    stated = bench.enroll("srv-2", site="rome")
    host = bench.fleet.registry.agents[stated.agent_id].host
    assert (host.site, host.correlation_site) == (None, "rome")
    assert bench.fleet.policies.members("rome") == []
