"""Requests that a manager which stands by passes on to the leader, over real sockets."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from manager.api import forwarding
from manager.api.authentication import Credentials
from manager.api.forwarding import FORWARDED, ForwardingCodes, Leader, LeaderProxy
from manager.api.middleware.client_address import ClientAddresses
from manager.api.serving.server import ApiServer
from manager.api.standby import StandbyApp, StandbyServices
from tests.support.waiting import eventually

KEY = bytes(range(32))
NOW = 1_800_000_000.0


class LeadingApp:
    """Answers with what it was sent, or with a stream that goes on until the client leaves."""

    def __init__(self) -> None:
        codes = ForwardingCodes(KEY, "leader-1", lambda: NOW)
        self.addresses = ClientAddresses(forwarded=codes.address)
        self.seen: list[dict[str, Any]] = []
        self.release = threading.Event()
        self.left = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        message = await receive()
        headers = dict(scope["headers"])
        self.seen.append(
            {
                "method": scope["method"],
                "target": scope["raw_path"] + b"?" + scope["query_string"],
                "headers": headers,
                "body": message["body"],
                "address": self.addresses.address(scope["client"], headers),
            }
        )
        if scope["path"] == "/broken":
            raise RuntimeError("ends without an answer")
        start = [(b"x-own", b"of the leader"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 201, "headers": start})
        await send({"type": "http.response.body", "body": b"first;", "more_body": True})
        if scope["path"] == "/stream":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
            return
        await send({"type": "http.response.body", "body": b"last"})


class StandingBy:
    """A stand-by in front of a leader, both on real sockets."""

    def __init__(self, leading: LeadingApp) -> None:
        self.leading = leading
        self.leader_server = ApiServer(leading, "127.0.0.1", 0)
        self.leader_server.start()
        self.role = "standby"
        self.managers = [{"role": "standby"}]
        self.leader: Leader | None = Leader("leader-1", self.leader_server.url)
        self.tokens_are_asked = threading.Event()
        self.tokens_are_read = threading.Event()
        self.tokens_are_read.set()
        codes = ForwardingCodes(KEY, "standby-1", lambda: NOW)
        self.server = ApiServer(
            StandbyApp(
                StandbyServices(
                    leader=lambda: self.leader,
                    group=lambda: {"role": self.role, "leader": None, "managers": self.managers},
                    not_ready=lambda: None if self.leader else "no manager leads just now",
                    credentials=self._credentials,
                    addresses=ClientAddresses(),
                    proxy=lambda: LeaderProxy(codes, None),
                    registry=CollectorRegistry(),
                    version="0.1.0",
                    uptime=lambda: 1.0,
                )
            ),
            "127.0.0.1",
            0,
        )
        self.server.start()

    def _credentials(self) -> Credentials:
        """Return the tokens once the database has answered."""
        self.tokens_are_asked.set()
        assert self.tokens_are_read.wait(60)
        return Credentials("the admin token", lambda _digest: None)

    def stop(self) -> None:
        self.tokens_are_read.set()
        self.server.stop()
        self.leader_server.stop()


@pytest.fixture
def standing_by() -> Iterator[StandingBy]:
    both = StandingBy(LeadingApp())
    yield both
    both.stop()


@pytest.fixture
def client(standing_by: StandingBy) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=standing_by.server.url, timeout=60, trust_env=False) as open_client:
        yield open_client


def test_a_request_is_passed_on_whole(standing_by: StandingBy, client: httpx2.Client) -> None:
    """The leader sees method, target, headers and body, and the address of the client; the client sees its answer."""
    answer = client.put("/api/x%2Fy?a=1&b=%20", content=b"body", headers={"Authorization": "Bearer t", "X-Mine": "1"})
    assert (answer.status_code, answer.text) == (201, "first;last")
    assert answer.headers["x-own"] == "of the leader"
    (seen,) = standing_by.leading.seen
    assert (seen["method"], seen["target"], seen["body"]) == ("PUT", b"/api/x%2Fy?a=1&b=%20", b"body")
    assert seen["headers"][b"authorization"] == b"Bearer t"
    assert seen["headers"][b"x-mine"] == b"1"
    assert seen["headers"][b"host"] == standing_by.server.url.removeprefix("http://").encode()
    assert seen["address"] == "127.0.0.1"


def test_a_stream_is_passed_on_as_it_comes_and_ends_with_its_client(
    standing_by: StandingBy, client: httpx2.Client
) -> None:
    """The first piece arrives while the stream goes on; the leader notices that the client leaves."""
    with client.stream("GET", "/stream") as answer:
        pieces = answer.iter_raw()  # kept: the stream is closed with its iterator
        assert next(pieces) == b"first;"
        assert not standing_by.leading.left.is_set()
    eventually(standing_by.leading.left.is_set, what="the leader's stream ends")


def test_a_large_body_is_refused(standing_by: StandingBy, client: httpx2.Client) -> None:
    """A body over 1 MiB is answered 413 here, declared or not."""
    assert client.post("/api/x", content=b"x" * (1024 * 1024 + 1)).status_code == 413
    assert client.post("/api/x", content=iter([b"x" * 700_000] * 2)).status_code == 413
    assert standing_by.leading.seen == []


def test_without_a_leader_the_client_is_told_to_come_again(standing_by: StandingBy, client: httpx2.Client) -> None:
    """503 with Retry-After, while no leader is known, and while the known one does not answer."""
    url, standing_by.leader = standing_by.leader, None
    answer = client.get("/api/agents")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"].startswith("no manager leads just now")
    assert client.get("/health/ready").status_code == 503
    assert url is not None
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        standing_by.leader = Leader("leader-1", f"http://127.0.0.1:{unused.getsockname()[1]}")
        answer = client.get("/api/agents")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "does not answer" in answer.json()["error"]


def test_a_leader_that_hangs_holds_nothing_up_once_another_leads(
    standing_by: StandingBy, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that wait for it take no connections from those to its successor, and end soon with a 503."""
    monkeypatch.setattr(forwarding, "_CONNECTIONS", 2)
    monkeypatch.setattr(forwarding, "_FORMER_LEADER", 0.5)
    leading, codes = standing_by.leader, list[int]()

    def ask() -> None:
        codes.append(httpx2.get(f"{standing_by.server.url}/api/x", timeout=100, trust_env=False).status_code)

    with socket.create_server(("127.0.0.1", 0)) as hanging:
        standing_by.leader = Leader("leader-0", f"http://127.0.0.1:{hanging.getsockname()[1]}")
        waiting = [threading.Thread(target=ask) for _ in range(2)]
        for thread in waiting:
            thread.start()
        taken = [hanging.accept()[0] for _ in waiting]
        standing_by.leader = leading
        assert client.get("/api/x").status_code == 201
        for thread in waiting:
            thread.join(60)
        assert codes == [503, 503]
        for connection in taken:
            connection.close()


