"""The event stream as its readers see it: names, resumption, tickets, and readers that are too slow."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.api.events.event_stream import EventStream
from manager.engine.batch import Batch
from schemas import topics
from tests.integration.api.served import ADMIN_TOKEN, LOOPBACK, Served
from tests.support.waiting import eventually


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(
        tmp_path, client_addresses=LOOPBACK, rate_limit=0, stream=EventStream(ring_size=5, max_lag=5, max_of_token=300)
    ) as running:
        yield running


class Events:
    """Reads a stream as a browser's EventSource does: lines, fields, a blank line after each event."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._lines = answer.iter_lines()
        self.last_id = ""

    def next(self) -> tuple[str, Any]:
        """Return name and data of the next event."""
        name, data = "message", []
        for line in self._lines:
            if not line:
                if data:
                    return name, json.loads("\n".join(data))
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "id":
                self.last_id = value
        raise AssertionError("the stream ended")


@contextmanager
def _watching(client: httpx2.Client, last_id: str | None = None, **params: str) -> Iterator[Events]:
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    with client.stream("GET", "/api/events/stream", headers=headers, params=params, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield Events(answer)


def _say(served: Served, *texts: str) -> None:
    """Let the engine commit events, each with a text."""
    for text in texts:
        with served.bench() as bench:
            batch = Batch(bench.now)
            batch.event("incident_work", data={"text": text, "big": "x" * 10_000})
            bench.store.commit(batch.changes)
            for row in batch.changes.events:
                served.services.stream.publish(row)


def _hear(events: Events, count: int) -> list[str]:
    return [events.next()[1]["data"]["text"] for _ in range(count)]


def test_each_event_comes_under_its_own_name(served: Served, admin: httpx2.Client) -> None:
    """`connected` first; then what happens to agents, threats, incidents and policies, from both doors."""
    agent = served.enroll("srv-01")
    with _watching(admin) as events:
        assert events.next()[0] == "connected"
        over_http = served.join("srv-02")
        with over_http.client:
            names = [events.next()[0]]
            over_http.events({"threat": {"type": "x", "confidence": 90, "evidence": {"sourceIp": "198.51.100.7"}}})
            with served.bench() as bench:
                bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp="198.51.100.7"))
                bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
                for _ in range(12):
                    bench.pass_time(10)
            over_http.heartbeat()
            admin.post("/api/policy", json={"rules": []})
        wanted = {
            "agent_registered", "threats_reported", "incident_opened", "agent_offline", "agent_stale", "agent_online",
            "policy_created",
        }  # fmt: skip
        while not wanted <= set(names):
            names.append(events.next()[0])


def test_an_events_data_is_the_fleets_own(served: Served, admin: httpx2.Client) -> None:
    """The same object that watchers of the broker get."""
    with _watching(admin) as events:
        events.next()
        agent = served.join("srv-01")
        agent.client.close()
        name, data = events.next()
    assert (name, data["event"], data["agentId"]) == ("agent_registered", "agent_registered", agent.agent_id)
    assert data["hostname"] == "srv-01"


def test_a_client_that_resumes_misses_nothing_and_hears_nothing_twice(served: Served, admin: httpx2.Client) -> None:
    """Last-Event-ID resumes after that event from the event table, further back than the events in memory."""
    with _watching(admin) as events:
        events.next()
        _say(served, "a", "b")
        assert _hear(events, 2) == ["a", "b"]
        last = events.last_id
    _say(served, *"cdefghijkl")
    with _watching(admin, last) as events:
        name, data = events.next()
        assert (name, data["resumed"], data["missed"], data["dropped"]) == ("connected", True, 10, 0)
        assert events.last_id == last
        assert _hear(events, 10) == [*"cdefghijkl"]
        _say(served, "m")
        assert _hear(events, 1) == ["m"]
    with _watching(admin) as events:
        assert events.next()[1]["missed"] == 0
        _say(served, "n")
        assert _hear(events, 1) == ["n"]


@pytest.mark.parametrize("unknown", ["0000-1", "nonsense", "9" * 19, "9" * 40, "-1", "\u0662"])
def test_after_an_id_of_another_store_the_newest_events_follow(
    served: Served, admin: httpx2.Client, unknown: str
) -> None:
    """An id that this store has not given resumes nothing: the client gets as many events as memory holds."""
    _say(served, *"abcdefgh")
    with _watching(admin, lastEventId=unknown) as events:
        assert not events.next()[1]["resumed"]
        assert _hear(events, 5) == [*"defgh"]


def test_ids_are_good_after_a_restart(tmp_path: Path) -> None:
    """A client of a manager that was killed resumes at the next one: nothing missed, nothing twice."""
    with Served(tmp_path, client_addresses=LOOPBACK) as served, served.client() as admin:
        with _watching(admin) as events:
            events.next()
            _say(served, "a")
            assert _hear(events, 1) == ["a"]
            last = events.last_id
        _say(served, "b", "c")
    with Served(tmp_path, client_addresses=LOOPBACK) as served, served.client() as admin:
        _say(served, "d")
        with _watching(admin, last) as events:
            assert events.next()[1]["missed"] == 3
            assert _hear(events, 3) == ["b", "c", "d"]
            _say(served, "e")
            assert _hear(events, 1) == ["e"]


