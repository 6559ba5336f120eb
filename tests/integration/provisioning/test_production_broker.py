"""The shipped broker.conf over TLS: MQTT and WebSocket by the manager's own authority, and its limits."""

import queue
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from manager.tls.client_context import client_context
from manager.tls.directory import AUTHORITY, TlsDirectory
from schemas import topics
from tests.support.engine import Bench
from tests.support.mqtt_client import MqttClient
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.simulated import SimulatedAgent
from tests.support.waiting import eventually

pytestmark = pytest.mark.mosquitto
MIB = 1024 * 1024


@dataclass
class Secured:
    """A Mosquitto that speaks TLS alone, and one agent that it knows."""

    broker: ProductionMosquitto
    agent: SimulatedAgent

    def connect(
        self,
        transport: Literal["tcp", "websockets"],
        client_id: str,
        login: tuple[str, str] | None = None,
        **how: Any,
    ) -> tuple[Client, "queue.Queue[Any]"]:
        """Return a connected client, the agent's unless another login is given, and what it hears."""
        arrived: queue.Queue[Any] = queue.Queue()
        client = MqttClient(
            CallbackAPIVersion.VERSION2, client_id, transport=transport, reconnect_on_failure=False, **how
        )
        client.username_pw_set(*(login or (self.agent.agent_id, self.agent.keys.mqtt_password)))
        client.tls_set_context(client_context(TlsDirectory(self.broker.data).certificate(AUTHORITY), None))
        client.on_connect = lambda _client, _data, _flags, code, _properties: arrived.put(code.value)
        client.on_subscribe = lambda _client, _data, _mid, codes, _properties: arrived.put(codes[0].value)
        client.on_message = lambda _client, _data, message: arrived.put(message)
        client.connect("localhost", self.broker.port if transport == "tcp" else self.broker.websocket_port)
        client.loop_start()
        return client, arrived


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("secured")
    data = home / "manager"
    data.mkdir()
    (data / "manager.key").touch(0o600)
    (data / "manager.key").write_text(bytes(32).hex())  # the bench's own
    TlsDirectory(data).init((), datetime.now(UTC))
    bench = Bench(data)
    agent = bench.enroll("srv-01")
    bench.database.close()
    with ProductionMosquitto(data, home / "broker") as broker:
        eventually(lambda: _listens(broker.websocket_port), what="the listener that is opened last")
        yield Secured(broker, agent)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _close(*clients: Client) -> None:
    for client in clients:
        client.disconnect()
        client.loop_stop()


def test_mqtt_over_websocket_over_tls(secured: Secured) -> None:
    """A real client enters by WebSocket with the agent's login, speaks, and hears what the manager says by MQTT."""
    agent, heard = secured.connect("websockets", "by-websocket")
    manager, told = secured.connect("tcp", "the-manager", secured.broker.credential("manager"))
    policy, presence = topics.POLICY.address(secured.agent.agent_id), topics.PRESENCE.address(secured.agent.agent_id)
    try:
        assert (heard.get(timeout=60), told.get(timeout=60)) == (0, 0)
        agent.subscribe(policy, 1)
        manager.subscribe(topics.PRESENCE.filter, 1)
        assert (heard.get(timeout=60), told.get(timeout=60)) == (1, 1)
        manager.publish(policy, "a policy", 1)
        agent.publish(presence, "a birth", 1)
        assert (heard.get(timeout=60).payload, told.get(timeout=60).payload) == (b"a policy", b"a birth")
        agent.subscribe("#", 1)
        assert heard.get(timeout=60) >= 128
    finally:
        _close(agent, manager)


@pytest.mark.parametrize("transport", ["tcp", "websockets"])
def test_nothing_is_spoken_in_plain_text(secured: Secured, transport: str) -> None:
    """At both ports the broker answers a client that does not begin with TLS by no word of MQTT or HTTP."""
    port = secured.broker.port if transport == "tcp" else secured.broker.websocket_port
    hello = (
        b"\x10\x12\x00\x04MQTT\x04\x02\x00\x1e\x00\x06client" if transport == "tcp" else b"GET /mqtt HTTP/1.1\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.sendall(hello)
        try:
            answer = plain.recv(64)
        except ConnectionResetError:
            answer = b""
    assert answer[:1] in (b"", b"\x15"), answer  # the end, or an alert of TLS


@pytest.mark.parametrize("transport", ["tcp", "websockets"])
def test_nobody_enters_with_old_tls(secured: Secured, transport: str) -> None:
    """Less than TLS 1.2 is refused at both ports."""
    port = secured.broker.port if transport == "tcp" else secured.broker.websocket_port
    context = ssl.create_default_context(cafile=TlsDirectory(secured.broker.data).certificate(AUTHORITY))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port), 10) as plain, pytest.raises(OSError):  # noqa: PT011 -- any end
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_packet_over_the_limit_ends_its_sender(secured: Secured) -> None:
    """The largest message of the contract passes; what is beyond it is not even read."""
    agent, heard = secured.connect("tcp", "too-large")
    try:
        assert heard.get(timeout=60) == 0
        agent.publish(
            topics.THREATS.address(secured.agent.agent_id), b"x" * topics.BLOCKLIST.limit, 1
        ).wait_for_publish(60)
        agent.publish(topics.THREATS.address(secured.agent.agent_id), b"x" * (3 * MIB), 1)
        eventually(lambda: not agent.is_connected(), what="the end of the sender")
    finally:
        _close(agent)


def test_a_queue_ends_by_bytes(secured: Secured) -> None:
    """For an agent that is away the broker keeps what fits into its limit, and then drops, whatever the count."""
    away, heard = secured.connect("tcp", "away", clean_session=False)
    policy = topics.POLICY.address(secured.agent.agent_id)
    assert heard.get(timeout=60) == 0
    away.subscribe(policy, 1)
    assert heard.get(timeout=60) == 1
    _close(away)
    manager, told = secured.connect("tcp", "the-manager", secured.broker.credential("manager"))
    assert told.get(timeout=60) == 0
    for number in range(40):
        manager.publish(policy, number.to_bytes(2, "big") * MIB, 1).wait_for_publish(60)
    _close(manager)
    back, heard = secured.connect("tcp", "away", clean_session=False)
    try:
        assert heard.get(timeout=60) == 0
        back.publish(topics.PRESENCE.address(secured.agent.agent_id), "here", 1).wait_for_publish(60)
        first = heard.get(timeout=60)
        eventually(lambda: heard.qsize() >= 6, what="what was kept")
        assert first.payload[:2] == b"\0\0"
        assert 1 + heard.qsize() < 12
    finally:
        _close(back)
