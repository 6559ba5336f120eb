"""One agent's login floods a real broker: the others are heard, and neither broker nor manager fills its memory."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from schemas import topics
from schemas.limits import MIB, THREAT_LIMIT
from tests.integration.broker.broker_clients import RawClient
from tests.support.enrolled import Sender, enroll
from tests.support.mqtt_client import MqttClient
from tests.support.processes import ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/unit/manager/engine/test_flood_control.py")

FLOOD = 400
OTHERS = 5
BROKER_MAY_GROW, MANAGER_MAY_GROW = 150 * MIB, 128 * MIB
BUDGET = {"PANGUARD_AGENT_BYTES": str(8 * MIB), "PANGUARD_AGENT_BURST": "2", "PANGUARD_SUSPENSION": "3"}


class Agent:
    """An enrolled agent that reports and keeps what it is told."""

    def __init__(self, port: int, sender: Sender) -> None:
        self.sender = sender
        self.told: dict[str, list[str]] = {"stored": [], "deferred": []}
        self._subscribed = threading.Event()
        self.client = MqttClient(CallbackAPIVersion.VERSION2, f"{sender.agent_id}-{'1' * 32}")
        self.client.username_pw_set(sender.agent_id, sender.password)
        self.client.on_connect = lambda client, *_: client.subscribe(topics.RECEIPTS.address(sender.agent_id), 1)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = lambda _client, _data, message: self._take(json.loads(message.payload))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._subscribed.wait(20)

    def _take(self, receipt: dict[str, list[object]]) -> None:
        self.told["stored"] += receipt.get("stored", [])  # type: ignore[arg-type]
        for deferral in receipt.get("deferred", []):
            self.told["deferred"] += deferral["ids"]  # type: ignore[index]

    def report(self, threat_id: str, size: int = 300) -> None:
        self.client.publish(topics.THREATS.address(self.sender.agent_id), self.sender.report(threat_id, size), 1)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def growth(*pids: int) -> Iterator[list[int]]:
    """Give by how many bytes each process has grown at most, looked at all the time."""
    processes = [psutil.Process(pid) for pid in pids]
    before = [process.memory_info().rss for process in processes]
    most, over = [0] * len(pids), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for place, process in enumerate(processes):
                most[place] = max(most[place], process.memory_info().rss - before[place])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def pour(port: int, sender: Sender) -> int:
    """Publish the flood over a bare socket, as fast as it takes it; return how many messages went before it was cut."""
    sent = 0
    with RawClient(port, 40) as client, suppress(OSError):
        assert client.connect(f"{sender.agent_id}-{'2' * 32}", username=sender.agent_id, password=sender.password) == 0
        drain = threading.Thread(target=_drain, args=(client.socket,))
        drain.start()
        for number in range(FLOOD):
            report = sender.report(f"flood-{number}", THREAT_LIMIT)
            client.publish(topics.THREATS.address(sender.agent_id), report, number + 1)
            sent += 1
        client.socket.shutdown(socket.SHUT_WR)
        drain.join()
    return sent


def _drain(sock: socket.socket) -> None:
    with suppress(OSError):
        while sock.recv(65536):
            pass


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("kind", ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def test_a_flood_of_large_reports_loses_nothing_of_others(kind: str, tmp_path: Path, stack: ExitStack) -> None:
    """All reports of the others are stored while 100 MiB come from one; what is over its budget is turned away."""
    senders = enroll(tmp_path / "manager", OTHERS + 1)
    url, broker_pid = "embedded", 0
    if kind == "mosquitto":
        mosquitto = stack.enter_context(ProductionMosquitto(tmp_path / "manager", tmp_path / "broker"))
        url, broker_pid = mosquitto.url, mosquitto.pid
    manager = stack.enter_context(ManagerProcess(tmp_path, url, BUDGET))
    assert manager.running is not None
    manager_pid = manager.running.process.pid
    broker_pid = broker_pid or psutil.Process(manager_pid).children()[0].pid
    port = int(urlsplit(manager.mqtt).port or 0)
    agents = [Agent(port, sender) for sender in senders]
    for agent in agents:
        stack.callback(agent.close)
    flooder, *others = agents
    reported = dict.fromkeys(range(OTHERS), 0)
    with growth(broker_pid, manager_pid) as grown:
        poured: list[int] = []
        flood = threading.Thread(target=lambda: poured.append(pour(port, flooder.sender)))
        flood.start()
        while flood.is_alive():
            for place, agent in enumerate(others):
                if len(agent.told["stored"]) == reported[place]:  # each waits for its receipt, as a person would
                    reported[place] += 1
                    agent.report(f"mine-{reported[place]}")
            flood.join(0.05)
        for place, agent in enumerate(others):
            eventually(lambda: len(agent.told["stored"]) == reported[place], what="all of the others' receipts")  # noqa: B023
    assert all(count > 0 for count in reported.values())
    assert all(agent.told["deferred"] == [] for agent in others)
    assert grown[0] < BROKER_MAY_GROW
    assert grown[1] < MANAGER_MAY_GROW
    stored = {
        agent.sender.agent_id: len(manager.get("/api/threats", agentId=agent.sender.agent_id, limit=200))
        for agent in others
    }
    assert stored == {agent.sender.agent_id: reported[place] for place, agent in enumerate(others)}
    if kind == "embedded" and poured == [FLOOD]:  # read no faster than its budget, it was never over it by much
        eventually(
            lambda: len(flooder.told["stored"] + flooder.told["deferred"]) >= FLOOD, what="a word on each report"
        )
        assert {*flooder.told["stored"], *flooder.told["deferred"]} == {f"flood-{number}" for number in range(FLOOD)}
        assert flooder.told["deferred"]
    else:
        assert poured[0] < FLOOD
        eventually(lambda: _figure(manager, "agents_suspended") >= 1, what="the suspension counted")
        assert _figure(manager, "messages_deferred") > 0
        eventually(flooder.client.is_connected, what="let in again when its time is over")


def _figure(manager: ManagerProcess, name: str) -> float:
    with manager.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if f'event="{name}"' in line), 0.0)