def test_a_request_that_waits_for_the_leader_when_the_door_closes_is_answered(
    standing_by: StandingBy, client: httpx2.Client
) -> None:
    """The manager that takes the lead waits for no answer of the former leader: 503, and not an error of its own."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        standing_by.leader = Leader("leader-1", f"http://127.0.0.1:{silent.getsockname()[1]}")
        answers: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: answers.append(client.get("/api/agents")))
        asking.start()
        taken, _ = silent.accept()
        with taken:
            assert taken.recv(4096)
            standing_by.server.stop()
            asking.join()
    assert [answer.status_code for answer in answers] == [503]
    assert answers[0].headers["retry-after"] == "2"


def test_the_lead_is_promised_only_where_a_manager_stands_by(standing_by: StandingBy, client: httpx2.Client) -> None:
    """Workers alone never lead: their refusal says to start a manager, and no longer that one leads within seconds."""
    standing_by.leader = None
    assert "takes the lead within seconds" in client.get("/api/agents").json()["error"]
    standing_by.role, standing_by.managers = "leader", [{"role": "leader"}]  # it has the lease, and opens its doors
    assert "takes the lead within seconds" in client.get("/api/agents").json()["error"]
    standing_by.role, standing_by.managers = "ingest", [{"role": "standby"}, {"role": "ingest"}]
    assert "takes the lead within seconds" in client.get("/api/agents").json()["error"]
    standing_by.managers = [{"role": "ingest"}]
    answer = client.get("/api/agents")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"].endswith("none is heard of that stands by: start one if none runs, and try again")


def test_a_request_that_was_passed_on_is_not_passed_on_again(standing_by: StandingBy, client: httpx2.Client) -> None:
    """Two managers that take each other for the leader send nothing around in a circle."""
    standing_by.leader = Leader("standby-1", standing_by.server.url)
    answer = client.get("/api/agents")
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("no manager leads just now")


def test_a_request_without_a_path_is_refused_as_one(standing_by: StandingBy) -> None:
    """`*` is no path: the answer is 404 and no failure of the manager, and the leader sees nothing."""
    with socket.create_connection(("127.0.0.1", standing_by.server.port), timeout=60) as connection:
        connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert standing_by.leading.seen == []


def test_only_managers_of_the_database_state_an_address() -> None:
    """A code by another key, for another receiver, of another address or of an hour ago names nobody.

    Neither is the peer the client: a manager on a trusted network whose clock is wrong lends its trust to no client.
    """
    codes = ForwardingCodes(KEY, "leader-1", lambda: NOW)
    addresses = ClientAddresses(["198.51.100.0/24"], forwarded=codes.address)
    good = ForwardingCodes(KEY, "standby-1", lambda: NOW).sign("leader-1", "192.0.2.9")
    assert addresses.address(("198.51.100.1", 1), {FORWARDED: good}) == "192.0.2.9"
    assert addresses.address(("198.51.100.1", 1), {}) == "198.51.100.1"
    for wrong in (
        ForwardingCodes(bytes(32), "standby-1", lambda: NOW).sign("leader-1", "192.0.2.9"),
        ForwardingCodes(KEY, "standby-1", lambda: NOW).sign("leader-2", "192.0.2.9"),
        ForwardingCodes(KEY, "standby-1", lambda: NOW - 3600).sign("leader-1", "192.0.2.9"),
        good.replace(b"192.0.2.9", b"192.0.2.8"),
        good[:-1],
        b"",
        b"\xff\xfe",
    ):
        address = addresses.address(("198.51.100.1", 1), {FORWARDED: wrong})
        assert (address, addresses.is_trusted(address)) == ("", False)


def test_a_database_that_answers_late_holds_up_no_other_request(standing_by: StandingBy, client: httpx2.Client) -> None:
    """Metrics wait for the tokens; health is answered meanwhile, and then the metrics."""
    standing_by.tokens_are_read.clear()
    codes: list[int] = []

    def ask() -> None:
        headers = {"Authorization": "Bearer the admin token"}
        with httpx2.Client(base_url=standing_by.server.url, timeout=90, trust_env=False) as other:
            codes.append(other.get("/metrics", headers=headers).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    assert standing_by.tokens_are_asked.wait(60)
    assert client.get("/health/live").status_code == 200
    assert codes == []
    standing_by.tokens_are_read.set()
    asking.join(60)
    assert codes == [200]


def test_a_standby_answers_for_itself(standing_by: StandingBy, client: httpx2.Client) -> None:
    """Health needs no token and says the role; metrics need one."""
    health = client.get("/health").json()
    assert health["role"] == health["data"]["role"] == "standby"
    assert client.get("/health/live").json()["data"] == {"live": True}
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer the admin token"}).status_code == 200
    assert client.post("/health").status_code == 405
    assert client.get("/health").headers["x-content-type-options"] == "nosniff"
    assert standing_by.leading.seen == []
