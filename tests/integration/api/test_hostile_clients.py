"""Clients that send too much, too slowly, or nothing at all: each is refused or let go, and the others are served."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from manager.api.serving import http_connection
from tests.integration.api.documented import HEADERS
from tests.integration.api.served import ADMIN_TOKEN, LOOPBACK, HttpAgent, Served
from tests.support.waiting import eventually

_JSON = {"Content-Type": "application/json"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's patience, shortened."""
    monkeypatch.setattr(http_connection, "HEAD_TIMEOUT", 0.3)
    monkeypatch.setattr(http_connection, "BODY_TIMEOUT", 0.3)
    monkeypatch.setattr(http_connection, "CHECK_INTERVAL", 0.05)


def _connect(served: Served) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.server.port), timeout=60)
    connection.settimeout(60)
    return connection


def _all(connection: socket.socket) -> bytes:
    said = b""
    try:
        while chunk := connection.recv(65_536):
            said += chunk
    except ConnectionError:
        pass
    return said


@pytest.mark.parametrize("path", ["heartbeat", "events"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"cpu":NaN,"evidence":NaN,"threat":{"type":"x","confidence":NaN}}',
        b'{"cpu":1e999,"threat":{"type":"x","confidence":1,"evidence":{"x":1e999}}}',
        b"[" * 5000,
        b'{"threat":{"type":"x","confidence":1,"evidence":' + b'{"x":' * 3000 + b"1" + b"}" * 3000 + b'},"cpu":1,"x":'
        + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"cpu":1,"threat":{"type":"\xff"}}',
        b'{"mode":"\\ud800","threat":{"type":"\\ud800","confidence":1}}',
        b"{",
    ],
)  # fmt: skip
def test_what_is_no_json_is_400(agent: HttpAgent, admin: httpx2.Client, path: str, body: bytes) -> None:
    """NaN, numbers without end, deep nesting, broken text: one sentence, and nothing is stored."""
    answer = agent.client.post(f"/api/agents/{agent.agent_id}/{path}", content=body, headers=_JSON)
    assert (answer.status_code, answer.json()["ok"]) == (400, False)
    assert admin.get("/api/threats").json()["data"] == []


def test_of_a_repeated_key_the_last_counts(agent: HttpAgent) -> None:
    """As everywhere in JSON; what came before it is not looked at."""
    body = b'{"cpu":500,"cpu":5}'
    answer = agent.client.post(f"/api/agents/{agent.agent_id}/heartbeat", content=body, headers=_JSON)
    assert answer.json()["data"]["cpu"] == 5


