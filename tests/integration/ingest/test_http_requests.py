"""Requests of HTTP agents at a worker: stored or refused whole, answered as the leader would, handed over to it."""

import json
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from manager.domain.agents.agent import State
from manager.domain.agents.host import Host
from manager.domain.correlation.reports import DATED
from manager.domain.http_reports import prepare
from manager.domain.ingest.topics import WORKER_LIFE
from manager.domain.policies.scopes import GLOBAL
from manager.domain.store_history import HISTORY, KEPT_FOR
from manager.engine.commands.http_agent_requests import (
    HeartbeatRecorded,
    LearnAgent,
    RecordHeartbeat,
    RegisterAgent,
    StoreReports,
)
from manager.engine.commands.requests import DeregisterAgent, RemoveAgent, SetPolicy
from manager.engine.context import Submission
from manager.errors import LeaderNeeded
from schemas import topics
from schemas.decoding import decode, decode_leniently
from schemas.fast_http_heartbeats import fast_http_heartbeat
from schemas.http_agents import HttpEvents, HttpHeartbeat
from schemas.limits import BODY_LIMIT, MESSAGE_LIMIT
from schemas.model import iso
from tests.support.engine import Bench, prepared_reports
from tests.support.ingest_worker import WorkerBench, a_worker
from tests.support.migrated_store import address_of

pytestmark = pytest.mark.postgresql

SOURCE = "203.0.113.7"


def registered(leader: Bench, hostname: str) -> str:
    """Return the id of an HTTP agent of the leader."""
    host = Host.of(hostname, "Debian 12", "x64", "1.0")
    return str(leader.ask(RegisterAgent(host, None, by_admin=True)).record["agentId"])


def reports(leader: Bench, agent_id: str, *ids: str, **details: str) -> StoreReports:
    return StoreReports(agent_id, prepared_reports(agent_id, leader.wall, *ids, **details))


def heartbeat(agent_id: str, **members: Any) -> RecordHeartbeat:
    body = json.dumps(members).encode()
    fast = fast_http_heartbeat(body)
    if fast is not None:
        return RecordHeartbeat(agent_id, fast, (), body)
    lenient, dropped = decode_leniently(HttpHeartbeat, body, MESSAGE_LIMIT)
    return RecordHeartbeat(agent_id, lenient, tuple(dropped))


def only(answers: list[tuple[Any, Exception | None]]) -> Any:
    """Return the one answer, which is no error."""
    ((value, error),) = answers
    assert error is None, error
    return value


def needs_leader(answers: list[tuple[Any, Exception | None]]) -> LeaderNeeded:
    ((value, error),) = answers
    assert value is None
    assert isinstance(error, LeaderNeeded)
    return error


def settled(leader: Bench, agent_id: str) -> RecordHeartbeat:
    """Return a heartbeat that states the present policy, after the leader has heard one like it."""
    version = leader.ask(heartbeat(agent_id)).record["activePolicyVersion"]
    request = heartbeat(agent_id, policyVersion=version, cpu=12.5, eventsProcessed=3, mode="protection")
    assert leader.ask(request).pending == ()
    leader.pass_time(10)
    return request


def begun(worker: WorkerBench) -> None:
    """Have a worker send its first message, so that what follows waits for the end of a second."""
    worker.engine.step(worker.leader.now)
    worker.deliver_life()


def test_reports_of_a_request_are_stored_and_decided_by_the_leader(leader: Bench, stack: ExitStack) -> None:
    """Two agents, one at a worker and one at the leader, make one incident; the answer follows the commit."""
    worker, one, two = a_worker(leader, stack), registered(leader, "web-1"), registered(leader, "web-2")
    answer = only(worker.ask(reports(leader, one, "e-1", "e-2", sourceIp=SOURCE)))
    assert isinstance(answer, Submission)
    assert answer.refusal is None
    assert answer.reports[0].agent.hostname == "web-1"
    leader.ask(reports(leader, two, "e-1", sourceIp=SOURCE))
    leader.pass_time(5)
    assert leader.rows("SELECT count(*) FROM threat") == [(3,)]
    assert leader.rows("SELECT value, report_count FROM incident WHERE kind = 'source_ip'") == [(SOURCE, 3)]
    only(worker.ask(reports(leader, one, "e-1", "e-2", sourceIp=SOURCE)))
    leader.pass_time(5)
    assert leader.rows("SELECT count(*) FROM threat") == [(3,)]
    assert leader.rows("SELECT report_count FROM incident WHERE kind = 'source_ip'") == [(3,)]


