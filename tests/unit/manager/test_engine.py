"""The engine's promises on a real store and a virtual clock."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.engine.commands.requests import DeregisterAgent, ReadPolicy, RemoveAgent, RevokeToken, SetPolicy
from manager.errors import Invalid, NotFound
from manager.storage.queries import StoreQueries
from schemas import topics
from schemas.keys import has_version_proof
from schemas.model import iso
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def test_registration_gives_an_id_that_a_second_one_keeps(bench: Bench) -> None:
    """The same hostname and organization is a reconnection; another organization is another agent."""
    first = bench.enroll("web-1")
    again = bench.enroll("web-1")
    elsewhere = bench.enroll("web-1", organization_id="acme")
    assert first.agent_id == again.agent_id != elsewhere.agent_id
    assert bench.rows("SELECT count(*) FROM agent") == [(2,)]


def test_racing_registrations_of_one_host_yield_one_agent(bench: Bench) -> None:
    """Two hundred registrations of one hostname, each with a secret of its own, are one agent."""
    token = bench.token()
    for n in range(200):
        agent = SimulatedAgent("web-1", token, bench.keyring.seal_public)
        client_id, payload = agent.registration(bench.wall + n / 1000)
        bench.put(topics.REGISTRATION, client_id, payload)
    bench.pass_time(10)
    assert bench.rows("SELECT count(*) FROM agent") == [(1,)]


def test_a_registration_sent_again_is_answered_again_and_changes_nothing(bench: Bench) -> None:
    """A lost reply costs the client one repetition: same bytes, same reply."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    client_id, payload = agent.registration(bench.wall)
    bench.receive(topics.REGISTRATION, client_id, payload)
    first = bench.answer(client_id)
    before = bench.rows("SELECT session, stamp_digest, http_digest FROM agent")
    bench.pass_time(30)
    bench.receive(topics.REGISTRATION, client_id, payload)
    assert bench.answer(client_id) == first
    assert bench.rows("SELECT session, stamp_digest, http_digest FROM agent") == before


def test_an_older_registration_is_refused(bench: Bench) -> None:
    """A registration that a broker kept back changes nothing once a newer one was taken."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    old_id, old = agent.registration(bench.wall)
    assert "agentId" in bench.register(agent, sent_at=bench.wall + 5)
    bench.receive(topics.REGISTRATION, old_id, old)
    assert bench.answer(old_id)["error"] == "outdated"


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda payload: payload.replace(b'"hostname":"web-1"', b'"hostname":"web-2"'), "bad_proof"),
        (lambda payload: payload[:-3] + b'x"}', "bad_proof"),
        (lambda payload: payload[:-60] + b"}", "malformed"),
        (lambda payload: payload.replace(b'"tokenId":"tok-', b'"tokenId":"tok_'), "unknown_token"),
        (lambda _payload: b"{}", "malformed"),
    ],
)
def test_forged_registrations_are_refused(bench: Bench, spoil: object, error: str) -> None:
    """A registration that was changed on its way enrolls nobody and is kept as a dead letter with its reason."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    client_id, payload = agent.registration(bench.wall)
    bench.receive(topics.REGISTRATION, client_id, spoil(payload))  # type: ignore[operator]
    assert bench.answer(client_id)["error"] in {error, "bad_proof"}
    assert len(bench.fleet.registry) == 0
    assert bench.rows("SELECT count(*) FROM dead_letter") == [(1,)]


def test_a_secret_sealed_to_another_manager_is_refused(bench: Bench) -> None:
    """An unsealed secret, or one sealed to another key or client, enrolls nobody."""
    from schemas.keys import ManagerKeyring  # noqa: PLC0415 -- only this test has a second manager

    agent = SimulatedAgent("web-1", bench.token(), ManagerKeyring(b"x" * 32).seal_public)
    assert bench.register(agent)["error"] == "malformed"


def test_tokens_count_agents_and_end(bench: Bench) -> None:
    """A token's uses are counted once per agent; spent, expired and revoked ones let no new agent in."""
    token = bench.token(max_uses=1, expires_at=bench.wall + 100)
    bench.enroll("web-1", token)
    bench.enroll("web-1", token)
    other = SimulatedAgent("web-2", token, bench.keyring.seal_public)
    assert bench.register(other)["error"] == "used_token"
    bench.pass_time(100, step=9)
    again = SimulatedAgent("web-1", token, bench.keyring.seal_public)
    assert bench.register(again)["error"] == "expired_token"
    unlimited = bench.token()
    bench.ask(RevokeToken(unlimited.token_id, "test"))
    assert bench.register(SimulatedAgent("web-3", unlimited, bench.keyring.seal_public))["error"] == "unknown_token"