def test_a_client_is_told_how_many_events_it_can_no_longer_read(served: Served, admin: httpx2.Client) -> None:
    """What the bound of the event table has deleted since the client's last event is a number in `connected`."""
    _say(served, *"abcdef")
    with served.bench() as bench:
        bench.database.execute_sql("DELETE FROM event WHERE sequence <= 4")
    with _watching(admin, "1") as events:
        told = events.next()[1]
        assert (told["resumed"], told["dropped"], told["missed"]) == (True, 3, 2)
        assert _hear(events, 2) == ["e", "f"]


def test_a_ticket_opens_the_stream_once(served: Served, admin: httpx2.Client) -> None:
    """A browser gets one with the admin's token; it is good for one connection, and for nothing else."""
    answer = admin.post("/api/events/ticket")
    assert (answer.status_code, answer.json()["data"]["expiresIn"]) == (201, 30)
    ticket = answer.json()["data"]["ticket"]
    with served.client(None) as browser:
        assert browser.get("/api/agents", params={"ticket": ticket}).status_code == 401
        with _watching(browser, ticket=ticket) as events:
            assert events.next()[0] == "connected"
        assert browser.get("/api/events/stream", params={"ticket": ticket}).status_code == 401
        late = admin.post("/api/events/ticket").json()["data"]["ticket"]
        with served.bench() as bench:
            bench.elapsed += 30
        assert browser.get("/api/events/stream", params={"ticket": late}).status_code == 401


def test_the_stream_is_the_admins(served: Served) -> None:
    """The stream and its tickets are for the admin only: 401 without a token, 403 with an agent's."""
    agent = served.join()
    with agent.client, served.client(None) as anybody:
        assert anybody.get("/api/events/stream").status_code == 401
        assert agent.client.get("/api/events/stream").status_code == 403
        assert anybody.post("/api/events/ticket").status_code == 401
        assert agent.client.post("/api/events/ticket").status_code == 403


def test_silence_is_broken_by_a_comment(tmp_path: Path) -> None:
    """So that nothing on the way takes the connection for dead; readers ignore it."""
    with (
        Served(tmp_path, stream=EventStream(keepalive=0.05)) as served,
        served.client() as admin,
        admin.stream("GET", "/api/events/stream", timeout=60) as answer,
    ):
        assert next(line for line in answer.iter_lines() if line.startswith(":")) == ": keepalive"


def test_slow_readers_are_dropped_and_hold_up_nobody(served: Served, admin: httpx2.Client) -> None:
    """200 readers that do not read: others hear everything, the engine goes on, and the slow ones are let go."""
    stream = served.services.stream
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(_silent_reader(served))
        eventually(lambda: len(stream) == 200, what="all of them watch")
        with _watching(admin) as events:
            events.next()
            for number in range(2000):
                _say(served, "loud")
                if number % 4 == 3:  # the others must be slow, and this one not
                    for _ in range(4):
                        events.next()
                if stream.dropped == 200:
                    break
            assert (stream.dropped, len(stream)) == (200, 1)
            assert served.join().agent_id


@contextmanager
def _silent_reader(served: Served) -> Iterator[None]:
    """A client with a small receive buffer that asks for the stream and never reads."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", served.server.port))
        request = f"GET /api/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
        connection.sendall(request.encode())
        yield


def test_the_streams_of_one_token_leave_room_for_others(tmp_path: Path) -> None:
    """Beyond its maximum a token gets 503 with the reason; another one gets in, and the first again once one closed."""
    stream = EventStream(max_of_token=2)
    assert EventStream().max_of_token == 50
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0, stream=stream) as served, served.client() as admin:
        wanted = {"name": "wall", "role": "viewer"}
        token = admin.post("/api/access", json=wanted).json()["data"]["token"]
        with served.client(token) as viewer:
            ticket = viewer.post("/api/events/ticket").json()["data"]["ticket"]
            with _watching(viewer), served.client(None) as browser:
                with _watching(browser, ticket=ticket):
                    with viewer.stream("GET", "/api/events/stream") as refused:
                        assert (refused.status_code, refused.headers.get("Retry-After")) == (503, "5")
                        assert "this token has 2 event streams open" in json.loads(refused.read())["error"]
                    with _watching(admin) as events:
                        assert events.next()[0] == "connected"
                eventually(lambda: len(stream) == 1, what="the closed streams have ended")
                with _watching(viewer) as events:
                    assert events.next()[0] == "connected"


def test_the_server_stops_while_readers_watch(tmp_path: Path) -> None:
    """Their streams end, and nothing waits for them."""
    with Served(tmp_path) as served, served.client() as admin, _watching(admin) as events:
        events.next()
        served.server.stop()
        with pytest.raises(AssertionError, match="ended"):
            events.next()


def test_curl_shows_names_as_they_come(served: Served) -> None:
    """`curl -N` prints each event with its `event:` line."""
    command = ["curl", "-sN", "-H", f"Authorization: Bearer {ADMIN_TOKEN}", f"{served.url}/api/events/stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:  # noqa: S603 -- our own words
        assert curl.stdout is not None
        try:
            lines = iter(curl.stdout.readline, "")
            assert next(line for line in lines if line.startswith("event:")) == "event: connected\n"
            _say(served, "x")
            assert next(line for line in lines if line.startswith("event:")) == "event: incident_work\n"
        finally:
            curl.terminate()