def test_a_request_with_an_id_of_other_content_is_refused_whole(leader: Bench, stack: ExitStack) -> None:
    """Whether the leader has stored the id or another request of the batch has; the others of the batch are stored."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    leader.ask(reports(leader, agent, "e-1", sourceIp=SOURCE))
    refused, good, late = (
        reports(leader, agent, "e-7", "e-1", sourceIp="203.0.113.8"),
        reports(leader, agent, "e-8", sourceIp=SOURCE),
        reports(leader, agent, "e-9", "e-8", sourceIp="203.0.113.8"),
    )
    answers = worker.ask(refused, good, late)
    assert [error for _, error in answers] == [None, None, None]
    assert [each.refused for each, _ in answers] == [1, None, 1]
    assert leader.rows("SELECT threat_id FROM threat ORDER BY 1") == [("e-1",), ("e-8",)]


def test_a_request_shares_its_batch_with_the_same_report_over_mqtt(leader: Bench, stack: ExitStack) -> None:
    """The same report by both doors is one row; with other content in the store it is refused at both."""
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    first = prepare(agent.agent_id, _events({"id": "e-1", "type": "x", "severity": "low"}), leader.wall)
    leader.ask(StoreReports(agent.agent_id, tuple(first)))
    worker.put(topics.THREATS, agent, agent.threat(leader.wall, "e-1", sourceIp=SOURCE))
    again = prepare(agent.agent_id, _events({"id": "e-2", "type": "x", "severity": "low"}), leader.wall)
    answer = only(worker.ask(StoreReports(agent.agent_id, tuple(again))))
    assert answer.refusal is None
    assert [each["id"] for each in worker.receipts(agent)["refused"]] == ["e-1"]
    assert leader.rows("SELECT count(*) FROM threat") == [(2,)]


def _events(*events: dict[str, Any]) -> HttpEvents:
    return decode(HttpEvents, json.dumps({"events": events}).encode(), BODY_LIMIT)


def test_a_heartbeat_is_answered_as_the_leader_answers_it(leader: Bench, stack: ExitStack) -> None:
    """The worker's record has the leader's members and, but for the times of the receipt, their values."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    request = settled(leader, agent)
    begun(worker)
    of_worker = only(worker.ask(request))
    assert isinstance(of_worker, HeartbeatRecorded)
    assert (of_worker.pending, of_worker.generation) == ((), None)
    leader.elapsed += 1
    worker.engine.step(leader.now)
    worker.deliver_life()
    record = leader.fleet.registry.agents[agent]
    assert record.vitals.events_total == 6
    assert record.last_heartbeat == pytest.approx(leader.wall - 1, abs=0.01)
    of_leader = leader.ask(request).record
    differing = {"lastHeartbeat", "eventsTotal"}
    assert of_worker.record.keys() == of_leader.keys()
    assert {name: of_worker.record[name] for name in of_leader.keys() - differing} == {
        name: of_leader[name] for name in of_leader.keys() - differing
    }


def test_heartbeats_and_reports_keep_an_agent_online(leader: Bench, stack: ExitStack) -> None:
    """An agent that only the worker hears stays online, by heartbeats and by reports alone; a silent one is stale."""
    worker = a_worker(leader, stack)
    beating, reporting, silent = (registered(leader, f"web-{number}") for number in range(3))
    request = settled(leader, beating)
    for second in range(150):
        if second % 30 == 0:
            only(worker.ask(request))
            only(worker.ask(reports(leader, reporting, f"e-{second}", sourceIp=SOURCE)))
        worker.engine.step(leader.now)
        worker.deliver_life()
        leader.pass_time(1)
    states = {each: leader.fleet.registry.agents[each].state for each in (beating, reporting, silent)}
    assert states == {beating: State.ONLINE, reporting: State.ONLINE, silent: State.STALE}


