"""Piecewise commit of a rejected batch: only the change that does not fit is dropped, and its sender is told."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from manager.domain.access import Role
from manager.domain.agents.host import Host
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.batch import Batch, Changes
from manager.engine.commands.access_requests import CreateAccess
from manager.engine.commands.http_agent_requests import RegisterAgent, StoreReports
from manager.engine.commands.requests import CreateToken, DeregisterAgent, RecognizeThreat, SetPolicy
from manager.engine.piecewise_commit import _decided_pieces, _other_pieces
from manager.errors import StoreRejected, StoreUnavailable
from schemas import topics
from tests.support.engine import Bench, prepared_reports
from tests.support.simulated import SimulatedAgent

Culprit = Callable[[Changes], bool]

ADDRESSES = {"new-1": "198.51.100.77", "http-2": "198.51.100.78"}
"""Addresses of the hosts that register in the scene."""


def reject(bench: Bench, culprit: Culprit) -> list[Changes]:
    """Let the store reject whatever has the culprit in it; return the changes that it committed."""
    commit, committed = bench.store.commit, []

    def rejecting(changes: Changes) -> None:
        if culprit(changes):
            raise StoreRejected("it does not fit")
        commit(changes)
        committed.append(changes)

    bench.store.commit = rejecting  # type: ignore[method-assign]
    return committed


class Scene:
    """One batch of everything: reports by both doors, registrations, tokens, policies, an incident, a dead letter."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.one, self.two = bench.enroll("web-1"), bench.enroll("web-2")
        for agent in (self.one, self.two):
            bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
        host = Host.of("http-1", "Debian 12", "x64", "1.0")
        self.http_agent = bench.ask(RegisterAgent(host, None, by_admin=True)).record["agentId"]
        self.newcomer = SimulatedAgent("new-1", bench.token(), bench.keyring.seal_public)
        bench.pass_time(6)
        bench.publisher.published.clear()

    def fill(self) -> None:
        """Put the batch into the inbox."""
        bench, one, two = self.bench, self.one, self.two
        for agent, name in ((one, "a"), (two, "b"), (two, "c")):
            attacker = "203.0.113.9" if name == "c" else "203.0.113.8"
            bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, name, sourceIp=attacker))
        self.client_id, payload = self.newcomer.registration(bench.wall, addresses=[ADDRESSES["new-1"]])
        bench.put(topics.REGISTRATION, self.client_id, payload)
        bench.put(topics.PRESENCE, one.agent_id, one.presence("offline", bench.wall))
        bench.put(topics.HEARTBEAT, two.agent_id, b"{}")
        self.http = bench.submit(
            StoreReports(self.http_agent, prepared_reports(self.http_agent, bench.wall, "h-1", "h-2"))
        )
        self.token = bench.submit(CreateToken("test", organization_id="acme"))
        self.policy = bench.submit(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70}}, "test"))
        self.offline = bench.submit(DeregisterAgent(self.http_agent))
        self.registered = bench.submit(
            RegisterAgent(Host.of("http-2", "x", "x64", "1", addresses=(ADDRESSES["http-2"],)), None, by_admin=True)
        )

    def stored(self) -> dict[str, Any]:
        """Return what of the batch is in the store."""
        rows = self.bench.rows
        return {
            "threats": sorted(threat_id for (threat_id,) in rows("SELECT threat_id FROM threat")),
            "hosts": sorted(hostname for (hostname,) in rows("SELECT hostname FROM agent")),
            "tokens": rows("SELECT count(*) FROM enrollment_token WHERE organization_id = 'acme'")[0][0],
            "revisions": rows("SELECT count(*) FROM policy_revision")[0][0],
            "incidents": rows("SELECT count(*) FROM incident")[0][0],
            "members": rows("SELECT count(*) FROM incident_member")[0][0],
            "offline": sorted(name for (name,) in rows("SELECT hostname FROM agent WHERE state = 'offline'")),
        }