def test_the_token_fixes_organization_site_and_tags(bench: Bench) -> None:
    """What the token says of organization, site and tags beats what the client says."""
    token = bench.token(organization_id="acme", site="berlin", tags=("prod",))
    agent = bench.enroll("web-1", token, organization_id="evil", site="moon", tags=["own"])
    record = bench.fleet.registry.agents[agent.agent_id]
    assert (record.organization_id, record.host.site, record.host.tags) == ("acme", "berlin", ("prod",))


def test_silence_of_ninety_seconds_is_stale_at_the_next_sweep(bench: Bench) -> None:
    """Just under 90 s of silence is online; 90 s is stale at the sweep; a heartbeat alone brings it back."""
    agent = bench.enroll("web-1")
    bench.engine._sweep.run_next()
    bench.pass_time(89.9, step=5)
    bench.engine._sweep.run_next()
    bench.engine.step(bench.now)
    assert bench.state(agent) == "online"
    bench.pass_time(0.1, step=0.1)
    bench.engine._sweep.run_next()
    bench.engine.step(bench.now)
    assert bench.state(agent) == "stale silence"
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    assert bench.state(agent) == "online"
    assert bench.rows("SELECT state FROM agent") == [("online",)]


def test_a_manager_that_was_away_flags_nobody_before_its_own_grace(bench: Bench) -> None:
    """Ten minutes down, deaf or suspended age no agent: each has its full 90 s afterwards."""
    agent = bench.enroll("web-1")
    bench.elapsed += 600  # down
    bench.crash()
    bench.pass_time(89, step=5)
    assert bench.state(agent) == "online"
    bench.engine.disconnected()  # deaf
    bench.pass_time(600, step=5)
    bench.engine.connected(bench.now, fresh=False)
    bench.pass_time(89, step=5)
    assert bench.state(agent) == "online"
    bench.elapsed += 600  # suspended
    bench.pass_time(89, step=5)
    assert bench.state(agent) == "online"
    bench.pass_time(40, step=5)
    assert bench.state(agent) == "stale silence"


def test_a_will_counts_after_the_settling_time(bench: Bench) -> None:
    """A lost connection is stale after 5 s, and ends only with a higher session."""
    agent = bench.enroll("web-1")
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
    bench.pass_time(4)
    assert bench.state(agent) == "online"
    bench.pass_time(1)
    assert bench.state(agent) == "stale connection_lost"
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    assert bench.state(agent) == "stale connection_lost"
    agent.session += 1
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    assert bench.state(agent) == "online"


def test_a_reconnect_within_the_settling_time_never_shows_stale(bench: Bench) -> None:
    """A birth of the next session, before or after the old one's will, keeps the agent online throughout."""
    agent = bench.enroll("web-1")
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
    bench.pass_time(3)
    agent.session += 1
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall, session=agent.session - 1))
    bench.pass_time(30)
    assert bench.state(agent) == "online"
    assert bench.rows("SELECT count(*) FROM agent_history WHERE event = 'agent_stale'") == [(0,)]


def test_an_old_heartbeat_replayed_keeps_nobody_alive(bench: Bench) -> None:
    """A heartbeat that does not raise the sequence is ignored."""
    agent = bench.enroll("web-1")
    old = agent.heartbeat(bench.wall)
    bench.receive(topics.HEARTBEAT, agent.agent_id, old)
    for _ in range(30):
        bench.pass_time(5)
        bench.receive(topics.HEARTBEAT, agent.agent_id, old)
    assert bench.state(agent) == "stale silence"


def test_a_clean_stop_is_offline_and_keeps_the_record(bench: Bench) -> None:
    """A sign-off marks the agent offline; it comes back under its id."""
    agent = bench.enroll("web-1")
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    assert bench.state(agent) == "offline"
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    assert bench.state(agent) == "offline"
    assert bench.enroll("web-1").agent_id == agent.agent_id
    assert bench.ask(DeregisterAgent(agent.agent_id)) == agent.agent_id
    assert bench.state(agent) == "offline"


def test_a_report_is_stored_once_and_acknowledged_after_the_commit(bench: Bench) -> None:
    """However often a report arrives it is one row and one word: stored. Another content under its id is refused."""
    agent = bench.enroll("web-1")
    report = agent.threat(bench.wall, "t-1", sourceIp="203.0.113.7")
    handles = [bench.receive(topics.THREATS, agent.agent_id, report) for _ in range(3)]
    bench.pass_time(2)
    assert bench.receipts(agent)["stored"] == ["t-1"] * 3
    assert set(handles) <= set(bench.acknowledged)
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1", sourceIp="203.0.113.8"))
    bench.pass_time(2)
    (refusal,) = bench.receipts(agent)["refused"]
    assert refusal["id"] == "t-1"
    assert bench.rows("SELECT threat_id, source_ip FROM threat") == [("t-1", "203.0.113.7")]