def test_a_heartbeat_from_before_the_sign_off_keeps_nobody_online(leader: Bench, stack: ExitStack) -> None:
    """A sign of life received before the agent signed off at the leader, and handed over later, changes nothing."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    request = settled(leader, agent)
    begun(worker)
    only(worker.ask(request))
    leader.elapsed += 0.2
    leader.ask(DeregisterAgent(agent))
    leader.elapsed += 1
    worker.engine.step(leader.now)
    worker.deliver_life()
    assert leader.fleet.registry.agents[agent].state is State.OFFLINE


@pytest.mark.parametrize("seconds", [3600, 4])
def test_heartbeats_count_after_the_leaders_clock_was_set_back(leader: Bench, stack: ExitStack, seconds: float) -> None:
    """A time in the future, of a clock before its step or of the former leader, is no sign that a heartbeat is old."""
    worker, leaving, staying = a_worker(leader, stack), registered(leader, "web-1"), registered(leader, "web-2")
    requests = [settled(leader, agent) for agent in (leaving, staying)]
    begun(worker)
    leader.ask(DeregisterAgent(leaving))
    leader.began -= seconds
    leader.elapsed += 1
    before = leader.fleet.registry.agents[staying].last_heartbeat
    for request in requests:
        only(worker.ask(request))
    leader.elapsed += 1
    worker.engine.step(leader.now)
    worker.deliver_life()
    assert leader.fleet.registry.agents[leaving].state is State.ONLINE
    assert leader.fleet.registry.agents[staying].last_heartbeat == pytest.approx(leader.wall - 1, abs=0.01)
    assert leader.fleet.registry.agents[staying].last_heartbeat != before


def test_an_agent_that_states_no_policy_is_for_the_leader(leader: Bench, stack: ExitStack) -> None:
    """An urgent policy is handed over with each heartbeat that says there is none: an answer may not have arrived."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    leader.ask(SetPolicy(GLOBAL, {"rules": [{"type": "block_ip", "config": {"ip": SOURCE}, "enabled": True}]}, "test"))
    request = heartbeat(agent, policyVersion=0)
    for _ in range(2):
        needed = needs_leader(worker.ask(request))
        assert len(leader.ask(request).pending) == 1
        if needed.served is not None:
            needed.served()


def test_what_an_agent_may_lack_is_for_the_leader(leader: Bench, stack: ExitStack) -> None:
    """After a change of the policy the leader gets heartbeats until they state it, or until it has answered once."""
    worker, stating, silent = a_worker(leader, stack), registered(leader, "web-1"), registered(leader, "web-2")
    request = settled(leader, stating)
    only(worker.ask(request))
    needed = needs_leader(worker.ask(heartbeat(silent, cpu=1.0)))
    assert needed.served is not None
    needs_leader(worker.ask(heartbeat(silent, cpu=1.0)))
    needed.served()
    only(worker.ask(heartbeat(silent, cpu=1.0)))
    leader.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70}}, "test"))
    for each in (request, heartbeat(silent, cpu=1.0)):
        needs_leader(worker.ask(each))
    (pending,) = leader.ask(request).pending
    stated = heartbeat(stating, policyVersion=pending.version, policyDigest=pending.digest, policyState="applied")
    assert leader.ask(stated).pending == ()
    leader.pass_time(10)
    only(worker.ask(stated))


def test_while_the_store_asks_for_reports_again_the_leader_answers(leader: Bench, stack: ExitStack) -> None:
    """The ask is in the leader's answers to heartbeats; once it is over the worker answers again."""
    worker, agent, history = a_worker(leader, stack), registered(leader, "web-1"), leader.fleet.store_history
    request = settled(leader, agent)
    history.begin_run(leader.wall)
    leader.store.set_meta(HISTORY, history.dump())
    only(worker.ask(request))
    history.ask(leader.wall, leader.wall)
    leader.store.set_meta(HISTORY, history.dump())
    needs_leader(worker.ask(request))
    leader.elapsed += KEPT_FOR - 1
    needs_leader(worker.ask(request))
    leader.elapsed += 2
    only(worker.ask(request))


def test_a_removed_agent_is_for_the_leader_once_the_worker_is_told(leader: Bench, stack: ExitStack) -> None:
    """Its token is not found from the notification on, and its requests are passed on; nothing of it is stored."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    digest = leader.fleet.registry.agents[agent].credential.http_digest
    assert worker.agents.find_by_http_digest(digest) is None
    only(worker.ask(LearnAgent(agent)))
    assert worker.agents.find_by_http_digest(digest) is not None
    request = settled(leader, agent)
    leader.ask(RemoveAgent(agent, "test"))
    worker.agents.outdate(agent)
    assert worker.agents.find_by_http_digest(digest) is None
    assert not worker.agents.has(agent)
    for each in (reports(leader, agent, "e-1"), request):
        needs_leader(worker.ask(each))
    assert leader.rows("SELECT count(*) FROM threat") == [(0,)]


def test_reports_of_an_agent_whose_removal_was_not_heard_are_dead_letters(leader: Bench, stack: ExitStack) -> None:
    """A report that is stored before the notification comes is not decided on."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    only(worker.ask(LearnAgent(agent)))
    leader.ask(RemoveAgent(agent, "test"))
    only(worker.ask(reports(leader, agent, "e-1", sourceIp=SOURCE)))
    leader.pass_time(2)
    assert leader.rows("SELECT reason FROM dead_letter") == [("its agent was removed",)]
    assert leader.rows("SELECT count(*) FROM incident") == [(0,)]


