"""The HTTP door of an ingest worker over real sockets: its own answers, and what it passes on to the leader."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from manager.api.agents.worker_door import WorkerDoor
from manager.api.authentication import Credentials
from manager.api.forwarding import ForwardingCodes, Leader, LeaderProxy
from manager.api.middleware.client_address import ClientAddresses
from manager.api.ports import FutureLike
from manager.api.serving.server import ApiServer
from manager.api.standby import StandbyApp, StandbyServices
from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.domain.budget import Budget
from manager.engine.commands.http_agent_requests import HeartbeatRecorded, LearnAgent, RecordHeartbeat
from manager.errors import LeaderNeeded, StoreUnavailable
from schemas.keys import AgentKeys
from tests.integration.api.test_forwarding import KEY, NOW, LeadingApp

SECRET = bytes(range(32))
AGENT = Agent(
    1, "ag-0000000000000001", "default", Host.of("web-1", "Debian 12", "x64", "1"), credential_of(SECRET), None,
    Door.HTTP, 0.0,
)  # fmt: skip
TOKEN = AgentKeys.derive(SECRET).http_token
HEARTBEAT = f"/api/agents/{AGENT.agent_id}/heartbeat"


class Engine:
    """The worker's engine and its agents: answers at once, or with an error."""

    def __init__(self) -> None:
        self.known: dict[bytes, Agent] = {}
        self.registered = True
        self.takes = True
        self.error: Exception | None = None
        self.taken: list[Any] = []

    def find_by_http_digest(self, digest: bytes) -> Agent | None:
        return self.known.get(digest)

    def has(self, agent_id: str) -> bool:
        return any(agent.agent_id == agent_id for agent in self.known.values())

    async def submit(self, request: Any) -> Any:
        if self.error is not None and not isinstance(request, LearnAgent):
            raise self.error
        return self._answer(request)

    def submit_nowait(self, request: Any, future: FutureLike) -> None:
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self._answer(request))

    def _answer(self, request: Any) -> Any:
        self.taken.append(request)
        if isinstance(request, LearnAgent):
            if self.registered and request.agent_id == AGENT.agent_id:
                self.known[AGENT.credential.http_digest] = AGENT
            return None
        assert isinstance(request, RecordHeartbeat)
        return HeartbeatRecorded({"cpu": request.heartbeat.cpu}, ())


class Worker:
    """A worker's door in front of a leader, both on real sockets; loopback is a trusted proxy."""

    def __init__(self) -> None:
        self.leading, self.engine = LeadingApp(), Engine()
        self.leader_server = ApiServer(self.leading, "127.0.0.1", 0)
        self.leader_server.start()
        self.leader: Leader | None = Leader("leader-1", self.leader_server.url)
        codes = ForwardingCodes(KEY, "worker-1", lambda: NOW)
        addresses, registry = ClientAddresses(proxies=["127.0.0.1/32"]), CollectorRegistry()
        door = WorkerDoor(
            agents=self.engine,
            takes=lambda _segment: self.engine.takes,
            engine=self.engine,
            addresses=addresses,
            rate_limit=60,
            report_budget=Budget(200.0, 2e6, 10.0),
            sharers=lambda: 1,
            clock=lambda: NOW,
            registry=registry,
        )
        services = StandbyServices(
            leader=lambda: self.leader,
            group=lambda: {"role": "ingest", "leader": None, "managers": []},
            not_ready=lambda: None,
            credentials=lambda: Credentials("the admin token", lambda _digest: None),
            addresses=addresses,
            proxy=lambda: LeaderProxy(codes, None),
            registry=registry,
            version="0.1.0",
            uptime=lambda: 1.0,
            door=door,
        )
        self.server = ApiServer(StandbyApp(services), "127.0.0.1", 0)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()
        self.leader_server.stop()


@pytest.fixture
def worker() -> Iterator[Worker]:
    running = Worker()
    yield running
    running.stop()


@pytest.fixture
def client(worker: Worker) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "198.51.100.7"}
    with httpx2.Client(base_url=worker.server.url, headers=headers, timeout=60, trust_env=False) as open_client:
        yield open_client


def beat(client: httpx2.Client, cpu: float, **headers: str) -> httpx2.Response:
    return client.post(
        HEARTBEAT, content=json.dumps({"cpu": cpu}), headers={"Content-Type": "application/json", **headers}
    )


def test_a_known_agent_is_answered_here_plain_or_not(worker: Worker, client: httpx2.Client) -> None:
    """The first request has the agent looked up; then both ways answer with the same body, and nothing is passed on."""
    plain, again = beat(client, 1.5), beat(client, 2.5)
    other = beat(client, 3.5, **{"X-Request-Id": "the-long-way"})
    assert [each.status_code for each in (plain, again, other)] == [200, 200, 200]
    assert [each.json()["data"]["cpu"] for each in (plain, again, other)] == [1.5, 2.5, 3.5]
    assert other.headers["x-request-id"] == "the-long-way"
    assert again.headers.keys() == other.headers.keys()
    assert [type(each) for each in worker.engine.taken] == [LearnAgent, *[RecordHeartbeat] * 3]
    assert worker.leading.seen == []


