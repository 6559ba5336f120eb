"""BrokerLink at a broker that accepts the connection and does not serve it: refused, silent, or frozen."""

import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest

from manager.domain.instant import Instant
from manager.engine.batch import Publication
from manager.mqtt.broker_link import LinkSettings
from schemas import topics
from tests.integration.mqtt.door_bench import PRESENCE, THREATS, DoorBench, peer
from tests.support.mosquitto import Mosquitto

IMPATIENT = LinkSettings(backoff=0.01, backoff_cap=0.05, answer_timeout=0.5)


@contextmanager
def door(port: int, settings: LinkSettings = IMPATIENT) -> Iterator[DoorBench]:
    """Give a door that has not been polled yet."""
    bench = DoorBench(port, settings)
    try:
        yield bench
    finally:
        bench.door.close(Publication(PRESENCE, b"offline", retained=True))


class Listener:
    """A TCP server that answers the first packet of each connection with given bytes, and then nothing more."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(client)
            client.recv(4096)
            client.sendall(self._answer)
            self.connections += 1

    def reset(self) -> None:
        """Reset the first connection."""
        self._open[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._open[0].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(60)
        for client in self._open:
            client.close()


def test_a_door_whose_subscriptions_are_refused_is_deaf() -> None:
    """It is not ready, says which topics it may not read, and tries again."""
    suback = b"\x90\x07\x00\x01" + b"\x80" * 5
    with Listener(b"\x20\x02\x00\x00" + suback) as broker, door(broker.port) as bench:
        bench.until(lambda: bench.door.last_error)
        assert "refuses the manager's subscription to panguard/v1/registration/+" in str(bench.door.last_error)
        assert "grant its login manager" in str(bench.door.last_error)
        assert not bench.door.ready
        bench.until(lambda: broker.connections >= 3)
        assert bench.notes.said == []


@pytest.mark.parametrize("refused", range(5))
def test_one_refused_subscription_is_enough_to_be_deaf(refused: int) -> None:
    """A manager that misses one kind of message is not ready."""
    codes = bytes(0x80 if number == refused else 1 for number in range(5))
    with Listener(b"\x20\x02\x00\x00\x90\x07\x00\x01" + codes) as broker, door(broker.port) as bench:
        bench.until(lambda: bench.door.last_error)
        assert "refuses the manager's subscription" in str(bench.door.last_error)
        assert not bench.door.ready


@pytest.mark.parametrize("answer", [b"", b"\x20\x02\x00\x00"], ids=["no CONNACK", "no SUBACK"])
def test_a_broker_that_does_not_answer_is_given_up(answer: bytes) -> None:
    """Without the answer to CONNECT or SUBSCRIBE the connection is given up, said, and tried again."""
    with Listener(answer) as broker, door(broker.port) as bench:
        bench.until(lambda: broker.connections >= 3)
        assert "does not answer the manager's CONNECT or SUBSCRIBE" in str(bench.door.last_error)
        assert not bench.door.ready


@pytest.mark.mosquitto
def test_a_frozen_broker_is_named_in_plain_words(mosquitto: Mosquitto) -> None:
    """A broker that stops answering pings is lost after the keep-alive, and the reason is one that helps."""
    with door(mosquitto.port, LinkSettings(backoff=0.01, backoff_cap=0.05, keepalive=1, connect_timeout=0.5)) as bench:
        bench.connect()
        pid = mosquitto.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            bench.until(lambda: not bench.door.ready)
            assert bench.door.last_error == "the broker has not answered for 1 s"
        finally:
            os.kill(pid, signal.SIGCONT)
        bench.connect()


@pytest.mark.mosquitto
def test_a_full_inbox_is_not_the_brokers_silence(mosquitto: Mosquitto) -> None:
    """While a full inbox keeps the door from reading, unread answers of the broker end no connection."""
    settings = LinkSettings(backoff=0.01, backoff_cap=0.05, keepalive=1, inbox_messages=10)
    with door(mosquitto.port, settings) as bench, peer(mosquitto.port) as agent:
        bench.connect()
        for number in range(50):
            agent.publish(THREATS, b"%d" % number)
        bench.until(lambda: len(bench.inbox) >= 10)
        started = bench.door._clock().monotonic
        bench.until(lambda: bench.door._clock().monotonic > started + 3.5)
        assert (bench.door.ready, bench.notes.said) == (True, ["fresh"])
        assert bench.payloads(50) == [b"%d" % number for number in range(50)]


@pytest.mark.mosquitto
def test_an_answer_behind_queued_messages_is_awaited(mosquitto: Mosquitto) -> None:
    """A session with more messages than the inbox has room for is resumed, whenever the engine takes them.

    A leader gave each connection up before it had read the answer, and got all of the messages again.
    """
    with door(mosquitto.port) as bench:
        bench.connect()
    settings = LinkSettings(backoff=0.01, backoff_cap=0.05, answer_timeout=0.2, inbox_messages=10)
    with peer(mosquitto.port) as agent, door(mosquitto.port, settings) as bench:
        for number in range(50):
            agent.publish(THREATS, b"%d" % number)
        bench.until(lambda: len(bench.inbox) >= 10)
        started = bench.door._clock().monotonic
        bench.until(lambda: bench.door._clock().monotonic > started + 1.5)
        assert bench.door.last_error is None
        taken = bench.take(50)
        assert [message.payload for message in taken] == [b"%d" % number for number in range(50)]
        bench.connect()
        assert bench.notes.said == ["resumed"]
        assert bench.door._generation == 1


@pytest.mark.mosquitto
def test_a_slow_engine_is_not_the_brokers_silence(mosquitto: Mosquitto) -> None:
    """Between two polls the engine may work for longer than the broker has for its answer; it connects all the same."""
    with door(mosquitto.port, LinkSettings(backoff=0.01, backoff_cap=0.05, answer_timeout=10.0)) as bench:
        read, worked = bench.door._clock, 0.0
        bench.door._clock = lambda: Instant(read().wall + worked, read().monotonic + worked)
        deadline = read().monotonic + 60
        while not bench.door.ready:
            assert read().monotonic < deadline, bench.door.last_error
            bench.door.poll(0.0)
            sock = None if bench.door._client is None else bench.door._client.socket()
            if sock is not None:  # the answer arrives while the engine works
                select.select([sock], [], [], 1.0)
            worked += 20.0
            assert bench.door.last_error is None
        assert bench.notes.said == ["fresh"]


def test_a_pause_is_no_shorter_for_a_connection_that_is_lost() -> None:
    """Whoever waits again until its time has come would be busy until then; reading notices the loss afterwards."""
    suback = b"\x90\x07\x00\x01" + b"\x01" * 5
    with Listener(b"\x20\x02\x00\x00" + suback) as broker, door(broker.port) as bench:
        bench.connect()
        bench.door.poll(0.0)
        assert bench.door._client is not None
        broker.reset()
        lost = select.poll()
        lost.register(bench.door._client.socket(), 0)
        assert lost.poll(60_000)
        began = bench.door._clock().monotonic
        bench.door.pause(0.05)
        assert bench.door._clock().monotonic - began >= 0.05
        bench.until(lambda: bench.door.last_error)
        assert bench.notes.said[:2] == ["fresh", "gone"]


def test_no_reason_names_a_variable() -> None:
    """A connection that paho has closed by itself is reported in a sentence for people."""
    with Listener(b"\x20\x02\x00\x00") as broker, door(broker.port, LinkSettings(answer_timeout=30.0)) as bench:
        bench.until(lambda: bench.door._client is not None)
        client = bench.door._client
        assert client is not None
        client.close_sockets()
        bench.door.publish(Publication(topics.MANAGER_KEYS.address(), b"{}"))
        bench.until(lambda: bench.door.last_error)
        assert bench.door.last_error == "the connection to the broker is closed"