def test_a_request_that_the_tables_do_not_take_is_for_the_leader(leader: Bench, stack: ExitStack) -> None:
    """All requests of its batch are passed on, none of them stored; a report over MQTT in the batch is stored."""
    worker, agent, other = a_worker(leader, stack), registered(leader, "web-1"), leader.enroll("web-2")
    only(worker.ask(LearnAgent(agent)))
    leader.database.execute_sql("ALTER TABLE threat ADD CHECK (threat_id <> 'e-2')")
    worker.put(topics.THREATS, other, other.threat(leader.wall, "t-1"))
    answers = worker.ask(reports(leader, agent, "e-1"), reports(leader, agent, "e-2", "e-3"))
    assert [type(error) for _, error in answers] == [LeaderNeeded, LeaderNeeded]
    assert leader.rows("SELECT threat_id FROM threat") == [("t-1",)]


def test_after_a_change_of_all_agents_no_token_is_found(leader: Bench, stack: ExitStack) -> None:
    """A listener that was connected anew may have missed any change."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    only(worker.ask(LearnAgent(agent)))
    digest = leader.fleet.registry.agents[agent].credential.http_digest
    worker.agents.outdate(None)
    assert worker.agents.find_by_http_digest(digest) is None
    only(worker.ask(LearnAgent(agent)))
    assert worker.agents.find_by_http_digest(digest) is not None


def blocked(leader: Bench, worker: WorkerBench, table: str) -> psycopg.Connection[Any]:
    blocker = psycopg.connect(address_of(leader.directory / "panguard.db").url)
    blocker.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
    worker.database.execute_sql("SET lock_timeout = '50ms'")
    return blocker


def test_reports_are_answered_only_after_their_commit(leader: Bench, stack: ExitStack) -> None:
    """While the database refuses the commit they wait; then they are stored once."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    only(worker.ask(LearnAgent(agent)))
    with blocked(leader, worker, "stored_id") as blocker:
        answers = worker.ask(reports(leader, agent, "e-1"))
        assert answers == []
        assert worker.engine.problem is not None
        worker.engine.step(leader.now)
        assert answers == []
        blocker.rollback()
    assert worker.engine.step(leader.now)
    assert only(answers).refusal is None
    assert leader.rows("SELECT count(*) FROM threat") == [(1,)]


def test_requests_are_for_the_leader_while_agents_cannot_be_read(leader: Bench, stack: ExitStack) -> None:
    """Nothing of them is stored, so that the leader may; what waits while nothing is taken is passed on as well."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    with blocked(leader, worker, "agent") as blocker:
        needs_leader(worker.ask(reports(leader, agent, "e-1")))
        blocker.rollback()
    assert worker.engine.step(leader.now)
    assert leader.rows("SELECT count(*) FROM threat") == [(0,)]


def test_event_times_are_those_that_the_leader_would_give(leader: Bench, stack: ExitStack) -> None:
    """By the sending time in the request whatever the offset; else by the offset, which the leader may know better."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    at = leader.wall - 400
    event = {"type": "x", "severity": "low", "timestamp": iso(at)}
    dated, plain = (
        tuple(prepare(agent, _events({**event, "id": name}), leader.wall)) for name in ("e-dated", "e-plain")
    )
    only(worker.ask(LearnAgent(agent)))
    leader.ask(heartbeat(agent, timestamp=iso(leader.wall - 300)))
    only(worker.ask(StoreReports(agent, dated, sent_at=leader.wall - 100)))
    only(worker.ask(StoreReports(agent, plain)))
    leader.pass_time(3)
    rows = leader.rows("SELECT threat_id, event_time, ignored FROM threat ORDER BY threat_id")
    assert [(name, round(time - at), ignored) for name, time, ignored in rows] == [
        ("e-dated", 100, DATED),
        ("e-plain", 300, 0),
    ]


