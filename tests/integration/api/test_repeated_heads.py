"""Repeated heads: a request that begins like the last one is answered alike, without the parser."""

from collections.abc import Iterator
from typing import Any

import httptools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.api.agents.fast_lane import BODY_LIMIT, ConnectionHandle, FastRequest, RequestHead
from manager.api.agents.hot_routes import HeartbeatRoute
from manager.api.serving.http_connection import HttpConnection
from manager.api.serving.repeated_head import HEAD_LIMIT, RepeatedHead
from tests.integration.api.served import LOOPBACK, HttpAgent, Served
from tests.integration.api.test_fast_lane import connected
from tests.support.waiting import eventually


@pytest.fixture
def served(tmp_path: Any) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The URLs of the requests that the parser read."""
    seen: list[bytes] = []
    read = HttpConnection.on_url

    def watched(connection: HttpConnection, url: bytes) -> None:
        seen.append(url)
        read(connection, url)

    monkeypatch.setattr(HttpConnection, "on_url", watched)
    return seen


def _request(agent: HttpAgent, word: str, body: bytes, *more: bytes) -> bytes:
    head = (
        f"POST /api/agents/{agent.agent_id}/{word} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {agent.told['token']}"
        f"\r\nContent-Type: application/json\r\n"
    )
    return head.encode() + b"".join(more) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def test_the_parser_reads_a_head_once(served: Served, agent: HttpAgent, parsed: list[bytes]) -> None:
    """Heartbeats and events in turn, of several lengths, are all answered; each head is parsed at its first coming."""
    beats = [b'{"cpu":%d}' % number for number in (1, 10, 100)]
    with connected(served) as connection:
        for beat in beats:
            connection.send(_request(agent, "heartbeat", beat))
            assert b'"cpu":%b' % beat[7:-1] in connection.answer().body
            connection.send(_request(agent, "events", b'{"events":[]}'))
            assert connection.answer().status == 201
    assert [url.rpartition(b"/")[2] for url in parsed] == [b"heartbeat", b"events"]


def test_a_revoked_token_is_refused_under_a_known_head(served: Served, agent: HttpAgent, parsed: list[bytes]) -> None:
    """Each request is admitted anew: the answer after the agent's removal is 401."""
    with connected(served) as connection, served.client() as admin:
        connection.send(_request(agent, "heartbeat", b"{}"))
        assert connection.answer().status == 200
        assert admin.delete(f"/api/agents/{agent.agent_id}?purge=true").status_code == 200
        parsed.clear()
        connection.send(_request(agent, "heartbeat", b"{}"))
        assert connection.answer().status == 401
    assert parsed == []


def test_an_idle_connection_is_closed(served: Served, agent: HttpAgent) -> None:
    """A connection that the fast lane answered last ends after the keep-alive timeout."""
    served.server._server.config.timeout_keep_alive = 0
    with connected(served) as connection:
        connection.send(_request(agent, "heartbeat", b"{}"))
        assert connection.answer().status == 200
        assert connection.ended()
    eventually(lambda: not served.server._server.server_state.connections, what="the end of the connection")


_SENT = st.tuples(
    st.sampled_from(["heartbeat", "events"]),
    st.sampled_from([b"{}", b'{"cpu":12}', b"", b"[]", b"{", b'{"events":[]}']),
    st.sampled_from([(), (b"X-Request-Id: mine\r\n",)]),
    st.sampled_from([None, 1, 30, -1]),
)


