"""Two managers as processes on one PostgreSQL and one Mosquitto: one leads, the other takes over."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.integration.mqtt.door_bench import peer
from tests.support.group_services import broker, cluster
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.several_managers import DatabaseManagers, command, health, leads, role, stands_by, step_down
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/storage/postgresql/test_lease_keeper.py"),
    pytest.mark.postgresql,
    pytest.mark.mosquitto,
]

__all__ = ["broker", "cluster"]


AGENTS = 300
"""Policies of 200 agents are published at once; the others wait in the manager's queue."""

STOPPED = 60.0
"""Seconds for which a leader stands still."""


def register(manager: ManagerProcess, number: int) -> None:
    """Register agents over HTTP."""
    with manager.client() as client:
        for each in range(number):
            host = {"hostname": f"srv-{each}", "os": "Debian 12", "arch": "x64", "version": "1.0.0"}
            assert client.post("/api/agents/register", json=host).status_code == 201


def set_threshold(manager: ManagerProcess, value: int, *, taken: bool = True) -> None:
    """Set the global policy's threshold, by which every agent's policy changes."""
    with manager.client() as client:
        try:
            answer = client.put("/api/policies/global", json={"thresholds": {"autoRespond": value}})
        except httpx2.HTTPError:
            assert not taken
            return
    assert (answer.status_code == httpx2.codes.OK) == taken


@pytest.fixture
def managers(cluster: Postgresql, broker: Mosquitto, tmp_path: Path) -> Iterator[DatabaseManagers]:
    group = DatabaseManagers(tmp_path, cluster.create_empty().url, broker.url)
    yield group
    group.stop()


def test_the_other_takes_over_when_the_leader_is_killed(managers: DatabaseManagers) -> None:
    """After SIGKILL of the leader the other leads; the guard goes on, and every report is stored once."""
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    second.start()
    stands_by(second)
    guard = GuardProcess(first, "web-1")
    agent_id = guard.start()
    try:
        guard.attacked_by("203.0.113.1")
        eventually(lambda: len(second.get("/api/threats")) == 1, what="the report, asked of the one that stands by")
        first.kill()
        guard.attacked_by("203.0.113.2")
        leads(second)
        eventually(lambda: len(second.get("/api/threats")) == 2, what="the report of the time between")
        agent = second.agent("web-1")
        assert (agent["agentId"], agent["status"]) == (agent_id, "online")
        first.start()
        stands_by(first)
        eventually(
            lambda: [each["role"] for each in health(second)["managers"]].count("standby") == 1,
            what="the leader knows the one that stands by",
        )
        assert role(second) == "leader"
    finally:
        guard.stop()


def test_the_page_hands_the_lead_over_for_an_upgrade(managers: DatabaseManagers) -> None:
    """The commands of scale.md: with nobody that stands by it stays; then the other leads, and it stands by itself."""
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    assert "\npanguard manager step-down\n" in page
    assert "\npanguard manager status\n" in page
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    refused = command(first, "step-down")
    assert refused.returncode == 6
    assert "no manager stands by for this one" in refused.stderr
    assert role(first) == "leader"
    second.start()
    stands_by(second)
    token = (first.data / "enroll.token").read_text()
    assert (second.data / "enroll.token").read_text() == token
    step_down(first)
    leads(second)
    stands_by(first)
    assert health(second)["leader"]["epoch"] == 2
    eventually(lambda: "s behind" in command(first, "status").stdout, what="the status names the one that stands by")
    assert "Leader " in command(first, "status").stdout
    assert first.running is not None
    assert first.running.process.poll() is None
    assert (second.data / "enroll.token").read_text() == token


def test_a_manager_that_stepped_down_leads_again_and_keeps_nothing_of_before(
    managers: DatabaseManagers, cluster: Postgresql
) -> None:
    """Two managers hand the lead to each other and back; threads and sessions do not add up, and a signal ends both."""
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    second.start()
    stands_by(second)
    assert first.running is not None
    process = psutil.Process(first.running.process.pid)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'panguard%'"
    register(first, 1)
    used: list[tuple[int, int]] = []
    for round_ in range(3):
        for leader, other in ((first, second), (second, first)):
            step_down(leader)
            leads(other)
            stands_by(leader)
            set_threshold(leader, 60 + round_)
        ((count,),) = cluster.execute(sessions)
        used.append((process.num_threads(), count))
    threads, count = used[0]
    eventually(lambda: process.num_threads() <= threads + 1, what=f"no more threads than after the first round: {used}")
    eventually(lambda: cluster.execute(sessions)[0][0] <= count + 2, what=f"no more sessions: {used}")
    assert second.stop() == 0
    leads(first)
    assert [each["hostname"] for each in first.get("/api/agents")] == ["srv-0"]
    assert first.stop() == 0


def test_requests_at_either_manager_are_answered_while_the_lead_goes_over_and_back(managers: DatabaseManagers) -> None:
    """200, or 503 with Retry-After that asks nobody to start a manager; a connection may be cut, none has a 500."""
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    second.start()
    stands_by(second)
    ends = threading.Event()
    refused: list[tuple[int, str | None, str]] = []

    def ask(manager: ManagerProcess, value: int) -> None:
        with manager.client() as client:
            while not ends.is_set():
                try:
                    answer = client.put("/api/policies/global", json={"thresholds": {"autoRespond": value}})
                except httpx2.HTTPError:
                    continue
                if answer.status_code != httpx2.codes.OK:
                    refused.append((answer.status_code, answer.headers.get("retry-after"), answer.text))

    people = [threading.Thread(target=ask, args=(manager, 70 + number)) for number, manager in enumerate(managers.all)]
    for each in people:
        each.start()
    try:
        for leader, other in ((first, second), (second, first), (first, second)):
            step_down(leader)
            leads(other)
            stands_by(leader)
    finally:
        ends.set()
        for each in people:
            each.join()
    assert not [each for each in refused if each[0] != 503 or each[1] is None]
    assert not [text for _, _, text in refused if "start one" in text]


