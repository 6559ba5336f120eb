"""Known heads: a request that begins like an earlier one is answered alike, without the parser."""

from collections.abc import Iterator
from typing import Any

import httptools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.api.agents.known_heads import BODY_LIMIT, HEAD_LIMIT, HEADS_OF_AGENT, KnownHeads
from manager.api.serving.http_connection import HttpConnection
from tests.integration.api.served import LOOPBACK, HttpAgent, Served
from tests.integration.api.test_fast_lane import connected
from tests.support.examples import examples
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


def test_a_head_is_known_on_every_connection(served: Served, agent: HttpAgent, parsed: list[bytes]) -> None:
    """A proxy sends the requests of many agents over a few connections."""
    for _ in range(3):
        with connected(served) as connection:
            connection.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.answer().status == 200
            connection.send(_request(agent, "heartbeat", b"{}"))
            assert connection.answer().status == 200
    assert parsed.count(f"/api/agents/{agent.agent_id}/heartbeat".encode()) == 1


def test_a_head_whose_token_is_refused_is_not_kept(served: Served, agent: HttpAgent, parsed: list[bytes]) -> None:
    """Strangers fill no memory with heads."""
    stranger = _request(agent, "heartbeat", b"{}").replace(agent.told["token"].encode(), b"0" * 64)
    with connected(served) as connection:
        for _ in range(3):
            connection.send(stranger)
            assert connection.answer().status == 401
    assert len(parsed) == 3


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
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def _kept(data: bytes) -> KnownHeads[str]:
    heads: KnownHeads[str] = KnownHeads()
    heads.keep(data, "a", "the head")
    return heads


@given(
    start=st.integers(0, len(_HEAD)),
    stop=st.integers(0, 6),
    inserted=st.sampled_from([b"", b"0", b"1", b"12", b"\r\n", b" ", b"+", b"-", b"_", b"\x00", b"9" * 6, b"\xb2"]),
    body=st.sampled_from([b"", b"{}", b"{}{}", b"{ }", b"x" * 12, b"{}\r\n\r\n"]),
)
def test_a_match_is_what_the_parser_finds(start: int, stop: int, inserted: bytes, body: bytes) -> None:
    """Where a changed request still matches the kept head, the parser finds one request with that head and body."""
    data = _HEAD[:start] + inserted + _HEAD[start + stop :] + body
    found = _kept(_HEAD + b"{}").find(data)
    if found is not None:
        parsed, first = _Parsed(data), _Parsed(_HEAD + b"{}")
        assert (parsed.complete, parsed.urls, parsed.body) == (1, first.urls, found[1])
        assert [each for each in parsed.headers if each[0] != b"content-length"] == [
            each for each in first.headers if each[0] != b"content-length"
        ]


@given(index=st.integers(0, len(_HEAD) - 1), byte=st.integers(0, 255))
def test_another_byte_in_the_head_is_another_head(index: int, byte: int) -> None:
    """A head with one byte changed does not match."""
    changed = _HEAD[:index] + bytes([byte]) + _HEAD[index + 1 :]
    assert (_kept(_HEAD + b"{}").find(changed + b"{}") is None) == (changed != _HEAD)


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length"])
@pytest.mark.parametrize("body", [b"{}", b"", b"12345"])
def test_a_body_of_another_length_matches(body: bytes, name: bytes) -> None:
    """Only the content length may differ."""
    head = _HEAD.replace(b"X: Content-Length: 3\r\n", b"").replace(b"Content-Length", name)
    assert _kept(head + b"{}").find(head.replace(b"th: 2", b"th: %d" % len(body)) + body) == ("the head", body)


def test_a_length_in_another_headers_value_keeps_nothing() -> None:
    """The digits that may differ are those of the content length, which the parser read."""
    data = _HEAD.replace(b"Host: x", b"Host: x\r\nY: Content-Length: 2") + b"{}"
    assert _kept(data).find(data) is None


def test_a_long_body_or_head_is_the_parsers() -> None:
    """What the fast lane does not take does not match; what is too large to keep is not kept."""
    heads = _kept(_HEAD + b"{}")
    body = b"x" * (BODY_LIMIT + 1)
    assert heads.find(_HEAD.replace(b"th: 2", b"th: %d" % len(body)) + body) is None
    long = _HEAD[:-2] + b"Y: %b\r\n\r\n{}" % (b"y" * HEAD_LIMIT)
    assert _kept(long).find(long) is None


def test_the_heads_of_the_agent_known_longest_go() -> None:
    """The number of kept heads has a bound."""
    heads: KnownHeads[int] = KnownHeads(most=3)
    sent = [_HEAD.replace(b"agents/a", b"agents/%d" % number) + b"{}" for number in range(4)]
    for number, data in enumerate(sent):
        heads.keep(data, str(number // 2), number)
    assert [heads.find(data) for data in sent] == [None, None, (2, b"{}"), (3, b"{}")]


def test_an_agent_that_varies_its_heads_displaces_no_others() -> None:
    """Of one agent the last few heads are kept, those of others and what was made of them stay."""
    heads: KnownHeads[int] = KnownHeads(most=2 * HEADS_OF_AGENT)
    sent = [_HEAD.replace(b"X: C", b"X: %d C" % number) + b"{}" for number in range(20)]
    heads.keep(_HEAD + b"{}", "quiet", -1)
    for number, data in enumerate(sent):
        heads.keep(data, "loud", number)
        heads.keep(data, "loud", number)
    assert heads.find(_HEAD + b"{}") == (-1, b"{}")
    known = [number for number, data in enumerate(sent) if heads.find(data) is not None]
    assert known == list(range(20 - HEADS_OF_AGENT, 20))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=60), st.integers(1, 9))
def test_heads_have_a_bound_in_all_and_for_each_agent(kept: list[tuple[int, int]], most: int) -> None:
    """In any order of arrival the head that came last is known, and no more heads than the bounds."""
    heads: KnownHeads[tuple[int, int]] = KnownHeads(most=most)
    every = {
        (agent, number): _HEAD.replace(b"X: C", b"X: %d %d C" % (agent, number)) + b"{}"
        for agent in range(4)
        for number in range(10)
    }
    for agent, number in kept:
        heads.keep(every[agent, number], str(agent), (agent, number))
        known = [each for each, data in every.items() if heads.find(data) is not None]
        assert (agent, number) in known
        assert len(known) <= most
        assert all(sum(each[0] == one for each in known) <= HEADS_OF_AGENT for one in range(4))