EVERYTHING = {
    "threats": ["a", "b", "c", "h-1", "h-2"],
    "hosts": ["http-1", "http-2", "new-1", "web-1", "web-2"],
    "tokens": 1,
    "revisions": 1,
    "incidents": 2,
    "members": 4,
    "offline": ["http-1", "web-1"],
}


class Row(tuple[str, ...]):
    """A row of any table: each of its members is a text, as the pieces ask for ids, names and values."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return () if name.startswith("__") else Row([name])


MEMBERS = [each for each in dataclasses.fields(Changes) if each.name not in {"threats", "measures", "elsewhere"}]
"""What a transaction writes, except reports, whose pieces are made from the context; those of others are stored."""


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_each_change_of_a_batch_is_in_a_piece(member: dataclasses.Field[Any]) -> None:
    """A change that is in none would be lost without a word once the store rejects any other of its batch."""
    row, batch = Row(["k", "k"]), Batch(Instant(0.0, 0.0))
    empty = getattr(batch.changes, member.name)
    whole = {row: row} if isinstance(empty, dict) else [row] if isinstance(empty, list) else row
    setattr(batch.changes, member.name, whole)
    found = [getattr(piece.changes, member.name) for piece in (*_other_pieces(batch), *_decided_pieces(batch.changes))]
    assert whole in found


@pytest.fixture
def scene(bench: Bench) -> Scene:
    return Scene(bench)


def test_the_scene_stores_everything(scene: Scene) -> None:
    """Without a culprit the batch is one transaction."""
    committed = reject(scene.bench, lambda _changes: False)
    scene.fill()
    scene.bench.engine.step(scene.bench.now)
    assert scene.stored() == EVERYTHING
    assert len(committed) == 1


def _has_report(*ids: str) -> Culprit:
    return lambda changes: any(row.threat_id in ids for row in changes.threats)


def test_a_report_that_does_not_fit_is_refused_and_all_others_are_stored(scene: Scene) -> None:
    """Its agent gets a refusal and nobody else does; everything is acknowledged; a dead letter gives the reason."""
    bench = scene.bench
    reject(bench, _has_report("b"))
    scene.fill()
    bench.engine.step(bench.now)
    bench.pass_time(2)
    assert scene.stored() == {**EVERYTHING, "threats": ["a", "c", "h-1", "h-2"]}
    assert bench.receipts(scene.one) == {"stored": ["a"], "refused": [], "deferred": []}
    told = bench.receipts(scene.two)
    assert (told["stored"], [each["id"] for each in told["refused"]]) == (["c"], ["b"])
    assert bench.rows(f"SELECT reason FROM dead_letter WHERE topic = 'agents/{scene.two.agent_id}/threats'") == [
        ("it does not fit",)
    ]
    assert bench.fleet.counters["threats_stored"] == 4
    assert all(error is None for answers in (scene.http, scene.token, scene.policy) for _, error in answers)


def test_a_report_that_came_twice_and_does_not_fit_is_refused_only(bench: Bench) -> None:
    """No receipt says stored for it: its guard would delete it."""
    agent = bench.enroll("web-1")
    reject(bench, lambda changes: any(row.threat_id == "a" for row in changes.threats))
    message = agent.threat(bench.wall, "a", sourceIp="203.0.113.8")
    bench.put(topics.THREATS, agent.agent_id, message)
    bench.put(topics.THREATS, agent.agent_id, message)
    bench.engine.step(bench.now)
    receipts = [json.loads(each.payload) for each in bench.publisher.published if each.topic.endswith("/receipts")]
    assert [(each.get("stored", []), [one["id"] for one in each["refused"]]) for each in receipts] == [([], ["a"])]


def test_a_recognition_is_stored_though_another_change_is_not(bench: Bench) -> None:
    """Its caller was told that it is."""
    agent = bench.enroll("web-1")
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "a", sourceIp="203.0.113.8"))
    reject(bench, lambda changes: bool(changes.tokens))
    bench.submit(RecognizeThreat("a", agent.agent_id, "default", "bob", recognized=True, note="me"))
    bench.submit(CreateToken("test", organization_id="acme"))
    bench.engine.step(bench.now)
    assert bench.rows("SELECT count(*) FROM recognized_threat") == [(1,)]


def test_a_submission_that_does_not_fit_is_refused_as_a_whole(scene: Scene) -> None:
    """Of the two reports of one request none is stored if one does not fit."""
    reject(scene.bench, _has_report("h-2"))
    scene.fill()
    scene.bench.engine.step(scene.bench.now)
    assert scene.stored() == {**EVERYTHING, "threats": ["a", "b", "c"]}
    ((submission, error),) = scene.http
    assert (error, submission.refusal) == (None, "the store cannot hold this report")


def test_a_token_that_does_not_fit_is_an_error_for_its_caller_alone(scene: Scene) -> None:
    """The other callers get their answers, and everything else is stored."""
    reject(scene.bench, lambda changes: any(token.organization_id == "acme" for token in changes.tokens.values()))
    scene.fill()
    scene.bench.engine.step(scene.bench.now)
    assert scene.stored() == {**EVERYTHING, "tokens": 0}
    ((value, error),) = scene.token
    assert value is None
    assert isinstance(error, StoreRejected)
    assert all(error is None for answers in (scene.http, scene.policy, scene.offline) for _, error in answers)


def test_a_policy_document_that_does_not_fit_is_an_error_for_its_caller_alone(scene: Scene) -> None:
    """The other callers get their answers, and everything else is stored."""
    reject(scene.bench, lambda changes: bool(changes.revisions))
    scene.fill()
    scene.bench.engine.step(scene.bench.now)
    assert scene.stored() == {**EVERYTHING, "revisions": 0}
    assert isinstance(scene.policy[0][1], StoreRejected)
    assert all(error is None for answers in (scene.http, scene.token, scene.offline) for _, error in answers)


@pytest.mark.parametrize("hostname", ["new-1", "http-2"])
def test_an_agent_that_does_not_fit_never_registered(scene: Scene, hostname: str) -> None:
    """It gets no reply and no admission; everything else is stored; later it may register."""
    bench = scene.bench
    reject(bench, lambda changes: any(agent.hostname == hostname for agent in changes.agents.values()))
    scene.fill()
    bench.broker_access.admitted.clear()
    bench.engine.step(bench.now)
    assert scene.stored() == {**EVERYTHING, "hosts": [name for name in EVERYTHING["hosts"] if name != hostname]}
    replies = bench.publisher.take(topics.REGISTRATION_REPLY.address(scene.client_id))
    assert len(replies) == (0 if hostname == "new-1" else 1)
    assert isinstance(scene.registered[0][1], StoreRejected if hostname == "http-2" else type(None))
    assert len(bench.broker_access.admitted) == 1
    assert bench.fleet.registry.find_by_hostname("default", hostname) is None
    assert not bench.fleet.addresses.holds(ADDRESSES[hostname], "default", None)
    del bench.store.commit
    assert "agentId" in bench.register(SimulatedAgent(hostname, bench.token(), bench.keyring.seal_public))


def test_an_incident_that_does_not_fit_takes_no_report_along(scene: Scene) -> None:
    """The reports are stored and receipted, and nothing of the incident is."""
    bench = scene.bench
    reject(bench, lambda changes: any(incident.value == "203.0.113.8" for incident in changes.incidents.values()))
    scene.fill()
    bench.engine.step(bench.now)
    assert scene.stored() == {**EVERYTHING, "incidents": 1, "members": 2}
    bench.pass_time(2)
    assert bench.receipts(scene.one)["stored"] == ["a"]


def test_reports_of_an_agent_that_was_dropped_are_not_their_own_fault(scene: Scene) -> None:
    """A report is not refused because its agent's record did not fit: it gets no receipt, and may come again."""
    bench, two = scene.bench, scene.two

    def culprit(changes: Changes) -> bool:
        agent = any(agent_id == two.agent_id for agent_id in changes.agents)
        return agent or any(row.threat_id in {"b", "c"} for row in changes.threats)

    reject(bench, culprit)
    scene.fill()
    behind = bench.engine._write_behind
    behind.unwritten.record(bench.fleet.registry.agents[two.agent_id])
    behind._next = 0.0
    bench.engine.step(bench.now)
    bench.pass_time(2)
    assert bench.receipts(two) == {"stored": [], "refused": [], "deferred": []}
    del bench.store.commit
    bench.receive(topics.THREATS, two.agent_id, two.threat(bench.wall, "b", sourceIp="203.0.113.8"))
    bench.pass_time(2)
    assert bench.receipts(two)["stored"] == ["b"]