def test_a_report_that_the_rules_fail_on_is_stored_and_takes_no_other_along(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in correlating one report, it and all others are stored, receipted and acknowledged."""
    one, other = bench.enroll("web-1"), bench.enroll("web-2")
    evidence = bench.fleet.responder.never_block.evidence
    note = evidence.record

    def failing(*words: Any) -> Any:
        if "odd" in words[3]:
            raise ZeroDivisionError
        return note(*words)

    monkeypatch.setattr(evidence, "record", failing)
    bench.put(topics.THREATS, one.agent_id, one.threat(bench.wall, "bad", sourceIp="203.0.113.1", lastLogin="-", odd=1))
    bench.receive(topics.THREATS, other.agent_id, other.threat(bench.wall, "good", sourceIp="203.0.113.1"))
    assert bench.receipts(one)["stored"] == ["bad"]
    assert bench.receipts(other)["stored"] == ["good"]
    assert bench.fleet.counters["reports_not_correlated"] == 1


def test_pruned_reports_are_still_known(bench: Bench) -> None:
    """A report that comes again after its threat was pruned is not stored a second time."""
    agent = bench.enroll("web-1")
    report = agent.threat(bench.wall, "t-1")
    bench.receive(topics.THREATS, agent.agent_id, report)
    bench.elapsed += 2 * 86_400
    bench.pass_time(130, step=9)
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    bench.receipts(agent)
    bench.receive(topics.THREATS, agent.agent_id, report)
    bench.pass_time(2)
    assert bench.receipts(agent)["stored"] == ["t-1"]
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_event_time_is_right_on_a_clock_that_is_an_hour_off(bench: Bench, skew: float) -> None:
    """A report spooled for ten minutes has its true time, whatever the host's clock says."""
    agent = bench.enroll("web-1", sent_at=bench.wall + skew)
    happened = bench.wall
    report = agent.threat(happened + skew, "t-1")
    bench.pass_time(600, step=9)
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall + skew))
    bench.receive(topics.THREATS, agent.agent_id, report)
    ((event_time, known),) = bench.rows("SELECT event_time, time_known FROM threat")
    assert abs(event_time - happened) <= 1
    assert known


def test_a_clock_that_leads_out_of_the_calendar_is_none(bench: Bench) -> None:
    """A report whose time would be thousands of years ago counts at its receipt, and can be listed like any other."""
    agent = bench.enroll("web-1")
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(253_402_300_000.0, uptime=1.0))
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "odd", sourceIp="203.0.113.1"))
    assert bench.rows("SELECT event_time, time_known FROM threat") == [(bench.wall, 0)]
    (listed,), _ = StoreQueries(bench.database).threats(limit=5)
    assert listed["eventTime"] == iso(bench.wall)


def test_an_agent_over_its_budget_is_deferred_and_others_are_not(bench: Bench) -> None:
    """What is over an agent's budget is acknowledged, named in a deferral and not stored; it may come again."""
    flood, quiet = bench.enroll("flood"), bench.enroll("quiet")
    for n in range(2500):
        bench.put(topics.THREATS, flood.agent_id, flood.threat(bench.wall, f"f-{n}"))
    bench.put(topics.THREATS, quiet.agent_id, quiet.threat(bench.wall, "q-1"))
    bench.engine.step(bench.now)
    assert bench.rows("SELECT threat_id FROM threat WHERE threat_id LIKE 'q%'") == [("q-1",)]
    bench.pass_time(10)
    told = bench.receipts(flood)
    deferred = [one for entry in told["deferred"] for one in entry["ids"]]
    assert len(told["stored"]) + len(deferred) == 2500
    assert len(deferred) >= 450
    bench.pass_time(10)
    bench.receive(topics.THREATS, flood.agent_id, flood.threat(bench.wall, deferred[0]))
    bench.pass_time(2)
    assert bench.receipts(flood)["stored"] == [deferred[0]]