def test_an_unknown_agent_is_passed_on_whole_with_its_address(worker: Worker, client: httpx2.Client) -> None:
    """The leader gets path, headers, body and the address behind the proxy; its answer comes back on the connection."""
    worker.engine.registered = False
    answers = [beat(client, number) for number in range(3)]
    assert [(each.status_code, each.text) for each in answers] == [(201, "first;last")] * 3
    assert all(each.headers["x-own"] == "of the leader" for each in answers)
    first = worker.leading.seen[0]
    assert (first["method"], first["target"]) == ("POST", f"{HEARTBEAT}?".encode())
    assert [json.loads(each["body"])["cpu"] for each in worker.leading.seen] == [0, 1, 2]
    assert {each["address"] for each in worker.leading.seen} == {"198.51.100.7"}
    assert {each["headers"][b"authorization"] for each in worker.leading.seen} == {f"Bearer {TOKEN}".encode()}


def test_strangers_reach_the_engine_sixty_times_a_minute(worker: Worker, client: httpx2.Client) -> None:
    """Whoever names agents without their tokens is passed on after that; agents of other addresses are looked up."""
    for number in range(70):
        path = HEARTBEAT.replace("0001", f"{number + 16:04x}")
        assert client.post(path, json={}, headers={"Authorization": f"Bearer {number}"}).status_code == 201
    assert [type(each) for each in worker.engine.taken] == [LearnAgent] * 60
    assert len(worker.leading.seen) == 70
    assert beat(client, 1.0).text == "first;last"
    assert beat(client, 1.0, **{"X-Forwarded-For": "198.51.100.8"}).json()["data"]["cpu"] == 1.0
    assert beat(client, 2.0).json()["data"]["cpu"] == 2.0


@pytest.mark.parametrize("headers", [{}, {"X-Request-Id": "the-long-way"}])
def test_what_only_the_leader_can_decide_is_passed_on(
    worker: Worker, client: httpx2.Client, headers: dict[str, str]
) -> None:
    """Once, after the engine has said so; the engine is told when the leader has answered with 200 alone."""
    assert beat(client, 1.0).status_code == 200
    told: list[str] = []
    worker.engine.error = LeaderNeeded("a policy may be lacking", served=lambda: told.append("served"))
    assert beat(client, 2.0, **headers).text == "first;last"
    assert len(worker.leading.seen) == 1
    assert told == []  # it was 201


def test_a_worker_that_takes_nothing_passes_on(worker: Worker, client: httpx2.Client) -> None:
    """Known agents too, also on a connection that it has answered before."""
    assert beat(client, 1.0).status_code == 200
    worker.engine.takes = False
    assert [beat(client, 2.0).status_code for _ in range(2)] == [201, 201]
    assert len(worker.engine.taken) == 2


def test_without_a_leader_the_answer_says_so(worker: Worker, client: httpx2.Client) -> None:
    """Only for what needs it: a known agent is answered."""
    assert beat(client, 1.0).status_code == 200
    worker.leader = None
    assert beat(client, 1.0).status_code == 200
    worker.engine.error = LeaderNeeded("a policy may be lacking")
    refused = [beat(client, 2.0), beat(client, 2.0, **{"X-Request-Id": "x"}), client.get("/api/agents")]
    assert [(each.status_code, each.headers["retry-after"]) for each in refused] == [(503, "2")] * 3
    worker.engine.error = StoreUnavailable("not in time")
    answers = [beat(client, 2.0), beat(client, 2.0, **{"X-Request-Id": "x"})]
    assert [(each.status_code, each.headers["retry-after"]) for each in answers] == [(503, "5")] * 2
    assert worker.leading.seen == []


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", HEARTBEAT, {}),
        ("POST", f"{HEARTBEAT}?x=1", {}),
        ("POST", HEARTBEAT.replace("/heartbeat", "/other"), {}),
        ("POST", HEARTBEAT.replace("ag-", "ag%2D"), {}),
        ("POST", HEARTBEAT, {"Origin": "https://example.org"}),
        ("POST", HEARTBEAT, {"Authorization": "Bearer another"}),
        ("POST", HEARTBEAT, {"Authorization": "Basic x"}),
        ("POST", "/api/agents/register", {}),
    ],
)
def test_other_requests_are_the_leaders(
    worker: Worker, client: httpx2.Client, method: str, path: str, headers: dict[str, str]
) -> None:
    """Other methods, paths, spellings, pages and tokens, though the agent is known."""
    assert beat(client, 1.0).status_code == 200
    answer = client.request(method, path, content=b"{}", headers={"Content-Type": "application/json", **headers})
    assert (answer.status_code, len(worker.leading.seen)) == (201, 1)


def test_an_agents_token_does_not_open_another_agents_path(worker: Worker, client: httpx2.Client) -> None:
    """It is refused here, as at the leader."""
    assert beat(client, 1.0).status_code == 200
    other = HEARTBEAT.replace("0001", "0002")
    assert client.post(other, json={}).status_code == 403
    assert client.post(other, json={}, headers={"X-Request-Id": "x"}).status_code == 403
    assert worker.leading.seen == []


def test_an_agent_above_its_limit_is_refused_here(worker: Worker, client: httpx2.Client) -> None:
    """The 61st heartbeat of a minute is answered 429 with Retry-After."""
    codes = [beat(client, 1.0) for _ in range(61)]
    assert [each.status_code for each in codes] == [*[200] * 60, 429]
    assert "retry-after" in codes[-1].headers
    assert worker.leading.seen == []
