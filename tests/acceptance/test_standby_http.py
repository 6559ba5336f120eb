"""HTTP agents at the door of a manager that stands by, while the lead moves: two processes of DatabaseManagers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.acceptance.test_worker_http import Group, HttpAgent
from tests.support.group_services import broker, cluster
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.several_managers import leads, role, stands_by, step_down
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/ingest/test_http_requests.py"),
    pytest.mark.postgresql,
    pytest.mark.mosquitto,
]

__all__ = ["broker", "cluster"]


@pytest.fixture
def group(tmp_path: Path, cluster: Postgresql, broker: Mosquitto) -> Iterator[Group]:
    group = Group(tmp_path, cluster, broker, "standby")
    yield group
    group.stop()


class Senders:
    """Agents that each report one event after the other to one door, and repeat what got no answer of success.

    Args:
        agents: they report on a connection of their own.
    """

    def __init__(self, agents: list[HttpAgent]) -> None:
        self._agents = agents
        self._stop = threading.Event()
        self.stored: list[list[str]] = [[] for _ in agents]
        self._failed: list[str] = []
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(len(agents))]

    @property
    def total(self) -> int:
        """The number of reports that were answered as stored."""
        return sum(map(len, self.stored))

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        assert not self._failed

    def more(self, number: int = 20) -> None:
        """Wait until more reports are answered as stored."""
        before = self.total
        eventually(lambda: self.total >= before + number or bool(self._failed), 120, "more reports are stored")

    def _send(self, number: int) -> None:
        agent = self._agents[number]
        while not self._stop.is_set():
            name = f"e-{len(self.stored[number])}"
            try:
                answer = agent.report(name, source=f"203.0.113.{number % 2 + 1}")
            except httpx2.HTTPError:
                continue
            if answer.status_code == 201:
                self.stored[number].append(name)
            elif answer.status_code != 503:
                self._failed.append(answer.text)
                return


def is_stored_and_decided_once(group: Group, agents: list[HttpAgent], senders: Senders) -> None:
    """Check that each report is one row, and that the incidents have each of them once."""
    for agent, sent in zip(agents, senders.stored, strict=True):
        rows = group.rows(
            "SELECT threat_id, count(*) FROM threat JOIN agent ON number = agent_number"
            f" WHERE agent_id = '{agent.agent_id}' GROUP BY 1"
        )
        extra = {name for name, _ in rows} - set(sent)  # the last one may be stored without its answer
        assert len(extra) <= 1
        assert dict(rows) == dict.fromkeys([*sent, *extra], 1)
    ((total,),) = group.rows("SELECT count(*) FROM threat")
    decided = "SELECT count(*), sum(report_count) FROM incident WHERE kind = 'source_ip'"
    eventually(lambda: group.rows(decided) == [(2, total)], 120, f"each of {total} is decided once")


def test_reports_come_in_while_the_leader_is_killed(group: Group) -> None:
    """At the door of the one that takes over: none is lost, none doubled, and each is decided once."""
    group.start()
    agents = [group.agent(f"web-{number}") for number in range(4)]
    senders = Senders(agents)
    with senders.running():
        senders.more()
        assert group.count("threats_http") > 0
        group.leader.kill()
        senders.more()
        leads(group.worker)
        senders.more()
        group.leader.start()
        stands_by(group.leader)
    is_stored_and_decided_once(group, agents, senders)


def test_events_are_stored_while_nobody_leads(group: Group) -> None:
    """What needs the leader is 503 meanwhile; the one that then leads decides on the events."""
    group.start()
    one, two = (group.agent(f"web-{number}") for number in range(2))
    one.settle()
    eventually(
        lambda: one.beat(policyVersion=one.version).is_success and group.count("heartbeat_http") > 0,
        120,
        "the stand-by answers heartbeats",
    )
    heartbeats, threats = group.count("heartbeat_http"), group.count("threats_http")
    with _lease_held_by_nobody(group):
        eventually(lambda: one.client.get("/api/agents").status_code == 503, 60, "nobody leads")
        for agent in (one, two):
            assert agent.report("e-1").status_code == 201
        assert one.beat(policyVersion=one.version).status_code == 200
        refused = two.client.post("/api/agents/register", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert group.count("heartbeat_http") == heartbeats + 1
        assert group.count("threats_http") == threats + 2
        assert role(group.worker) == "standby"
    leads(group.worker)
    incident = "SELECT value, report_count FROM incident WHERE kind = 'source_ip'"
    eventually(lambda: group.rows(incident) == [("203.0.113.7", 2)], 60, "it decides on them")


@contextmanager
def _lease_held_by_nobody(group: Group) -> Iterator[None]:
    """Kill the leader while the table of the lease is locked, so that no other one can lead."""
    with psycopg.connect(group.database) as locking:
        locking.execute("LOCK TABLE lease IN ACCESS EXCLUSIVE MODE")
        group.leader.kill()
        yield


def test_the_lead_goes_over_and_back_while_reports_come_in(group: Group) -> None:
    """At both doors: each serves agents as leader, and as the one that stands by again, and no report is lost."""
    group.start()
    leader, standby = group.leader, group.worker
    at_leader = [group.keep(HttpAgent(leader, f"web-{number}")) for number in range(2)]
    agents = [*at_leader, *(group.agent(f"db-{number}") for number in range(2))]
    senders = Senders(agents)
    with senders.running():
        for _ in range(2):
            senders.more()
            step_down(leader)
            leads(standby)
            stands_by(leader)
            eventually(lambda each=leader: group.takes(each), 120, "it serves agents again")  # type: ignore[misc]
            senders.more()
            leader, standby = standby, leader
    is_stored_and_decided_once(group, agents, senders)