def test_a_fleet_that_registers_waits_for_a_broker_that_falls_behind(bench: Bench) -> None:
    """One goes through now and then; reports and heartbeats do not wait, and then all the others do register."""
    old, token = bench.enroll("old"), bench.token()
    for n in range(100):
        bench.put(topics.REGISTRATION, *SimulatedAgent(f"new-{n}", token, bench.keyring.seal_public).registration(0.0))
    bench.broker_access.room = 0
    for n in range(5):
        bench.receive(topics.THREATS, old.agent_id, old.threat(bench.wall, f"t-{n}"))
    assert bench.rows("SELECT count(*) FROM threat") == [(5,)]
    assert len(bench.broker_access.admitted) == 2
    assert not bench.engine.has_work
    bench.pass_time(10)
    assert 8 <= len(bench.broker_access.admitted) <= 13
    bench.broker_access.room = 5
    before = len(bench.broker_access.admitted)
    assert bench.engine.has_work
    bench.pass_time(1)
    assert len(bench.broker_access.admitted) == before + 5
    bench.broker_access.room = None
    bench.pass_time(3)
    assert len(bench.broker_access.admitted) == 101


def test_registrations_never_fill_the_inbox(bench: Bench) -> None:
    """What the lane has no room for is acknowledged and forgotten; the client that gets no answer asks again."""
    bench.broker_access.room = 0
    token = bench.token()
    agents = [SimulatedAgent(f"new-{n}", token, bench.keyring.seal_public) for n in range(1003)]
    handles = [bench.put(topics.REGISTRATION, *agent.registration(bench.wall)) for agent in agents]
    assert bench.engine.inbox.registrations == 1000
    bench.engine.step(bench.now)
    assert set(handles[1000:]) <= set(bench.acknowledged)
    assert bench.fleet.counters["messages_deferred"] == 3


def test_a_policy_reaches_each_agent_once_with_a_version_that_never_falls(bench: Bench) -> None:
    """A change publishes to whom it touches, once; one that alters nothing publishes nothing."""
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
    """A heartbeat with a rightly signed higher version raises the fleet's revision; a wrong proof does not."""
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
    """A policy that a broker withheld or lost goes out again once a heartbeat shows an older one in force."""
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


def test_a_removed_agent_is_gone(bench: Bench) -> None:
    """Removal takes the record, cuts the connection, clears the retained topics, and refuses what still comes."""
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
def test_no_old_registration_brings_a_removed_agent_back(bench: Bench, *, restarted: bool) -> None:
    """What a broker kept of it is refused, over a restart too; the guard itself comes back with a new one."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    kept = []
    for _ in range(2):
        kept.append(agent.registration(bench.wall))
        bench.receive(topics.REGISTRATION, *kept[-1])
        agent.agent_id = bench.answer(kept[-1][0])["agentId"]
        bench.pass_time(5)
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    if restarted:
        bench.crash()
    for client_id, payload in kept:
        bench.receive(topics.REGISTRATION, client_id, payload)
        assert bench.answer(client_id)["error"] == "outdated"
    assert len(bench.fleet.registry) == 0
    assert "agentId" in bench.register(agent)


def test_a_removed_host_whose_clock_was_set_back_comes_back_with_a_new_token(bench: Bench) -> None:
    """A token that was made after the removal stands in no registration from before it."""
    agent = bench.enroll("web-1")
    bench.pass_time(1)
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    assert bench.register(agent, sent_at=bench.wall - 3600)["error"] == "outdated"
    bench.pass_time(1)
    agent.token = bench.token()
    assert "agentId" in bench.register(agent, sent_at=bench.wall - 3600)


def test_what_is_committed_outlives_a_crash_and_what_is_not_is_not_acknowledged(bench: Bench) -> None:
    """Agents, states, policies and reports are there after a crash; unprocessed messages have no acknowledgement."""
    agent = bench.enroll("web-1")
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1"))
    waiting = bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-2"))
    bench.crash()
    assert waiting not in bench.acknowledged
    assert bench.rows("SELECT threat_id FROM threat") == [("t-1",)]
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-3"))
    assert bench.state(agent) == "online"


def test_a_store_that_cannot_commit_acknowledges_nothing_and_loses_nothing(bench: Bench) -> None:
    """While the store is locked nobody ages and nothing is acked; once it is free all is stored, once."""
    agent = bench.enroll("web-1")
    bench.database.execute_sql("PRAGMA busy_timeout = 1")
    import sqlite3  # noqa: PLC0415 -- the other side of the lock

    other = sqlite3.connect(bench.directory / "panguard.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    handle = bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1"))
    bench.pass_time(300, step=5)
    assert not bench.engine.can_commit
    assert handle not in bench.acknowledged
    assert bench.receipts(agent)["stored"] == []
    other.execute("ROLLBACK")
    other.close()
    bench.pass_time(60, step=5)
    assert bench.state(agent) == "online"
    assert handle in bench.acknowledged
    assert bench.receipts(agent)["stored"] == ["t-1"]
    assert bench.rows("SELECT count(*) FROM threat") == [(1,)]