def test_a_stopped_leader_is_followed_at_once(managers: DatabaseManagers) -> None:
    """An orderly stop releases the lease; the other leads with what was stored, also by a request that it passed on."""
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    second.start()
    stands_by(second)
    token = (second.data / "admin.token").read_text().strip()
    with httpx2.Client(
        base_url=second.http,
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
        transport=httpx2.HTTPTransport(local_address="127.0.0.7"),
    ) as client:
        answer = client.put("/api/policies/global", json={"thresholds": {"autoRespond": 77}})
        assert answer.status_code == httpx2.codes.OK
    (entry,) = [each for each in first.get("/api/audit") if each["action"].startswith("policy")]
    assert entry["address"] == "127.0.0.7"
    assert first.stop() == 0
    leads(second)
    assert second.get("/api/policies/global")["thresholds"]["autoRespond"] == 77


def test_another_key_file_and_an_embedded_broker_are_refused(managers: DatabaseManagers, tmp_path: Path) -> None:
    """A second manager says why it does not start: its key file is another, or its broker is its own."""
    first = managers.add()
    first.start()
    leads(first)
    (tmp_path / "other.key").write_text("11" * 32 + "\n")
    (tmp_path / "other.key").chmod(0o600)
    for environment, sentence in (
        ({"PANGUARD_KEY_FILE": str(tmp_path / "other.key")}, "this database belongs to another key file"),
        ({"PANGUARD_BROKER": "embedded"}, "the embedded broker ends with its manager"),
    ):
        second = managers.add(**environment)
        second._broker = environment.get("PANGUARD_BROKER", second._broker)
        running = second.launch()
        assert running.process.wait(60) == 1
        assert sentence in running.log.read_text()
    assert role(first) == "leader"


def test_a_role_of_several_is_refused_on_a_store_of_its_own(tmp_path: Path) -> None:
    """SQLite has one process."""
    manager = ManagerProcess(tmp_path, environment={"PANGUARD_ROLE": "ingest"})
    running = manager.launch()
    assert running.process.wait(60) == 1
    assert "needs a database that several processes share" in running.log.read_text()


def policy_versions(broker: Mosquitto) -> dict[str, int]:
    """Return the retained policy's version of each agent, as a new subscriber gets them."""
    with peer(broker.port) as observer:
        observer.subscribe("panguard/v1/agents/+/policy")
        observer.publish("panguard/v1/fleet/end", b"end")
        observer.subscribe("panguard/v1/fleet/#")
        observer.publish("panguard/v1/fleet/end", b"end")
        found: dict[str, int] = {}
        while True:
            topic, payload = observer.heard.get(timeout=60)
            if topic.endswith("/end"):
                return found
            if topic.endswith("/policy"):
                found[topic] = json.loads(payload)["version"]


def test_a_leader_that_stood_still_for_a_minute_writes_and_publishes_nothing(
    managers: DatabaseManagers, broker: Mosquitto
) -> None:
    """Stopped with a hundred policies in its queue, it wakes after its successor has published later ones."""
    with TcpProxy(broker.port) as road:
        first, second = managers.add(), managers.add()
        first._broker = f"mqtt://127.0.0.1:{road.port}"
        first.start()
        leads(first)
        second.start()
        stands_by(second)
        register(first, AGENTS)
        set_threshold(first, 61)
        eventually(lambda: len(policy_versions(broker)) == AGENTS, 120, "a policy of each agent at the broker")
        before = max(policy_versions(broker).values())
        assert first.running is not None
        process = first.running.process
        with road.holding(to_server=True, to_client=True):
            set_threshold(first, 62)
            process.send_signal(signal.SIGSTOP)
            stopped_at = time.monotonic()
            leads(second)
            set_threshold(second, 63)
            eventually(lambda: min(policy_versions(broker).values()) >= before + 2, 120, "the successor's policies")
            newest = policy_versions(broker)
            asked = threading.Thread(target=set_threshold, args=(first, 64), kwargs={"taken": False}, daemon=True)
            asked.start()
            eventually(lambda: time.monotonic() - stopped_at > STOPPED, 120, "a minute")
        with peer(broker.port) as observer:
            observer.subscribe("panguard/v1/agents/+/policy")
            for _ in range(AGENTS):
                observer.hears()
            process.send_signal(signal.SIGCONT)
            eventually(lambda: "leadership_lost" in first.running.log.read_text(), what="it notices")  # type: ignore[union-attr]
            stands_by(first)
            asked.join(60)
            assert observer.heard.empty()
        assert policy_versions(broker) == newest
        assert second.get("/api/policies/global")["thresholds"]["autoRespond"] == 63
        assert health(second)["leader"]["epoch"] == 2
        assert process.poll() is None


def test_a_database_that_is_away_moves_no_leadership(managers: DatabaseManagers, cluster: Postgresql) -> None:
    """Over a crash of PostgreSQL the leader stays the same, its agents are not stale, and what comes then is stored."""
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    second.start()
    stands_by(second)
    guard = GuardProcess(first, "web-1")
    guard.start()
    try:
        cluster.kill()
        eventually(lambda: first.not_ready() not in (None, False), what="the leader is not ready")
        guard.attacked_by("203.0.113.1")
        cluster.start()
        leads(first)
        eventually(lambda: len(first.get("/api/threats")) == 1, what="the report of the time between")
        assert health(first)["leader"]["epoch"] == 1
        assert first.agent("web-1")["status"] == "online"
        stands_by(second)
    finally:
        guard.stop()
