"""Published policies and the broker's confirmations: which policy one confirms, and how many may be without one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.batch import Publication
from manager.engine.commands.requests import RemoveAgent, SetPolicy
from schemas import topics
from tests.support.engine import Bench


def test_a_late_confirmation_confirms_no_later_policy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the broker has not confirmed is published again after a restart of the manager."""
    agent = bench.enroll("web-1")
    bench.pass_time(1)
    unconfirmed: list[Callable[[], None]] = []

    def publish(publication: Publication) -> None:
        bench.publisher.published.append(publication)
        if publication.confirm is not None:
            unconfirmed.append(publication.confirm)

    monkeypatch.setattr(bench.publisher, "publish", publish)
    for threshold in (60.0, 61.0):
        bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": threshold}}, "test"))
    earlier = unconfirmed[0]
    policy = bench.fleet.policies.effective[agent.agent_id]
    earlier()
    assert not policy.published
    bench.pass_time(6)
    bench.publisher.published.clear()
    bench.crash()
    bench.pass_time(1)
    assert len(bench.publisher.take(topics.POLICY.address(agent.agent_id))) == 1
    assert not bench.fleet.policies.effective[agent.agent_id].published
    unconfirmed[-1]()
    assert bench.fleet.policies.effective[agent.agent_id].published


def test_a_confirmed_policy_of_an_agent_that_was_removed_is_not_written(bench: Bench) -> None:
    """The write waits some seconds, in which the agent may go."""
    agent = bench.enroll("web-1")
    bench.pass_time(6)
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 60.0}}, "test"))
    assert bench.fleet.policies.effective[agent.agent_id].published
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    bench.pass_time(6)
    assert bench.rows("SELECT count(*) FROM agent_policy") == [(0,)]
    assert bench.failures() == {}


def test_a_slice_is_shorter_by_what_the_broker_has_not_confirmed(tmp_path: Path) -> None:
    """A broker that falls behind is not sent more than one slice ahead; a full backlog stops the publishing."""
    bench = Bench(tmp_path)
    bench.settings = replace(bench.settings, policies_in_step=3)
    bench.crash()
    token = bench.token()
    for number in range(8):
        bench.enroll(f"web-{number}", token)
    bench.pass_time(10)
    bench.publisher.published.clear()
    published = []
    bench.publisher.backlog = 2
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 60.0}}, "test"))
    for backlog in (3, 5, 0):
        published.append(sum(publication.topic.endswith("/policy") for publication in bench.publisher.published))
        bench.publisher.backlog = backlog
        bench.engine.step(bench.now)
    published.append(sum(publication.topic.endswith("/policy") for publication in bench.publisher.published))
    assert published == [1, 1, 1, 4]
    bench.database.close()
