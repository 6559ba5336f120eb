"""The fast lane: plain requests get the very answers that the application gives, in their order, and none is lost."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.api.agents.fast_lane import BODY_LIMIT, FastLane
from manager.engine.engine import Engine
from tests.integration.api.served import ADMIN_TOKEN, LOOPBACK, HttpAgent, Served
from tests.support.examples import examples
from tests.support.waiting import eventually

_DETOUR = b"X-Request-Id: by-the-long-way\r\n"
"""A header that no plain request carries, and that changes nothing else."""


@dataclass(frozen=True)
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def comparable(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """The answer without what differs from request to request."""
        differing = {b"x-request-id", b"date"}
        headers = {name: b"" if name in differing else value for name, value in self.headers.items()}
        return self.status, headers, self.body


class Connection:
    """A client that writes what it is told, and reads answer by answer."""

    def __init__(self, served: Served) -> None:
        self._socket = socket.create_connection(("127.0.0.1", served.server.port), timeout=60)
        self._read = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> Answer:
        status = int(self._read.readline().split()[1])
        headers = {}
        while line := self._read.readline().strip():
            name, _, value = line.partition(b": ")
            headers[name.lower()] = value
        return Answer(status, headers, self._read.read(int(headers.get(b"content-length", b"0"))))

    def ended(self) -> bool:
        return self._read.read(1) == b""

    def close(self) -> None:
        self._read.close()
        self._socket.close()


@contextmanager
def connected(served: Served) -> Iterator[Connection]:
    connection = Connection(served)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def served(tmp_path: Any) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The agents whose requests took the fast lane, as they came."""
    seen: list[str] = []
    serve = FastLane.serve

    def watched(lane: FastLane, exchange: Any) -> None:
        seen.append(exchange.head.agent_id)
        serve(lane, exchange)

    monkeypatch.setattr(FastLane, "serve", watched)
    return seen


def _post(path: str, token: str | None, body: bytes, *more: bytes, kind: bytes = b"application/json") -> bytes:
    lines = [b"POST %b HTTP/1.1" % path.encode(), b"Host: x", b"Content-Length: %d" % len(body)]
    if token is not None:
        lines.append(b"Authorization: Bearer %b" % token.encode())
    if kind:
        lines.append(b"Content-Type: %b" % kind)
    return b"\r\n".join(lines) + b"\r\n" + b"".join(more) + b"\r\n" + body


def _event(number: int) -> bytes:
    return (
        b'{"id":"t-%d","threat":{"type":"brute_force","confidence":90,"evidence":{"sourceIp":"203.0.113.7"}},'
        b'"timestamp":"2027-01-15T08:00:00.000Z"}' % number
    )


_BODIES = st.one_of(
    st.sampled_from(
        [
            b"", b"{}", b"[]", b"null", b"{", b'{"cpu":12.5}', b'{"cpu":"12"}', b'{"cpu":NaN}', b'{"policyVersion":0}',
            b'{"mode":"learning","uptime":3,"version":"2.0"}', _event(1), _event(2), b'{"threats":[null]}',
            b'{"threats":[%b,null]}' % _event(3), b'{"threats":[%b,%b]}' % (_event(4), _event(5)),
            b'{"id":"t-1","threat":{"type":"other","confidence":1}}', b'{"events":[]}', b"\xff\xfe", b"[" * 3000,
        ]
    ),
    st.binary(max_size=64),
    st.text(max_size=64).map(str.encode),
)  # fmt: skip
_TOKENS = st.sampled_from(["own", "admin", "another's", "nobody's", "none"])
_KINDS = st.sampled_from([b"application/json", b"application/json; charset=utf-8", b"text/plain", b""])


@pytest.fixture
def tokens(served: Served, agent: HttpAgent) -> Iterator[dict[str, str | None]]:
    other = served.join("srv-02")
    with other.client:
        own, another = agent.told["token"], other.told["token"]
        yield {"own": own, "admin": ADMIN_TOKEN, "another's": another, "nobody's": "x" * 43, "none": None}


@dataclass(frozen=True)
class Asked:
    """One request: whose token it carries, and what."""

    who: str
    word: str
    kind: bytes
    body: bytes


_ASKED = st.builds(Asked, who=_TOKENS, word=st.sampled_from(["heartbeat", "events"]), kind=_KINDS, body=_BODIES)


@given(asked=_ASKED)
@settings(max_examples=examples(120), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_ways_give_the_same_answer(
    served: Served, agent: HttpAgent, fast: list[str], tokens: dict[str, str | None], asked: Asked
) -> None:
    """Status, headers and body are the same to the byte, whatever is asked by whom."""
    path, token = f"/api/agents/{agent.agent_id}/{asked.word}", tokens[asked.who]
    with connected(served) as connection:
        if asked.word == "events":  # what is stored once is answered alike from then on
            connection.send(_post(path, token, asked.body, kind=asked.kind))
            connection.answer()
        fast.clear()
        connection.send(_post(path, token, asked.body, kind=asked.kind))
        plain = connection.answer()
        assert fast == [agent.agent_id]
        connection.send(_post(path, token, asked.body, _DETOUR, kind=asked.kind))
        long = connection.answer()
        assert len(fast) == 1
    if b'"eventIds"' in plain.body and b'"id":"t-' not in asked.body:  # threats without ids get a new one each time
        assert plain.comparable[:1] == long.comparable[:1]
    else:
        assert plain.comparable == long.comparable
    assert len(plain.headers[b"x-request-id"]) == len("0" * 32)


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("GET /api/agents/{id}/heartbeat HTTP/1.1", b""),
        ("POST /api/agents/{id}/heartbeat HTTP/1.0", b"Connection: keep-alive\r\n"),
        ("POST /api/agents/{id}/heartbeat?x=1 HTTP/1.1", b""),
        ("POST /api/agents/%61g/heartbeat HTTP/1.1", b""),
        ("POST /api/agents/{id}/heartbeat/ HTTP/1.1", b""),
        ("POST /api/agents/{id}/heartbeat HTTP/1.1", b"Connection: close\r\n"),
        ("POST /api/agents/{id}/heartbeat HTTP/1.1", b"Origin: https://dashboard.example\r\n"),
        ("POST /api/agents/{id}/heartbeat HTTP/1.1", b"Expect: 100-continue\r\n"),
    ],
)
def test_what_is_not_plain_goes_the_long_way(
    served: Served, agent: HttpAgent, fast: list[str], line: str, headers: bytes
) -> None:
    """Anything that asks for more than an answer is the application's."""
    head = f"{line.format(id=agent.agent_id)}\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    with connected(served) as connection:
        token = f"Authorization: Bearer {agent.told['token']}\r\n"
        connection.send(head.encode() + token.encode() + headers + b"\r\n{}")
        assert connection.answer().status in {100, 200, 400, 403, 404, 405}
    assert fast == []


