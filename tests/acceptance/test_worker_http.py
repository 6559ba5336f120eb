"""HTTP agents at the door of an ingest worker, or of a manager that stands by: killed, stopped and left alone."""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.group_services import broker, cluster
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import ManagerProcess
from tests.support.several_managers import DatabaseManagers, leads, role
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/ingest/test_http_requests.py"),
    pytest.mark.postgresql,
    pytest.mark.mosquitto,
]

__all__ = ["broker", "cluster"]

ATTACKER = "203.0.113.7"
STALE_AFTER = 15


class Group:
    """A leader and a worker on one database.

    Args:
        home: the directory of both.
        cluster: the database's.
        broker: the broker of both.
        door: the role of the worker, `ingest` or `standby`.
    """

    def __init__(self, home: Path, cluster: Postgresql, broker: Mosquitto, door: str = "ingest") -> None:
        self._door = door
        address = cluster.create_empty()
        self._cluster, self._name = cluster, address.url.rsplit("/", 1)[1]
        self.database = address.url
        self.managers = DatabaseManagers(home, address.url, broker.url)
        self.leader = self.add()
        self.worker = self.add(PANGUARD_ROLE="ingest" if door == "ingest" else "all")
        self._agents: list[HttpAgent] = []

    def agent(self, hostname: str) -> "HttpAgent":
        """Return a new agent at the worker's door."""
        return self.keep(HttpAgent(self.worker, hostname))

    def keep(self, agent: "HttpAgent") -> "HttpAgent":
        """Have an agent's connection closed at the end."""
        self._agents.append(agent)
        return agent

    def stop(self) -> None:
        for agent in self._agents:
            agent.client.close()
        self.managers.stop()

    def add(self, **environment: str) -> ManagerProcess:
        given = {
            "PANGUARD_TRUSTED_NETWORKS": "127.0.0.1/32",
            "PANGUARD_RATE_LIMIT": "0",
            "PANGUARD_STALE_AFTER": str(STALE_AFTER),
            "PANGUARD_SWEEP_INTERVAL": "1",
            **environment,
        }
        return self.managers.add(**given)

    def start(self) -> None:
        self.leader.start()
        leads(self.leader)
        self.worker.start()
        self.works()

    def works(self) -> None:
        """Wait until the worker takes requests."""
        eventually(lambda: role(self.worker) == self._door and self.worker.not_ready() is None, 120, "a worker")
        eventually(lambda: self.takes(self.worker), 120, "it takes requests")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self._cluster.execute(statement, self._name)

    def takes(self, door: ManagerProcess) -> bool:
        """Return whether a worker takes both requests."""
        return all(self._metric(door, f'taking{{route="{each}"}}') == 1 for each in ("events", "heartbeat"))

    def count(self, kind: str) -> int:
        """Return one of the worker's counters."""
        return self._metric(self.worker, f'total{{kind="{kind}"}}')

    def _metric(self, door: ManagerProcess, name: str) -> int:
        with door.client() as client:
            client.headers["Authorization"] = f"Bearer {(self.leader.data / 'admin.token').read_text().strip()}"
            text = client.get("/metrics").text
        found = re.search(rf"^panguard_ingest_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return 0 if found is None else int(float(found[1]))


@pytest.fixture(params=["ingest", "standby"])
def group(tmp_path: Path, cluster: Postgresql, broker: Mosquitto, request: pytest.FixtureRequest) -> Iterator[Group]:
    group = Group(tmp_path, cluster, broker, request.param)
    yield group
    group.stop()


class HttpAgent:
    """An agent that speaks HTTP, on one kept connection to one door."""

    def __init__(self, door: ManagerProcess, hostname: str) -> None:
        self.client = httpx2.Client(base_url=door.http, timeout=60, verify=door.trust, trust_env=False)
        body = {"hostname": hostname, "os": "linux 6.1", "arch": "x64", "version": "1.4.2"}
        answer = self.client.post("/api/agents/register", json=body)
        assert answer.status_code == 201, answer.text
        self.agent_id, token = answer.json()["agentId"], answer.json()["token"]
        self.client.headers["Authorization"] = f"Bearer {token}"

    def at(self, door: ManagerProcess) -> "HttpAgent":
        """Return the same agent at another door."""
        other = object.__new__(HttpAgent)
        other.agent_id = self.agent_id
        other.client = httpx2.Client(
            base_url=door.http, headers=self.client.headers, timeout=60, verify=door.trust, trust_env=False
        )
        return other

    def post(self, last: str, body: Any) -> httpx2.Response:
        return self.client.post(f"/api/agents/{self.agent_id}/{last}", json=body)

    def report(self, *ids: str, source: str = ATTACKER) -> httpx2.Response:
        """Send one report, or several in one request."""
        threats = [{"id": each, "threat": _threat(source), "response": "block_ip"} for each in ids]
        return self.post("events", threats[0] if len(threats) == 1 else {"threats": threats})

    def beat(self, **members: Any) -> httpx2.Response:
        return self.post("heartbeat", {"mode": "protection", "cpu": 12.5, **members})

    def settle(self) -> None:
        """Follow the policy until a heartbeat is answered with none."""

        def is_settled() -> bool:
            answer = self.beat(policyVersion=self.version).json()["data"]
            pending = answer["pendingPolicies"]
            self.version = pending[0]["version"] if pending else answer["activePolicyVersion"]
            return not pending and bool(answer["policyCurrent"])

        self.version = 0
        eventually(is_settled, 60, "the policy is in force")


def _threat(source: str) -> dict[str, Any]:
    evidence = {"sourceIp": source}
    return {"type": "brute_force", "confidence": 90, "evidence": evidence, "severity": "high", "technique": "T1110"}


def test_reports_and_heartbeats_are_the_workers_own(group: Group) -> None:
    """One and twenty reports a request are stored once, and decided once together with those that the leader takes."""
    group.start()
    one, two = (group.agent(f"web-{number}") for number in range(2))
    many = [f"m-{number}" for number in range(20)]
    for _ in range(2):
        assert one.report("e-1").status_code == 201
        assert one.report(*many).status_code == 200
    assert group.keep(two.at(group.leader)).report("e-1").status_code == 201
    assert group.rows("SELECT count(*) FROM threat") == [(22,)]
    assert group.count("threats_http") == 42
    eventually(
        lambda: group.rows("SELECT value, report_count FROM incident WHERE kind = 'source_ip'") == [(ATTACKER, 22)],
        60,
        "one incident with every report",
    )
    refused = one.report("e-2", "e-1", source="203.0.113.9")
    assert (refused.status_code, group.rows("SELECT count(*) FROM threat")) == (409, [(22,)])
    assert "threats.1" in refused.json()["error"]


def test_an_agent_that_only_the_worker_hears_stays_online(group: Group) -> None:
    """Its heartbeats are the worker's to answer; another agent is silent and becomes stale meanwhile."""
    group.start()
    agent, _silent = (group.agent(f"web-{number}") for number in range(2))
    agent.settle()
    since, before = group.leader.agent("web-0")["statusSince"], group.count("heartbeat_http")

    def silent_is_stale() -> bool:
        answer = agent.beat(policyVersion=agent.version)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["pendingPolicies"] == []
        return bool(group.leader.agent("web-1")["status"] == "stale")

    eventually(silent_is_stale, 240, "the silent one is stale", pause=0.5)
    assert group.count("heartbeat_http") > before + 5
    record = group.leader.agent("web-0")
    assert (record["status"], record["cpu"], record["statusSince"]) == ("online", 12.5, since)


def test_a_removed_agent_is_refused(group: Group) -> None:
    """By the worker's door too, once the notification has come; nothing more of it is stored."""
    group.start()
    agent = group.agent("web-1")
    assert agent.report("e-1").status_code == 201
    group.leader.request("DELETE", f"/api/agents/{agent.agent_id}", purge="true")
    eventually(lambda: agent.report("e-1").status_code == 401, 60, "the worker has heard of the removal")
    assert agent.report("e-2").status_code == 401
    assert agent.beat().status_code == 401
    assert group.rows("SELECT count(*) FROM threat WHERE threat_id = 'e-2'") == [(0,)]


def test_no_answer_is_lost_or_doubled_by_kills(group: Group) -> None:
    """Agents repeat what got no answer while the worker is killed again and again: each report is one row."""
    group.start()
    agents = [group.agent(f"web-{number}") for number in range(4)]
    stop, unanswered = threading.Event(), [0] * len(agents)
    sent: list[list[str]] = [[] for _ in agents]

    def send(number: int) -> None:
        agent = agents[number]
        while not stop.is_set():
            name = f"e-{len(sent[number])}"
            sent[number].append(name)
            while True:
                try:
                    status = agent.report(name, f"{name}-b", source=f"203.0.113.{number % 2 + 1}").status_code
                except httpx2.HTTPError:
                    unanswered[number] += 1
                    continue
                if status == 200:
                    break
                assert status == 503

    threads = [threading.Thread(target=send, args=(number,)) for number in range(len(agents))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before = sum(map(len, sent))
            eventually(lambda before=before: sum(map(len, sent)) > before + 40, 120, "reports")  # type: ignore[misc]
            group.worker.kill()
            group.worker.start()
            group.works()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sum(unanswered) > 0
    for number, agent in enumerate(agents):
        rows = group.rows(
            "SELECT threat_id, count(*) FROM threat JOIN agent ON number = agent_number"
            f" WHERE agent_id = '{agent.agent_id}' GROUP BY 1"
        )
        assert dict(rows) == {name: 1 for each in sent[number] for name in (each, f"{each}-b")}
    total = 2 * sum(map(len, sent))
    eventually(
        lambda: group.rows("SELECT sum(report_count) FROM incident WHERE kind = 'source_ip'") == [(total,)],
        60,
        "each report is decided once",
    )
    assert group.rows("SELECT count(*) FROM incident WHERE kind = 'source_ip'") == [(2,)]


def test_a_report_that_is_committed_and_not_answered_is_stored_once(group: Group, cluster: Postgresql) -> None:
    """The worker is killed while its commit is on the disk and waits for a replica; the agent repeats the request."""
    group.start()
    agent, failed = group.agent("web-1"), threading.Event()
    assert agent.report("e-0").status_code == 201

    def send() -> None:
        with contextlib.suppress(httpx2.HTTPError):
            agent.report("e-1", "e-2")
            return
        failed.set()

    _wait_for_replica(cluster, "nobody")
    sender = threading.Thread(target=send)
    sender.start()
    try:
        committing = (
            "SELECT 1 FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE wait_event = 'SyncRep' AND relation = 'stored_id'::regclass"
        )
        eventually(lambda: group.rows(committing), 60, "the commit waits for the replica")
        group.worker.kill()
    finally:
        _wait_for_replica(cluster, "")
        sender.join()
    assert failed.is_set()
    stored = "SELECT threat_id, count(*) FROM threat GROUP BY 1 ORDER BY 1"
    eventually(lambda: len(group.rows(stored)) == 3, 60, "what was not answered is stored")
    group.worker.start()
    group.works()
    assert agent.report("e-1", "e-2").status_code == 200
    assert group.rows(stored) == [("e-0", 1), ("e-1", 1), ("e-2", 1)]


def _wait_for_replica(cluster: Postgresql, name: str) -> None:
    """Have commits wait for a replica after they are on the disk; with an empty name for none."""
    cluster.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    cluster.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("group", ["ingest"], indirect=True)  # a manager that stands by takes the lead
def test_a_worker_stores_and_answers_while_nobody_leads(group: Group) -> None:
    """Reports and heartbeats of agents; what only a leader decides is 503. The successor decides on the reports."""
    group.start()
    one, two = (group.agent(f"web-{number}") for number in range(2))
    one.settle()
    eventually(
        lambda: one.beat(policyVersion=one.version).is_success and group.count("heartbeat_http") > 0,
        120,
        "the worker answers heartbeats",
    )
    heartbeats = group.count("heartbeat_http")
    group.leader.kill()
    eventually(lambda: one.client.get("/api/agents").status_code == 503, 60, "nobody leads")
    for agent in (one, two):
        assert agent.report("e-1").status_code == 201
    assert one.beat(policyVersion=one.version).status_code == 200
    assert group.count("heartbeat_http") == heartbeats + 1
    unknown = two.client.post("/api/agents/register", json={})
    assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "2")
    assert group.rows("SELECT count(*) FROM threat") == [(2,)]
    successor = group.add()
    successor.start()
    leads(successor)
    eventually(
        lambda: group.rows("SELECT value, report_count FROM incident WHERE kind = 'source_ip'") == [(ATTACKER, 2)],
        60,
        "the successor decides",
    )


def test_a_worker_without_a_database_stores_nothing(group: Group, cluster: Postgresql) -> None:
    """While PostgreSQL is away no report is answered as stored; afterwards the worker takes them again, once each."""
    group.start()
    agent = group.agent("web-1")
    assert agent.report("e-1").status_code == 201
    cluster.kill()
    refused = agent.report("e-2")
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    cluster.start()
    eventually(lambda: agent.report("e-2").status_code == 201, 120, "reports are stored again")
    group.works()
    before = group.count("threats_http")
    assert agent.report("e-3").status_code == 201
    assert group.count("threats_http") == before + 1
    assert group.rows("SELECT threat_id, count(*) FROM threat GROUP BY 1 ORDER BY 1") == [
        (name, 1) for name in ("e-1", "e-2", "e-3")
    ]


def test_a_stopped_worker_has_nobody_become_stale(group: Group) -> None:
    """While a worker is suspended its HTTP agents do not age, for as long as it may still hold their heartbeats."""
    group.start()
    agent = group.agent("web-0")
    agent.settle()
    eventually(
        lambda: agent.beat(policyVersion=agent.version).is_success and group.count("heartbeat_http") > 0,
        120,
        "the worker answers heartbeats",
    )

    def hears() -> bool:
        """Beat again each time: what a worker hands over may be lost, as QoS 0 is."""
        assert agent.beat(policyVersion=agent.version, cpu=44.0).is_success
        return bool(group.leader.agent("web-0")["cpu"] == 44.0)

    eventually(hears, 60, "the leader hears of the worker", pause=0.5)
    assert group.worker.running is not None
    process = group.worker.running.process

    def warned() -> bool:
        return any("ingest worker" in each for each in group.leader.get("/api/overview")["warnings"])

    process.send_signal(signal.SIGSTOP)
    try:
        eventually(warned, 60, "the leader knows that the worker is silent")
        assert group.leader.agent("web-0")["status"] == "online"
    finally:
        process.send_signal(signal.SIGCONT)
    assert agent.beat(policyVersion=agent.version).status_code == 200
    eventually(lambda: not warned(), 120, "it is heard again")
    assert group.leader.agent("web-0")["status"] == "online"
