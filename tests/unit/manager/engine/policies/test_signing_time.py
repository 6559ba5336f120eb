"""The time of signing and the time left in the manager's messages, by which guards with wrong clocks end blocks."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.host import Host
from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.commands.http_agent_requests import PollPolicy, RegisterAgent
from manager.engine.commands.requests import AgentPolicy, SetPolicy
from schemas import topics
from schemas.limits import POLICY_LIMIT
from schemas.model import iso
from schemas.policy import digest_of
from tests.support.engine import Bench

_HOUR = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _published(bench: Bench, ending: str) -> list[dict[str, Any]]:
    sent = [each for each in bench.publisher.published if each.topic.endswith(ending)]
    return [json.loads(each.payload) for each in sent]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _block(bench: Bench, *values: str) -> None:
    entries = [{"value": value, "expiresAt": iso(bench.wall + _HOUR)} for value in values]
    bench.ask(SetPolicy(GLOBAL, {"blocklist": {"ips": [*entries, "198.51.100.1"]}}, "test"))


def test_a_policy_says_when_it_was_signed_and_what_time_is_left(bench: Bench) -> None:
    """Only entries with an end have a time left; neither member is in the digest."""
    bench.enroll("web-1")
    _block(bench, "203.0.113.9")
    bench.pass_time(2)
    policy = _published(bench, "/policy")[-1]
    assert abs(_moment(policy["sentAt"]) - bench.wall) < 3
    assert list(policy["secondsLeft"]) == ["203.0.113.9"]
    (expires,) = (_moment(entry["expiresAt"]) for entry in policy["blocklist"]["ips"] if isinstance(entry, dict))
    assert abs(policy["secondsLeft"]["203.0.113.9"] - (expires - _moment(policy["sentAt"]))) < 1
    assert digest_of(policy) == policy["digest"]


def test_a_policy_that_is_published_again_is_signed_again(bench: Bench) -> None:
    """A retained policy of yesterday must not show yesterday's time left after the broker lost it."""
    agent = bench.enroll("web-1")
    _block(bench, "203.0.113.9")
    bench.pass_time(600)
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, policy_version=0))
    bench.pass_time(2)
    policy = _published(bench, "/policy")[-1]
    assert policy["secondsLeft"]["203.0.113.9"] == pytest.approx(_HOUR - 600, abs=10)


def test_an_http_agent_gets_both_members(bench: Bench) -> None:
    """They stand beside the sections of the merged document."""
    agent_id = bench.ask(RegisterAgent(Host.of("web-1", "Debian 12", "x64", "1.0"), None, by_admin=True)).record[
        "agentId"
    ]
    _block(bench, "203.0.113.9")
    answer = bench.ask(PollPolicy(agent_id, ()))
    assert isinstance(answer, AgentPolicy)
    assert answer.document["secondsLeft"]["203.0.113.9"] == pytest.approx(_HOUR, abs=5)
    assert abs(_moment(answer.document["sentAt"]) - bench.wall) < 3
    assert digest_of(answer.document) == answer.digest


def test_times_left_never_make_a_message_too_large(bench: Bench) -> None:
    """Of the largest document that an operator may set they are left out, and guards reckon from `expiresAt`."""
    bench.enroll("web-1")
    hashes = [{"value": f"{number:064x}", "expiresAt": iso(bench.wall + _HOUR)} for number in range(1500)]
    bench.ask(SetPolicy(GLOBAL, {"blocklist": {"fileHashes": hashes}}, "test"))
    bench.pass_time(2)
    sent = [each for each in bench.publisher.published if each.topic.endswith("/policy")]
    assert len(sent[-1].payload) <= POLICY_LIMIT
    assert "secondsLeft" not in json.loads(sent[-1].payload)