def test_a_large_report_goes_the_long_way(agent: HttpAgent, fast: list[str]) -> None:
    """A body in several pieces goes through the application, and is stored like any other."""
    threat = {"type": "x", "confidence": 1, "evidence": {"note": "n" * BODY_LIMIT}}
    assert agent.events({"id": "large", "threat": threat}).status_code == 201
    assert fast == []


def test_answers_come_in_the_order_of_requests(served: Served, agent: HttpAgent, fast: list[str]) -> None:
    """Requests of both ways that come in one piece are answered one after the other."""
    path, token = f"/api/agents/{agent.agent_id}/heartbeat", agent.told["token"]
    requests = [
        _post(path, token, b'{"cpu":1}'),
        _post(path, token, b'{"cpu":2}', _DETOUR),
        _post(path, token, b'{"cpu":3}'),
        _post(path, token, b'{"cpu":4}'),
    ]
    with connected(served) as connection:
        connection.send(b"".join(requests))
        cpus = [connection.answer().body.partition(b'"cpu":')[2][:1] for _ in requests]
        assert cpus == [b"1", b"2", b"3", b"4"]
        connection.send(_post(path, token, b"{}"))
        assert connection.answer().status == 200
    assert fast


def test_a_request_in_pieces_is_one_request(served: Served, agent: HttpAgent, fast: list[str]) -> None:
    """Split at any byte, it is served once."""
    request = _post(f"/api/agents/{agent.agent_id}/events", agent.told["token"], _event(7))
    with connected(served) as connection:
        for start in range(0, len(request), 40):
            connection.send(request[start : start + 40])
        assert connection.answer().status == 201
    assert fast == [agent.agent_id]


def test_a_client_that_left_is_not_answered(served: Served, agent: HttpAgent, fast: list[str]) -> None:
    """Its report is stored all the same; the next client is served."""
    with served.bench() as bench:  # the engine waits
        with connected(served) as connection:
            connection.send(_post(f"/api/agents/{agent.agent_id}/events", agent.told["token"], _event(8)))
            eventually(lambda: len(bench.engine.inbox) == 1, what="a report that waits")
        connected_now = served.server._server.server_state.connections
        eventually(lambda: len(connected_now) <= 1, what="the client is gone")
    with served.client() as admin:
        eventually(lambda: [row["id"] for row in admin.get("/api/threats").json()["data"]] == ["t-8"], what="t-8")
    assert agent.heartbeat().status_code == 200
    assert fast


def test_what_the_engine_does_not_answer_in_time_is_503(tmp_path: Any, fast: list[str]) -> None:
    """Its late answer disturbs nobody: the connection goes on with the next request."""
    with Served(tmp_path, reply_timeout=0.2, client_addresses=LOOPBACK, rate_limit=0) as served:
        agent = served.join()
        path, token = f"/api/agents/{agent.agent_id}/events", agent.told["token"]
        with connected(served) as connection:
            with served.bench():
                connection.send(_post(path, token, _event(9)))
                late = connection.answer()
            assert (late.status, late.headers[b"retry-after"]) == (503, b"5")
            connection.send(_post(path, token, _event(9)))
            assert connection.answer().status == 201
        agent.client.close()
    assert len(fast) == 2


def test_a_failure_is_500_and_named_in_the_log(
    served: Served, agent: HttpAgent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer has nothing of the reason; the log has it under the request's id."""
    monkeypatch.setattr(Engine, "_handle_command", _answer_with_nonsense)
    with connected(served) as connection:
        connection.send(_post(f"/api/agents/{agent.agent_id}/heartbeat", agent.told["token"], b"{}"))
        answer = connection.answer()
    request_id = answer.headers[b"x-request-id"].decode()
    assert answer.status == 500
    assert request_id in answer.body.decode()
    assert "nonsense" not in answer.body.decode()
    assert request_id in capsys.readouterr().out


def _answer_with_nonsense(_engine: Engine, _desk: Any, item: Any) -> None:
    item.reply("nonsense", None)


def test_a_stopping_server_answers_and_hangs_up(served: Served, agent: HttpAgent, fast: list[str]) -> None:
    """A request under way is answered, and its connection ends."""
    with connected(served) as connection:
        with served.bench() as bench:
            connection.send(_post(f"/api/agents/{agent.agent_id}/heartbeat", agent.told["token"], b"{}"))
            eventually(lambda: len(bench.engine.inbox) == 1, what="a heartbeat that waits")
            served.server._server.should_exit = True
            listening = served.server._server.servers
            eventually(lambda: not any(server.is_serving() for server in listening), what="the end of listening")
        assert connection.answer().status == 200
        assert connection.ended()
    assert fast
