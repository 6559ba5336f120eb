"""Alerting: the policy in force when an event happens chooses its channels, minimum severity and quiet hours."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.engine.commands.requests import SetPolicy
from manager.engine.settings import EngineSettings
from manager.errors import Invalid
from schemas import topics
from tests.support.engine import Bench

QUIET = {"start": "22:00", "end": "07:00", "timeZone": "Europe/Vienna"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, EngineSettings(takeover=Takeover.ALLOW, channels=frozenset({"pager", "siem"})))
    yield bench
    bench.database.close()


def _set(bench: Bench, scope: Scope, alerting: dict[str, Any], **more: Any) -> None:
    bench.ask(SetPolicy(scope, {"alerting": alerting, **more}, "test"))


def _chosen(bench: Bench, name: str) -> Any:
    """Return what was chosen for the newest event of a name."""
    found = bench.rows(f"SELECT alerting FROM event WHERE name = '{name}' ORDER BY sequence DESC LIMIT 1")
    return None if found[0][0] is None else json.loads(found[0][0])


def test_without_a_channel_in_the_policy_nothing_is_chosen(bench: Bench) -> None:
    """The default names no channel."""
    bench.enroll("web-1")
    assert _chosen(bench, "agent_registered") is None


def test_an_agents_own_policy_chooses_for_its_events(bench: Bench) -> None:
    """An agent's document goes over its organization's, and that over the global one."""
    one, two = bench.enroll("web-1"), bench.enroll("web-2")
    _set(bench, GLOBAL, {"channels": ["siem"], "quietHours": QUIET})
    _set(bench, Scope("agent", one.agent_id), {"channels": ["pager"], "minimumSeverity": "critical"})
    for agent in (one, two):
        bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
        expected = {
            "channels": ["pager"] if agent is one else ["siem"], "severe": False, "quietHours": QUIET
        }  # fmt: skip
        assert _chosen(bench, "agent_offline") == expected


def test_names_that_the_manager_does_not_have_are_ignored(bench: Bench) -> None:
    """A stored document keeps them, and a warning names them."""
    _set(bench, GLOBAL, {"channels": ["mail", "siem"]})
    bench.enroll("web-1")
    assert _chosen(bench, "agent_registered")["channels"] == ["siem"]
    (warning,) = bench.fleet.document_warnings.sentences
    assert warning.startswith("policy of global: alerting.channels.0: no such channel")


def test_an_organizations_policy_and_rules_choose_for_what_is_about_no_agent(bench: Bench) -> None:
    """Incidents and threats have their organization's alerting, with its `alert_threshold` rules."""
    rule = {"type": "alert_threshold", "severity": "high"}
    _set(bench, GLOBAL, {"channels": ["siem"], "minimumSeverity": "low"})
    _set(bench, Scope("organization", "acme"), {"channels": ["pager"]}, rules=[rule])
    for organization, severe in (("acme", False), ("other", True)):
        agent = bench.enroll("web-1", bench.token(organization_id=organization))
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall))
        bench.pass_time(2)
        assert _chosen(bench, "threats_reported")["severe"] is severe


def test_who_is_told_of_a_condition_is_told_of_its_end(bench: Bench) -> None:
    """An agent that is back is as severe as its silence was."""
    _set(bench, GLOBAL, {"channels": ["siem"], "minimumSeverity": "high"})
    agent = bench.enroll("web-1")
    bench.pass_time(200, step=10)
    assert _chosen(bench, "agent_stale")["severe"]
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    assert _chosen(bench, "agent_online")["severe"]
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    assert not _chosen(bench, "agent_offline")["severe"]


def test_the_raised_sensitivity_of_an_emergency_changes_no_alerting(bench: Bench) -> None:
    """Emergency entries lower an agent's thresholds, and not the operator's minimum severity."""
    _set(bench, GLOBAL, {"channels": ["siem"], "minimumSeverity": "critical"})
    agents = [bench.enroll(f"web-{number}") for number in range(3)]
    for agent in agents:
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall))
    bench.pass_time(2)
    effective = bench.fleet.policies.effective[agents[0].agent_id].resolved
    assert effective.sections["alerting"]["minimumSeverity"] == "low"
    bench.receive(topics.PRESENCE, agents[0].agent_id, agents[0].presence("offline", bench.wall))
    assert not _chosen(bench, "agent_offline")["severe"]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Bench]:
    """A manager whose channel `pager` is for the organization acme."""
    settings = EngineSettings(
        takeover=Takeover.ALLOW,
        channels=frozenset({"pager", "siem"}),
        channel_organizations={"pager": frozenset({"acme"})},
    )
    bench = Bench(tmp_path, settings)
    yield bench
    bench.database.close()


def test_a_channel_of_one_organization_is_refused_to_others(shared: Bench) -> None:
    """Its own organization, group and agents may name it; another one, and the fleet as a whole, may not."""
    own = shared.enroll("web-1", shared.token(organization_id="acme"))
    other = shared.enroll("web-2")
    group = {"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": {"alerting": {"channels": ["pager"]}}}
    _set(shared, Scope("organization", "acme"), {"channels": ["pager"]})
    _set(shared, Scope("agent", own.agent_id), {"channels": ["pager"]})
    shared.ask(SetPolicy(Scope("group", "a"), {**group, "organization": "acme"}, "test"))
    for scope in (GLOBAL, Scope("organization", "default"), Scope("agent", other.agent_id)):
        with pytest.raises(Invalid, match="the channel pager is for acme alone, and this policy holds for"):
            _set(shared, scope, {"channels": ["siem", "pager"]})
    with pytest.raises(Invalid, match="every organization"):
        shared.ask(SetPolicy(Scope("group", "b"), {**group, "priority": 2}, "test"))


def test_a_stored_document_tells_a_channel_of_others_nothing(bench: Bench) -> None:
    """From before the limit: the channel is left out, and the document may change in anything else."""
    _set(bench, GLOBAL, {"channels": ["pager", "siem"]})
    limited = replace(bench.fleet.settings, channel_organizations={"pager": frozenset({"acme"})})
    bench.fleet.settings = limited
    bench.enroll("web-1")
    assert _chosen(bench, "agent_registered")["channels"] == ["siem"]
    bench.enroll("web-2", bench.token(organization_id="acme"))
    assert _chosen(bench, "agent_registered")["channels"] == ["pager", "siem"]
    _set(bench, GLOBAL, {"channels": ["pager", "siem"]}, thresholds={"autoRespond": 70})
