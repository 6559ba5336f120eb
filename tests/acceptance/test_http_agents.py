"""Agents that speak HTTP, against a real manager: the shipped client's exact requests, a crash, a held store."""

import contextlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.migrated_store import held_store
from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/api/test_http_agents.py"),
    pytest.mark.usefixtures("each_deployment"),
]


class HttpManager:
    """A manager that lets loopback in without a token, on ports that stay."""

    def __init__(self, home: Path) -> None:
        self._process = ManagerProcess(home, environment={"PANGUARD_TRUSTED_NETWORKS": "127.0.0.1/32"})
        self.data = self._process.data
        self.url = self._process.http

    def start(self) -> None:
        self._process.start()

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        assert self._process.stop() == 0

    def send(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """Send a request as the simplest client would; return status and JSON."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", content, headers, method=method)  # noqa: S310 -- our own
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- the same
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())

    def admin(self, path: str) -> Any:
        """Return the data of an admin's GET."""
        status, answer = self.send("GET", path, token=(self.data / "admin.token").read_text().strip())
        assert status == 200, answer
        return answer["data"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[HttpManager]:
    manager = HttpManager(tmp_path)
    manager.start()
    yield manager
    manager.stop()


def _register(manager: HttpManager, hostname: str) -> tuple[str, str]:
    body = {"hostname": hostname, "os": "linux 6.1", "arch": "x64", "version": "1.4.2"}
    status, told = manager.send("POST", "/api/agents/register", body)
    assert 200 <= status < 300, told
    return told["agentId"], told["token"]


def _event(number: int, source: str) -> dict[str, Any]:
    return {
        "event": {
            "id": f"evt-{number}", "timestamp": "2027-01-15T08:00:00.000Z", "source": "network", "severity": "high",
            "category": "brute_force", "description": "many failed logins", "raw": {"line": "…"}, "host": "srv",
            "metadata": {"sourceIP": source},
        },
        "verdict": {"conclusion": "malicious", "confidence": 92, "action": "block_ip"},
    }  # fmt: skip


def test_the_shipped_guard_client_works_unmodified(manager: HttpManager) -> None:
    """Register without a token, heartbeat, event and rules, exactly as it sends them; two agents make an incident."""
    agents = [_register(manager, name) for name in ("srv-01", "srv-02")]
    for agent_id, token in agents:
        heartbeat = {
            "eventsProcessed": 12, "threatsDetected": 1, "actionsExecuted": 1, "mode": "protection", "uptime": 61.5,
            "memoryUsageMB": 58.25,
        }  # fmt: skip
        assert manager.send("POST", f"/api/agents/{agent_id}/heartbeat", heartbeat, token)[0] == 200
        assert manager.send("POST", f"/api/agents/{agent_id}/events", _event(1, "203.0.113.9"), token)[0] == 201
        status, rules = manager.send("GET", "/api/rules/latest", None, token)
        assert (status, rules["rules"]) == (200, [])
    first, second = manager.admin("/api/threats")
    assert {first["hostname"], second["hostname"]} == {"srv-01", "srv-02"}
    assert first["threat"]["evidence"]["sourceIp"] == "203.0.113.9"
    eventually(  # one that stands by answers before the leader decides
        lambda: [incident["value"] for incident in manager.admin("/api/incidents")] == ["203.0.113.9"], what="incident"
    )
    eventually(lambda: manager.admin("/api/overview")["threatSummary"]["uniqueAttackers"] == 1, what="one attacker")
    assert manager.send("DELETE", f"/api/agents/{agents[0][0]}", None, agents[0][1])[0] == 200
    assert manager.admin(f"/api/agents/{agents[0][0]}")["status"] == "offline"


def test_curl_watches_the_fleet(manager: HttpManager) -> None:
    """`curl -N` on a running manager prints each event under its name as it happens, and resumes after the last."""
    with _curl(manager) as lines:
        assert _until(lines, "event: ") == "connected"
        agent_id, token = _register(manager, "srv-01")
        assert _until(lines, "event: ") == "agent_registered"
        assert manager.send("POST", f"/api/agents/{agent_id}/events", _event(1, "203.0.113.9"), token)[0] == 201
        assert _until(lines, "event: ") == "threats_reported"
        last = _until(lines, "id: ")
    _register(manager, "srv-02")
    with _curl(manager, "-H", f"Last-Event-ID: {last}") as lines:
        assert [_until(lines, "event: ") for _ in range(2)] == ["connected", "agent_registered"]


def test_a_stream_is_resumed_at_the_next_manager_after_sigkill(manager: HttpManager) -> None:
    """What was committed while nobody listened comes after the last event heard, once and in order."""
    with _curl(manager) as lines:
        assert _until(lines, "event: ") == "connected"
        _register(manager, "srv-01")
        assert _until(lines, "event: ") == "agent_registered"
        last = _until(lines, "id: ")
    _register(manager, "srv-02")
    _register(manager, "srv-03")
    manager.kill()
    manager.start()
    with _curl(manager, "-H", f"Last-Event-ID: {last}") as lines:
        assert _until(lines, "event: ") == "connected"
        assert json.loads(_until(lines, "data: "))["resumed"] is True
        _register(manager, "srv-04")
        hosts, ids = [], [int(last)]
        while "srv-04" not in hosts:
            name, data = _until(lines, "event: "), json.loads(_until(lines, "data: "))
            ids.append(int(_until(lines, "id: ")))
            hosts += [data["hostname"]] if name == "agent_registered" else []
    assert hosts == ["srv-02", "srv-03", "srv-04"]
    assert ids == [*range(ids[0], ids[0] + len(ids))]


@contextlib.contextmanager
def _curl(manager: HttpManager, *words: str) -> Iterator[Iterator[str]]:
    token = (manager.data / "admin.token").read_text().strip()
    command = ["curl", "-sN", "--max-time", "20", "-H", f"Authorization: Bearer {token}", *words]
    command.append(f"{manager.url}/api/events/stream")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:  # noqa: S603 -- our own words
        assert curl.stdout is not None
        try:
            yield iter(curl.stdout.readline, "")
        finally:
            curl.terminate()


def _until(lines: Iterator[str], begin: str) -> str:
    """Return the rest of the next line that begins so."""
    others = []
    for line in lines:
        if line.startswith(begin):
            return line.removeprefix(begin).strip()
        others.append(line)
    raise AssertionError(f"no line begins with {begin!r}, but there were {others}")


def test_what_was_answered_survives_sigkill(manager: HttpManager) -> None:
    """Killed right after the answer, the manager has agent and threat when it is back, and stores neither twice."""
    agent_id, token = _register(manager, "srv-01")
    path = f"/api/agents/{agent_id}/events"
    assert manager.send("POST", path, _event(7, "203.0.113.9"), token)[0] == 201
    manager.kill()
    manager.start()
    assert [threat["id"] for threat in manager.admin("/api/threats")] == ["evt-7"]
    assert manager.send("POST", path, _event(7, "203.0.113.9"), token)[0] == 201
    assert len(manager.admin("/api/threats")) == 1


def test_while_the_store_is_held_the_answer_is_503(manager: HttpManager) -> None:
    """Nothing is acknowledged that is not stored; when the store is free again, a retry stores it once."""
    agent_id, token = _register(manager, "srv-01")
    path = f"/api/agents/{agent_id}/events"
    with held_store(manager.data):
        status, answer = manager.send("POST", path, _event(1, "203.0.113.9"), token)
        assert (status, answer["ok"]) == (503, False)
        assert manager.admin("/api/threats") == []
    eventually(lambda: manager.send("POST", path, _event(1, "203.0.113.9"), token)[0] == 201, what="stored")
    assert len(manager.admin("/api/threats")) == 1