@pytest.mark.parametrize("path", ["heartbeat", "events"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_2_mb_is_413(agent: HttpAgent, path: str, *, chunked: bool) -> None:
    """An answer, not a reset, and the connection serves on."""
    content = iter([b" " * 65_536] * 32) if chunked else b" " * 2 * 1024 * 1024
    answer = agent.client.post(f"/api/agents/{agent.agent_id}/{path}", content=content, headers=_JSON)
    assert (answer.status_code, answer.json()["ok"]) == (413, False)
    assert agent.heartbeat().status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json-patch+json"])
def test_a_report_that_is_not_declared_as_json_is_415(agent: HttpAgent, kind: str) -> None:
    """So no web page's form can report for an agent."""
    for path in ("heartbeat", "events"):
        headers = {"Content-Type": kind}
        answer = agent.client.post(f"/api/agents/{agent.agent_id}/{path}", content=b"{}", headers=headers)
        assert answer.status_code == 415


def test_a_head_of_10_mb_is_refused(served: Served) -> None:
    """431 long before all of it is read."""
    with _connect(served) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        try:
            while sent < 10_000_000:
                connection.sendall(b"X-Long: " + b"a" * 100_000)
                sent += 100_000
        except ConnectionError:
            pass
        assert sent < 10_000_000
        said = _all(connection)
    assert said == b"" or said.startswith(b"HTTP/1.1 431 ")


def test_what_is_refused_before_it_is_a_request_has_the_headers_of_every_answer(served: Served) -> None:
    """A head of 100 KB that is not whole: 431 in the envelope, with the security headers and a request id."""
    with _connect(served) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 70_000)
        head, _, body = _all(connection).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    told = dict(line.split(": ", 1) for line in lines)
    assert (status, told["connection"]) == ("HTTP/1.1 431 Request Header Fields Too Large", "close")
    assert json.loads(body)["ok"] is False
    assert {name: begin for name, begin in HEADERS.items() if not told.get(name.lower(), "-").startswith(begin)} == {}


def test_what_is_no_http_is_400(served: Served) -> None:
    """In the envelope; nothing of the framework's words."""
    with _connect(served) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        said = _all(connection)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.endswith(b'{"ok":false,"error":"the request is no HTTP"}')


@pytest.mark.parametrize(
    ("first", "drop"),
    [(b"GET /heal", b"l"), (b"POST /api/agents/register HTTP/1.1\r\nHost: x\r\nX-A: ", b"a")],
)
@pytest.mark.usefixtures("impatient")
def test_a_head_that_comes_byte_by_byte_is_ended(served: Served, first: bytes, drop: bytes) -> None:
    """A client that sends a byte now and then gets 408, and the connection is closed."""
    with _connect(served) as connection:
        connection.sendall(first)
        _drip(connection, drop)
        assert _all(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("path", ["/api/agents/{id}/heartbeat", "/api/agents/{id}/events", "/api/agents/register"])
@pytest.mark.usefixtures("impatient")
def test_a_body_that_comes_byte_by_byte_is_ended(served: Served, agent: HttpAgent, path: str) -> None:
    """The same with bodies, on fast routes and others."""
    with _connect(served) as connection:
        head = f"POST {path.format(id=agent.agent_id)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(
            f"{head}Authorization: Bearer {agent.told['token']}\r\nContent-Length: 1000\r\n\r\n".encode()
        )
        _drip(connection, b" ")
        assert _all(connection).startswith(b"HTTP/1.1 408 ")
    assert agent.heartbeat().status_code == 200


@pytest.mark.parametrize(
    "rest",
    [
        b"POST /api/agents/register HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 1000\r\n\r\n ",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["a body that nobody wants", "empty lines"],
)
@pytest.mark.usefixtures("impatient")
def test_a_connection_is_not_held_after_its_answer(served: Served, rest: bytes) -> None:
    """Neither by the body of a request that was refused, nor by bytes that begin no other request."""
    with _connect(served) as connection:
        connection.sendall(rest)
        said = connection.recv(65_536)
        while not said.endswith(b"}"):
            said += connection.recv(65_536)
        connection.sendall(b"\r\n")
        assert _all(connection) == b""
    connected = served.server._server.server_state.connections
    eventually(lambda: not connected, what="no connection is left")


def _drip(connection: socket.socket, byte: bytes) -> None:
    """Send a byte now and then until the other side has had enough."""
    pause = threading.Event()
    try:
        for _ in range(200):
            connection.sendall(byte)
            if pause.wait(0.02):
                break
    except ConnectionError:
        pass


def test_a_half_closed_socket_gets_its_answer(served: Served) -> None:
    """A client that says all and closes its half is answered."""
    with _connect(served) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert _all(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.usefixtures("impatient")
def test_idle_connections_are_let_go_and_disturb_nobody(served: Served, agent: HttpAgent) -> None:
    """Hundreds of connections that say nothing: others are served meanwhile, and all of them end."""
    with ExitStack() as stack:
        idle = [stack.enter_context(_connect(served)) for _ in range(400)]
        assert agent.heartbeat().status_code == 200
        assert all(_all(connection) == b"" for connection in idle)
    connected = served.server._server.server_state.connections
    eventually(lambda: len(connected) <= 1, what="only the agent's connection is left")


_REFUSED_EARLY = {
    401: ("/api/policy", {"Authorization": "Bearer wrong", "Content-Type": "application/json"}),
    413: ("/api/policy", {"Content-Type": "application/json"}),
    415: ("/api/policy", {"Content-Type": "text/plain"}),
    429: ("/api/agents", {"Authorization": "Bearer wrong"}),
    431: ("/api/policy", {"X-Long": "a" * 70_000}),
}


@pytest.mark.parametrize("status", list(_REFUSED_EARLY))
def test_a_client_that_sends_on_still_gets_its_answer(tmp_path: Path, status: int) -> None:
    """`Connection: close` and a body that nobody wants: the answer arrives each time, without a reset."""
    path, headers = _REFUSED_EARLY[status]
    body = b" " * (2_000_000 if status == 413 else 900_000)
    limit = 1 if status == 429 else 0
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=limit) as served:
        told = []
        for _ in range(10):
            client = http.client.HTTPConnection("127.0.0.1", served.server.port, timeout=60)
            admin = {} if "Authorization" in headers else {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            client.request("POST", path, body, {"Connection": "close", **admin, **headers})
            told.append(client.getresponse().status)
            client.close()
    assert told[1:] == [status] * 9


def test_lingering_is_bounded_in_bytes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused client that sends without end is cut."""
    monkeypatch.setattr(http_connection, "LINGER_BYTES", 1_000_000)
    with _connect(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * 200_000_000)


@pytest.mark.parametrize("kept", [True, False])
def test_lingering_is_bounded_in_time(served: Served, monkeypatch: pytest.MonkeyPatch, *, kept: bool) -> None:
    """A refused client that keeps its connection open and sends a byte now and then is let go."""
    monkeypatch.setattr(http_connection, "LINGER_TIMEOUT", 0.2)
    monkeypatch.setattr(http_connection, "CHECK_INTERVAL", 0.05)
    connected = served.server._server.server_state.connections
    with _connect(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")
        if kept:
            eventually(lambda: not connected, what="the connection is gone")
        else:
            connection.close()
            eventually(lambda: not connected, what="the connection is gone")


_INVALID_HEADS = {
    "no Host": (b"%b HTTP/1.1\r\n", 400),
    "two Hosts": (b"%b HTTP/1.1\r\nHost: x\r\nHost: x\r\n", 400),
    "a Host that is none": (b"%b HTTP/1.1\r\nHost: a b\r\n", 400),
    "two Hosts in 1.0": (b"%b HTTP/1.0\r\nHost: x\r\nHost: y\r\n", 400),
    "two Authorizations": (b"%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\n", 400),
    "version 2.0": (b"%b HTTP/2.0\r\nHost: x\r\n", 505),
    "version 0.9": (b"%b HTTP/0.9\r\nHost: x\r\n", 505),
}


@pytest.mark.parametrize("invalid", list(_INVALID_HEADS))
def test_heads_that_rfc_9112_forbids_are_refused_in_both_lanes(served: Served, agent: HttpAgent, invalid: str) -> None:
    """A plain heartbeat, which takes the fast lane, and a request of the application get the same answer."""
    head, status = _INVALID_HEADS[invalid]
    token = agent.told["token"].encode()
    own = b"Authorization: Bearer %b\r\n" % token
    lines = {
        "fast": b"POST /api/agents/%b/heartbeat" % agent.agent_id.encode(),
        "application": b"POST /api/agents/%b/heartbeat?a=b" % agent.agent_id.encode(),
    }
    said = {}
    for lane, line in lines.items():
        with _connect(served) as connection:
            rest = b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            connection.sendall(head % line + own + rest)
            said[lane] = _all(connection)
    assert said["fast"].startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(said["fast"].partition(b"\r\n\r\n")[2])["ok"] is False
    without_id = [[line for line in text.split(b"\r\n") if b"request-id" not in line] for text in said.values()]
    assert without_id[0] == without_id[1]


def test_an_http_1_0_request_needs_no_host(served: Served) -> None:
    """RFC 9112 asks it of HTTP/1.1 only; an empty Host and one with a port are hosts."""
    for head in (b"HTTP/1.0\r\n", b"HTTP/1.1\r\nHost:\r\n", b"HTTP/1.1\r\nHost: [::1]:8443\r\n"):
        with _connect(served) as connection:
            connection.sendall(b"GET /health/live %bConnection: close\r\n\r\n" % head)
            assert _all(connection).startswith(b"HTTP/1.1 200 "), head


def test_an_encoded_slash_separates_nothing(served: Served, agent: HttpAgent) -> None:
    """`%2f` in a path is 404, not the route that it would make; other encoded characters are what they stand for."""
    own = {"Authorization": f"Bearer {agent.told['token']}", "Content-Type": "application/json"}
    encoded = agent.agent_id.replace("-", "%2D")
    statuses = {}
    for path in (
        f"/api/agents/{agent.agent_id}%2fheartbeat", f"/api/agents%2F{agent.agent_id}/heartbeat",
        f"/api/agents/{encoded}/heartbeat",
    ):  # fmt: skip
        client = http.client.HTTPConnection("127.0.0.1", served.server.port, timeout=60)
        client.request("POST", path, b"{}", own)
        statuses[path] = client.getresponse().status
        client.close()
    assert list(statuses.values()) == [404, 404, 200]


def test_a_bad_head_behind_an_unanswered_request_is_not_answered_before_it(served: Served, agent: HttpAgent) -> None:
    """Answers keep their order: the first request gets its own, and then the connection ends."""
    token, name = agent.told["token"].encode(), agent.agent_id.encode()
    first = b"POST /api/agents/%b/heartbeat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n" % (name, token)
    first += b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with _connect(served) as connection:
        with served.bench():
            connection.sendall(first + b"GET /health HTTP/1.1\r\n\r\n")
        said = _all(connection)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 ") == 1
