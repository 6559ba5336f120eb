"""Requests that are not answered yet when a door closes, because its manager stops, takes the lead or hands it over."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from manager.api.serving.server import ApiServer
from manager.data_directory import DataDirectory
from manager.engine.commands.access_requests import RecordOperatorAddress
from manager.runtime.transport_security import Transport
from manager.runtime.wiring import Manager
from manager.settings import Settings
from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.integration.api.test_forwarding import LeadingApp, StandingBy
from tests.support.waiting import eventually

DOCUMENT = {"thresholds": {"autoRespond": 70}}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


def test_commands_that_the_engine_has_not_taken_are_refused_and_never_carried_out(served: Served) -> None:
    """A person's and an agent's: 503 with Retry-After, at once and not after the grace; it was 500, or no answer."""
    agent = served.join("srv-01")
    answers: dict[str, httpx2.Response] = {}
    with agent.client, served.client() as client:
        requests: dict[str, Callable[[], httpx2.Response]] = {
            "policy": lambda: client.put("/api/policies/global", json=DOCUMENT),
            "heartbeat": agent.heartbeat,
        }
        with served.bench() as bench:
            threads = [_asking(answers, name, ask) for name, ask in requests.items()]
            eventually(lambda: len(served._engine._waiting) == len(requests), what="both wait for the engine")
            served.server.stop()
            for thread in threads:
                thread.join()
            bench.engine.step(bench.now)
            assert bench.fleet.policies.documents == {}
    assert {name: answer.status_code for name, answer in answers.items()} == {"policy": 503, "heartbeat": 503}
    for answer in answers.values():
        assert "hands the lead over, and nothing was changed" in answer.json()["error"]
        assert answer.headers["retry-after"] == "2"


def test_the_wired_manager_refuses_what_its_engine_has_not_taken(tmp_path: Path) -> None:
    """Its door closes after the last step of its engine, as at a hand-over."""
    settings = Settings(data_dir=tmp_path / "data", port=0, broker="mqtt://127.0.0.1:1")
    answers: dict[str, httpx2.Response] = {}
    with DataDirectory(settings.data_dir) as directory, ExitStack() as stack:
        manager = Manager(settings, Transport.plan(settings), directory, stack)
        stack.callback(manager.mqtt_door.close)
        manager.http.start()
        headers = {"Authorization": f"Bearer {directory.admin_token()}"}
        with httpx2.Client(base_url=manager.http.url, headers=headers, trust_env=False, timeout=60) as client:
            thread = _asking(answers, "policy", lambda: client.put("/api/policies/global", json=DOCUMENT))
            eventually(lambda: manager.engine.inbox.has_commands, what="the command waits for the engine")
            manager.http.stop()
            thread.join()
        left = [each.request for each in manager.engine.inbox.take_commands()]
        assert all(isinstance(each, RecordOperatorAddress) for each in left)  # for which nobody waits
    assert answers["policy"].status_code == 503
    assert "nothing was changed" in answers["policy"].json()["error"]


def _asking(answers: dict[str, httpx2.Response], name: str, ask: Callable[[], httpx2.Response]) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.update({name: ask()}))
    thread.start()
    return thread


def test_a_request_whose_body_does_not_come_is_answered_by_a_leader_that_closes(served: Served) -> None:
    """The server cancels it after its grace: 503 with Retry-After; it was 500."""
    _ends_with_503(served.server, served.url)


def test_a_request_whose_body_does_not_come_is_answered_by_a_standby_that_closes() -> None:
    """As by a leader."""
    standing_by = StandingBy(LeadingApp())
    try:
        _ends_with_503(standing_by.server, standing_by.server.url)
    finally:
        standing_by.stop()


def _ends_with_503(server: ApiServer, url: str) -> None:
    head = (
        "PUT /api/policies/global HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        f"Authorization: Bearer {ADMIN_TOKEN}\r\nExpect: 100-continue\r\n\r\n"
    )
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), 60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # the application waits for the body
        server.stop()
        answer = b""
        while more := connection.recv(1000):
            answer += more
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 2\r\n" in answer.lower()
    assert b"whether it took this request is not known" in answer