@pytest.mark.parametrize("error", [StoreUnavailable("the disk is full"), ZeroDivisionError()])
@pytest.mark.parametrize("after", range(9))
def test_a_piecewise_commit_that_is_interrupted_continues_where_it_was(
    bench: Bench, after: int, error: Exception
) -> None:
    """A disk that fills after any of the commits: nothing is told before the end, and everything is there once."""
    scene = Scene(bench)
    reject(bench, _has_report("b"))
    rejecting, commits = bench.store.commit, []

    def filling(changes: Changes) -> None:
        commits.append(changes)
        if len(commits) > 1 + after:
            raise error
        rejecting(changes)

    scene.fill()
    before = len(bench.acknowledged)
    bench.store.commit = filling  # type: ignore[method-assign]
    bench.pass_time(60)
    assert not bench.engine.can_commit
    assert (len(bench.acknowledged), scene.http, bench.receipts(scene.one)["stored"]) == (before, [], [])
    bench.store.commit = rejecting  # type: ignore[method-assign]
    bench.pass_time(2)
    assert bench.engine.can_commit
    assert scene.stored() == {**EVERYTHING, "threats": ["a", "c", "h-1", "h-2"]}
    assert bench.receipts(scene.one)["stored"] == ["a"]
    for table in ("agent_history WHERE event = 'agent_offline'", "audit_entry WHERE action = 'policy.set'"):
        expected = 2 if "history" in table else 1
        assert bench.rows(f"SELECT count(*) FROM {table}") == [(expected,)]
    assert bench.rows("SELECT count(*) FROM dead_letter") == [(2,)]


