"""The probe of a broker before the manager connects: a broker that is slow or gone is none that lacks something."""

import contextlib
import gc
import socket
import threading
from types import TracebackType
from typing import Self

import psutil
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.broker_probe import ProbeSettings, delivers_shared, find_obstacle
from manager.mqtt.rival_managers import RivalManagers
from schemas.model import utc
from schemas.presence import ManagerPresence
from schemas.topics import MANAGER_PRESENCE
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient
from tests.support.other_brokers import Nats
from tests.support.tcp_proxy import TcpProxy

QUICK = ProbeSettings(connect=0.3, grace=0.01, answer=0.05, wildcard=0.05, shared=0.05)
TOPIC = MANAGER_PRESENCE.address()
_CONNECT, _PUBLISH, _SUBSCRIBE, _UNSUBSCRIBE, _DISCONNECT = 1, 3, 8, 10, 14


class ForgetfulBroker:
    """Grants everything and delivers nothing, for so many packets of a connection; then it ends it, or is silent.

    Args:
        answers: the number of packets that it answers.
        ends: whether it ends the connection after them.
        code: that of the CONNACK.
    """

    def __init__(self, answers: int = 1000, *, ends: bool = False, code: int = 0) -> None:
        self._answers = answers
        self._ends = ends
        self._code = code
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client, client.makefile("rb") as packets:
                for _ in range(self._answers):
                    head, body = _packet(packets)
                    if head >> 4 == _DISCONNECT:
                        return
                    client.sendall(self._answer(head, body))
                if not self._ends:
                    self._done.wait(60)

    def _answer(self, head: int, body: bytes) -> bytes:
        if head >> 4 == _CONNECT:
            return bytes((0x20, 2, 0, self._code))
        if head >> 4 == _PUBLISH:
            begin = 2 + int.from_bytes(body[:2], "big")
            return b"\x40\x02" + body[begin : begin + 2]
        return {_SUBSCRIBE: b"\x90\x03%b\x01", _UNSUBSCRIBE: b"\xb0\x02%b"}[head >> 4] % body[:2]


def _packet(packets: object) -> tuple[int, bytes]:
    """Read a packet; return its first byte and what follows its length."""
    read = packets.read  # type: ignore[attr-defined]
    (head,) = read(1) or (0xE0,)
    length = shift = 0
    while True:
        (byte,) = read(1) or (0,)
        length += (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return head, read(length)


def _presence(state: str, **members: object) -> ManagerPresence:
    return ManagerPresence.model_validate({"state": state, "version": "1", "sent_at": utc(1.0), **members})


def rivals() -> RivalManagers:
    return RivalManagers(lambda state: _presence(state, store_id="store-a", instance="i1", since=utc(1.0)))


def shared(address: BrokerAddress, settings: ProbeSettings = QUICK) -> bool | None:
    return delivers_shared(address, "manager", None, None, group="group", settings=settings)


def obstacle(address: BrokerAddress) -> str | None:
    return find_obstacle(rivals(), address, "manager", None, None, cleared_filter="left/+", settings=QUICK)


@pytest.mark.parametrize("answers", range(5))
def test_a_broker_that_goes_away_during_the_probe_does_not_lack_shared_subscriptions(answers: int) -> None:
    """If it ends the connection, or says no more, the probe knows nothing: it raises, and the link tries again."""
    with ForgetfulBroker(answers, ends=True) as broker, pytest.raises(OSError, match="ended the connection"):
        shared(broker.address)
    with ForgetfulBroker(answers) as broker, pytest.raises(TimeoutError, match="does not answer within"):
        shared(broker.address)


@pytest.mark.parametrize("answers", range(5))
def test_a_broker_that_goes_away_during_the_probe_does_not_lack_retained_messages(answers: int) -> None:
    """Neither is it one without retained messages for wildcards, nor one without obstacles."""
    with ForgetfulBroker(answers, ends=True) as broker, pytest.raises(OSError, match="ended the connection"):
        obstacle(broker.address)


def test_a_broker_that_answers_and_delivers_nothing_is_named() -> None:
    """It has everything that it was sent: no message by a shared subscription, none retained for a wildcard."""
    with ForgetfulBroker() as broker:
        assert shared(broker.address) is False
    with ForgetfulBroker() as broker:
        assert "delivers no retained message for a wildcard" in str(obstacle(broker.address))


def test_a_refused_login_says_nothing_of_the_broker() -> None:
    """The manager's own connection reports it: the probe finds neither an obstacle nor what the broker can do."""
    for ends in (False, True):
        with ForgetfulBroker(1, ends=ends, code=5) as broker:
            assert shared(broker.address) is None
        with ForgetfulBroker(1, ends=ends, code=5) as broker:
            assert obstacle(broker.address) is None


@pytest.mark.mosquitto
def test_a_slow_broker_shares(mosquitto: Mosquitto) -> None:
    """A message that takes longer than the wait for it, behind answers as late as itself, is waited for."""
    with TcpProxy(mosquitto.port) as road, road.delaying(0.2):
        assert shared(BrokerAddress("127.0.0.1", road.port), ProbeSettings(connect=60.0, shared=0.25)) is True


@pytest.mark.mosquitto
def test_a_manager_that_has_just_answered_is_asked_again(mosquitto: Mosquitto) -> None:
    """A manager that is online answers once a second at most; one whose question fell into that second lives too."""
    other = _presence("online", store_id="store-b", instance="i0", since=utc(0.0))
    asked: list[bytes] = []

    def answer(client: Client, _data: object, message: MQTTMessage) -> None:
        if b"offline" in message.payload:
            asked.append(message.payload)
            if len(asked) > 1:
                client.publish(TOPIC, other.body(), qos=1, retain=True)

    online = MqttClient(CallbackAPIVersion.VERSION2)
    online.on_message = answer
    online.connect("127.0.0.1", mosquitto.port)
    online.loop_start()
    try:
        online.subscribe(TOPIC, 1)
        online.publish(TOPIC, other.body(), qos=1, retain=True).wait_for_publish(60)
        address = BrokerAddress("127.0.0.1", mosquitto.port)
        found = find_obstacle(rivals(), address, "manager", None, None, settings=ProbeSettings(answer=60.0))
        assert found is not None
        assert "a manager of another store (store-b)" in found
    finally:
        online.disconnect()
        online.loop_stop()


@pytest.mark.mosquitto
def test_a_probe_closes_its_sockets(mosquitto: Mosquitto) -> None:
    """Itself, once it is over: the garbage collector is not needed for it."""
    address = BrokerAddress("127.0.0.1", mosquitto.port)
    gc.collect()
    gc.disable()
    try:
        before = psutil.Process().num_fds()
        assert obstacle(address) is None
        assert psutil.Process().num_fds() == before
    finally:
        gc.enable()


@pytest.mark.nats
def test_nats_does_not_share() -> None:
    """NATS takes the subscription for a filter like any other and delivers nothing to it."""
    with Nats() as nats:
        assert shared(BrokerAddress("127.0.0.1", nats.port), ProbeSettings(shared=0.5)) is False