@given(sent=st.lists(_SENT, min_size=1, max_size=4), waits=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_known_and_unknown_heads_give_the_same_answers(
    served: Served, agent: HttpAgent, sent: list[Any], waits: bool
) -> None:
    """Any sequence of requests, in pieces or not, is answered as on a connection whose heads are never kept."""
    data = [(_request(agent, word, body, *more), cut) for word, body, more, cut in sent]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(HttpConnection, "_keep_head", lambda _connection, _data: None)
        parsed = _answers(served, agent, data, waits=waits)
    assert _answers(served, agent, data, waits=waits) == parsed


def _answers(served: Served, agent: HttpAgent, data: list[tuple[bytes, int | None]], *, waits: bool) -> list[Any]:
    """Send requests after a plain one of each kind, each in one or two pieces; return the answers to all."""
    found = []
    with connected(served) as connection:
        for word in ("heartbeat", "events"):
            connection.send(_request(agent, word, b'{"cpu":0,"events":[]}'))
            found.append(connection.answer().comparable)
        for request, cut in data:
            connection.send(request[:cut])
            if cut is not None:
                connection.send(request[cut:])
            if waits:
                found.append(connection.answer().comparable)
        if not waits:
            found += [connection.answer().comparable for _ in data]
    return found


class _Parsed:
    """The requests that the real parser finds."""

    def __init__(self, data: bytes) -> None:
        self.urls: list[bytes] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = 0
        self.rest = 0
        httptools.HttpRequestParser(self).feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.urls.append(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


_HEAD = (
    b"POST /api/agents/a/heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nAuthorization: Bearer t\r\n"
    b"X: Content-Length: 3\r\n\r\n"
)


def _kept(data: bytes) -> RepeatedHead | None:
    handle = ConnectionHandle(None, secure=False, write=lambda *_: None, server_headers=tuple)
    head = RequestHead(None, HeartbeatRoute(), "/api/agents/a/heartbeat", "a", {}, None, handle)  # type: ignore[arg-type]
    return RepeatedHead.of(data, FastRequest(head))


@given(
    start=st.integers(0, len(_HEAD)),
    stop=st.integers(0, 6),
    inserted=st.sampled_from([b"", b"0", b"1", b"12", b"\r\n", b" ", b"+", b"-", b"_", b"\x00", b"9" * 6, b"\xb2"]),
    body=st.sampled_from([b"", b"{}", b"{}{}", b"{ }", b"x" * 12, b"{}\r\n\r\n"]),
)
def test_a_match_is_what_the_parser_finds(start: int, stop: int, inserted: bytes, body: bytes) -> None:
    """Where a changed request still matches the kept head, the parser finds one request with that head and body."""
    head = _kept(_HEAD + b"{}")
    assert head is not None
    data = _HEAD[:start] + inserted + _HEAD[start + stop :] + body
    request = head.match(data)
    if request is not None:
        parsed, first = _Parsed(data), _Parsed(_HEAD + b"{}")
        assert (parsed.complete, parsed.urls, parsed.body) == (1, first.urls, request.body)
        assert [each for each in parsed.headers if each[0] != b"content-length"] == [
            each for each in first.headers if each[0] != b"content-length"
        ]
        assert request.more_body is False


@given(index=st.integers(0, len(_HEAD) - 1), byte=st.integers(0, 255))
def test_another_byte_in_the_head_is_another_head(index: int, byte: int) -> None:
    """A head with one byte changed does not match."""
    head = _kept(_HEAD + b"{}")
    assert head is not None
    changed = _HEAD[:index] + bytes([byte]) + _HEAD[index + 1 :]
    assert (head.match(changed + b"{}") is None) == (changed != _HEAD)


@pytest.mark.parametrize("body", [b"{}", b"", b"12345"])
def test_a_body_of_another_length_matches(body: bytes) -> None:
    """Only the content length may differ."""
    head = _kept(_HEAD + b"{}")
    assert head is not None
    request = head.match(_HEAD.replace(b"th: 2", b"th: %d" % len(body)) + body)
    assert request is not None
    assert request.body == body


def test_a_long_body_or_head_is_the_parsers() -> None:
    """What the fast lane does not take does not match; what is too large to keep is not kept."""
    head = _kept(_HEAD + b"{}")
    assert head is not None
    body = b"x" * (BODY_LIMIT + 1)
    assert head.match(_HEAD.replace(b"th: 2", b"th: %d" % len(body)) + body) is None
    assert _kept(_HEAD[:-2] + b"Y: %b\r\n\r\n{}" % (b"y" * HEAD_LIMIT)) is None
