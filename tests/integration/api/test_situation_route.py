"""`GET /api/now`: logins that look guessed, blocks that hurt, approvals, unseen agents, each within its scope."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from schemas import topics
from schemas.model import iso
from schemas.presence import Enforced, Mode, SourceReport, Unenforced
from schemas.threats import ResponseTaken
from tests.integration.api.served import LOOPBACK, Served
from tests.support.attacks import trusted
from tests.support.engine import Bench
from tests.support.staged_nights import Night


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


def _night(bench: Bench) -> Night:
    return Night(bench, 3)


def _now(served: Served, client: httpx2.Client | None = None) -> dict[str, Any]:
    with client or served.client() as asking:
        return dict(asking.get("/api/now").json()["data"])


def test_proven_logins_stand_before_newer_unproven_ones(served: Served) -> None:
    """A host that writes forged lines moves no proven login out of the sentence."""
    with served.bench() as bench:
        night = _night(bench)
        taken = ResponseTaken(action="throttle_ip", outcome="taken")
        night.report("web-1", "login_after_failures", "critical", taken, sourceIp="203.0.113.9", user="deploy")
        bench.pass_time(1)
        night.report("db-1", "login_after_failures", "critical", taken, proven=False, sourceIp="203.0.113.8", user="x")
    logins = _now(served)["gotIn"]
    assert [each["hostname"] for each in logins["records"]] == ["web-1", "db-1"]
    assert [each["vouched"] for each in logins["records"]] == [True, False]


def test_the_end_of_a_session_is_told_by_the_word_of_the_same_host_alone(served: Served) -> None:
    """Neither an earlier end counts, nor another user's, nor one that the host cannot prove."""
    ended = {"loginSource": "203.0.113.9", "userExists": True}
    with served.bench() as bench:
        night, nothing = _night(bench), ResponseTaken(action="notify")
        night.report("web-1", "suspicious_session_ended", "low", nothing, user="deploy", **ended)
        bench.pass_time(10)
        night.report("web-1", "login_after_failures", "critical", nothing, sourceIp="203.0.113.9", user="deploy")
        bench.pass_time(10)
        night.report("web-1", "suspicious_session_ended", "low", nothing, user="other", **ended)
        night.report("web-1", "suspicious_session_ended", "low", nothing, proven=False, user="deploy", **ended)
        night.report("db-1", "suspicious_session_ended", "low", nothing, user="deploy", **ended)
    assert _now(served)["gotIn"]["records"][0]["sessionEndedAt"] is None
    with served.bench() as bench:
        bench.pass_time(10)
        night.report("web-1", "suspicious_session_ended", "low", nothing, user="deploy", **ended)
        told = bench.wall
    assert _now(served)["gotIn"]["records"][0]["sessionEndedAt"] == iso(told)


def test_viewers_get_a_mask_for_a_user_that_is_no_account(served: Served) -> None:
    """It may be a password that was typed into the wrong field; a responder sees it."""
    with served.bench() as bench:
        night = _night(bench)
        taken = ResponseTaken(action="notify")
        night.report("web-1", "login_after_failures", "critical", taken, sourceIp="203.0.113.9", user="hunter2")
    with served.client() as admin:
        made = admin.post("/api/access", json={"name": "v", "role": "viewer"}).json()["data"]
    assert _now(served)["gotIn"]["records"][0]["threat"]["evidence"]["user"] == "hunter2"
    masked = _now(served, served.client(made["token"]))["gotIn"]["records"][0]
    assert "hunter2" not in str(masked)


def test_a_critical_report_of_another_type_is_counted(served: Served) -> None:
    """It is no login, and still nobody may read that nothing happened."""
    with served.bench() as bench:
        night = _night(bench)
        night.report("web-1", "webshell", "critical", ResponseTaken(action="notify"), filePath="/srv/x.php")
    assert (_now(served)["gotIn"]["count"], _now(served)["gotIn"]["otherCritical"]) == (0, 1)


def test_blocks_that_hurt_are_listed_once_each_and_unenforced_ones_with_their_agent(served: Served) -> None:
    """A block that its agent still counts as ineffective is not listed a second time by its event."""
    with served.bench() as bench:
        night = _night(bench)
        for _ in range(3):
            cut = ResponseTaken(action="block_ip", target="198.51.100.20", outcome="taken", connections=2)
            night.report("web-1", "brute_force", "medium", cut, sourceIp="198.51.100.20")
        through = ResponseTaken(action="block_ip", target="198.51.100.30", outcome="ineffective: it gets through")
        night.report("web-1", "brute_force", "medium", through, sourceIp="198.51.100.30")
        agent = night.agents["db-1"]
        reasons = [Unenforced(value="203.0.113.5", reason="it still gets through")]
        beat = agent.heartbeat(bench.wall, enforced=Enforced(set=1, ineffective=1, reasons=reasons))
        bench.receive(topics.HEARTBEAT, agent.agent_id, beat)
        bench.pass_time(10)  # what heartbeats change is written some seconds later
    hurt = _now(served)["weHurt"]
    assert [(each["value"], each["connections"]) for each in hurt["harm"]["records"]] == [
        ("198.51.100.30", None),
        ("198.51.100.20", 2),
    ]
    assert [each["hostname"] for each in hurt["unenforced"]["records"]] == ["db-1"]


def test_agents_that_are_not_seen_are_counted_and_named(served: Served) -> None:
    """Silent, degraded and in trial, each with its number."""
    with served.bench() as bench:
        night = _night(bench)
        source = SourceReport(name="sshd", state="unreadable", reason="permission denied")
        members: dict[str, dict[str, Any]] = {
            "web-1": {"health": "degraded", "sources": [source]},
            "db-1": {"mode_wanted": Mode.PROTECTION, "trial_seconds_left": 60.0},
        }
        for _ in range(15):
            bench.pass_time(10, step=5)
            for name, stated in members.items():
                agent = night.agents[name]
                bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, **stated))
        bench.pass_time(10)
    blind = _now(served)["blind"]
    names = {
        part: [each["hostname"] for each in blind[part]["records"]] for part in ("stale", "degraded", "unconfirmed")
    }
    assert names == {"stale": ["mail-1"], "degraded": ["web-1"], "unconfirmed": ["db-1"]}


def test_a_token_of_an_organization_sees_only_what_is_its_own(served: Served) -> None:
    """Neither the numbers nor the records of another organization, nor the manager's warnings."""
    with served.bench() as bench:
        _night(bench)
        trusted(bench, "other-1", organization_id="other")
    with served.client() as admin:
        made = admin.post("/api/access", json={"name": "v", "role": "viewer", "organizations": ["other"]}).json()
    own = _now(served, served.client(made["data"]["token"]))
    assert (own["agents"]["total"], _now(served)["agents"]["total"]) == (1, 4)
    assert own["blind"]["warnings"] == own["blind"]["channels"] == []


def test_the_lag_of_the_manager_is_in_the_answer(tmp_path: Path) -> None:
    """As the manager states it, with the reason why it is not ready."""
    lag = {"behindSeconds": 12.0, "waitingMessages": 34}
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0, lag=lambda: lag) as served:
        served.not_ready = "the store cannot commit just now"
        assert _now(served)["manager"] == {"problem": "the store cannot commit just now", **lag}