def test_forged_heartbeats_of_http_agents_go_no_further(leader: Bench, stack: ExitStack) -> None:
    """A message between managers without their code is a dead letter, and keeps nobody online."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    only(worker.ask(settled(leader, agent)))
    before = leader.fleet.registry.agents[agent].last_heartbeat
    leader.elapsed += 2
    worker.engine.step(leader.now)
    (*_, payload) = worker.publisher.take(WORKER_LIFE.address(worker.worker_id))
    leader.receive(WORKER_LIFE, worker.worker_id, payload[:-5] + b'xxx"}')
    assert leader.fleet.registry.agents[agent].last_heartbeat == before
    assert leader.rows("SELECT reason FROM dead_letter") == [("no right code",)]


def test_a_heartbeat_of_any_shape_is_handed_over(leader: Bench, stack: ExitStack) -> None:
    """Earlier names, dropped members and milliseconds mean to the leader what they mean in a request."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    needed = needs_leader(worker.ask(heartbeat(agent, cpuUsage=3.5)))
    assert needed.served is not None
    needed.served()
    only(worker.ask(heartbeat(agent, cpuUsage=3.5, memUsage=2048, memoryUsageMB=58.25, uptime=61000, threatCount=4)))
    leader.elapsed += 1
    worker.engine.step(leader.now)
    worker.deliver_life()
    vitals = leader.fleet.registry.agents[agent].vitals
    assert (vitals.cpu, vitals.memory, vitals.uptime, vitals.threats_detected) == (3.5, None, 61.0, 4)


def test_many_heartbeats_at_once_are_handed_over_in_several_messages(leader: Bench, stack: ExitStack) -> None:
    """No message is larger than its topic allows, and the leader hears every agent."""
    worker = a_worker(leader, stack)
    begun(worker)
    agents = [registered(leader, f"web-{number}") for number in range(40)]
    only(worker.ask(LearnAgent(agents[0])))
    leader.pass_time(10)
    sources = [{"name": "x" * 60, "state": "ok", "records": 1, "understood": 1} for _ in range(64)]
    answers = [worker.ask(heartbeat(agent, cpu=5.0)) for agent in agents]
    for each in answers:
        served = needs_leader(each).served
        assert served is not None
        served()
    worker.ask(*(heartbeat(agent, cpu=7.0, sources=sources) for agent in agents))
    leader.elapsed += 1
    worker.engine.step(leader.now)
    sent = worker.publisher.take(WORKER_LIFE.address(worker.worker_id))
    assert len(sent) > 1
    assert all(len(payload) <= WORKER_LIFE.limit for payload in sent)
    for payload in sent:
        leader.receive(WORKER_LIFE, worker.worker_id, payload)
    assert {leader.fleet.registry.agents[agent].vitals.cpu for agent in agents} == {7.0}


def test_a_silent_worker_has_no_http_agent_become_stale(leader: Bench, stack: ExitStack) -> None:
    """It may hold their heartbeats; once it is gone they age again, with their full grace."""
    worker, agent = a_worker(leader, stack), registered(leader, "web-1")
    begun(worker)
    leader.pass_time(63)
    assert leader.fleet.registry.agents[agent].state is State.ONLINE
    leader.pass_time(80)
    assert leader.fleet.registry.agents[agent].state is State.ONLINE
    leader.pass_time(60)
    assert leader.fleet.registry.agents[agent].state is State.STALE


def test_a_standby_that_served_no_agent_keeps_nobody_from_becoming_stale(leader: Bench, stack: ExitStack) -> None:
    """The leader hears of it from its first request on; from then on it is a worker as others are, until it ends."""
    worker, agent = a_worker(leader, stack, is_heard=False), registered(leader, "web-1")
    begun(worker)
    assert leader.fleet.ingest_workers.live(leader.now) == []
    only(worker.ask(reports(leader, agent, "e-1", sourceIp=SOURCE)))
    for _ in range(2):
        leader.pass_time(1)
        begun(worker)
        assert leader.fleet.ingest_workers.live(leader.now) == [worker.worker_id]
    worker.engine.hand_over(leader.now, ends=True)
    worker.deliver_life()
    leader.pass_time(6)
    assert leader.fleet.ingest_workers.silent(leader.now) == []
    another = a_worker(leader, stack, 2, is_heard=False)
    another.engine.hand_over(leader.now, ends=True)
    assert another.publisher.take(WORKER_LIFE.address(another.worker_id)) == []