def test_a_dead_letter_that_does_not_fit_is_dropped(scene: Scene) -> None:
    """The last resort has no further one."""
    reject(scene.bench, lambda changes: bool(changes.dead_letters))
    scene.fill()
    scene.bench.engine.step(scene.bench.now)
    assert scene.stored() == EVERYTHING
    assert scene.bench.rows("SELECT count(*) FROM dead_letter") == [(0,)]


def test_a_store_that_rejects_everything_ends_no_step(scene: Scene) -> None:
    """Every change is dropped, every caller is told, every message is acknowledged."""
    bench = scene.bench
    reject(bench, lambda _changes: True)
    scene.fill()
    assert bench.engine.step(bench.now)
    assert scene.stored()["threats"] == []
    assert bench.engine.can_commit
    assert [type(answers[0][1]) for answers in (scene.token, scene.policy, scene.registered)] == [StoreRejected] * 3


@pytest.mark.parametrize(
    ("request_", "member"),
    [(CreateAccess("test", "alice", Role.ADMIN), "access"), (CreateToken("test", name="web"), "tokens")],
    ids=["access", "tokens"],
)
def test_a_token_that_is_not_stored_is_good_for_nothing(bench: Bench, request_: Any, member: str) -> None:
    """Its name is free at once, so the same request works once the store takes it."""
    commit = bench.store.commit
    reject(bench, lambda changes: bool(getattr(changes, member)))
    with pytest.raises(StoreRejected):
        bench.ask(request_)
    assert bench.fleet.access.get("alice") is None
    assert all(token.name != "web" for token in bench.fleet.tokens.values())
    bench.store.commit = commit  # type: ignore[method-assign]
    bench.ask(request_)
