"""A stop of the guard: it ends, whatever the broker does or leaves undone."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import cast

import pytest

from agent.clock import Clock
from agent.connection.reconnect_loop import Connector
from agent.guard import Guard
from agent.link.address import ManagerAddress
from agent.link.link import Account, Event, Link, Opened
from agent.link.mqtt import MqttDialer
from agent.loop import LinkEventQueue, Loop
from manager.mqtt_packets import TYPE_MASK, find_packet
from schemas.keys import EnrollmentToken, ManagerKeyring, new_secret
from schemas.topics import PRESENCE
from tests.integration.guard.guard_thread import GuardThread
from tests.support.hostile import packets
from tests.support.waiting import eventually

CONNACK = b"\x20\x02\x00\x00"
GARBAGE = b"\x30\x0b\x00\x01x" + b"\xff" * 8
"""A message of QoS 0 on a topic that nobody subscribed."""


class SilentBroker:
    """Accepts connections, and answers packets up to a kind; then it never answers again, nor closes.

    Args:
        answers: returns the answer to a packet, by its first byte and body; None for nothing.
        reads: whether it reads at all.
    """

    def __init__(self, answers: Callable[[int, bytes], bytes | None], *, reads: bool = True) -> None:
        self._answers = answers
        self._reads = reads
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.got: list[int] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def close(self) -> None:
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                self.connections += 1
                if self._reads:
                    threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        with contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                buffer += data
                while found := find_packet(buffer, 0):
                    start, end = found
                    self.got.append(buffer[0] & TYPE_MASK)
                    answer = self._answers(buffer[0] & TYPE_MASK, buffer[start:end])
                    buffer = buffer[end:]
                    if answer is not None:
                        connection.sendall(answer)


def _up_to(kind: int) -> Callable[[int, bytes], bytes | None]:
    """Return the answers of a broker that does not answer packets of a kind."""

    def answer(given: int, body: bytes) -> bytes | None:
        if given == kind:
            return None
        match given:
            case packets.CONNECT:
                return CONNACK
            case packets.SUBSCRIBE:
                return packets.subscribed(int.from_bytes(body[:2]), [qos for _, qos in _filters(body)])
        return None

    return answer


def _flood(given: int, _body: bytes) -> bytes | None:
    """Answer the connection, and send thousands of messages with it."""
    return CONNACK + GARBAGE * 20_000 if given == packets.CONNECT else None


def _filters(body: bytes) -> Iterator[tuple[str, int]]:
    return packets.read_filters(body, with_qos=True)


@pytest.fixture
def guard(tmp_path: Path) -> GuardThread:
    return GuardThread(tmp_path, "", str(EnrollmentToken.new(ManagerKeyring(new_secret()).sign_public)), StringIO())


@pytest.mark.parametrize(
    ("broker", "reached"),
    [
        (lambda: SilentBroker(_up_to(packets.CONNECT), reads=False), None),
        (lambda: SilentBroker(_up_to(packets.CONNECT)), packets.CONNECT),
        (lambda: SilentBroker(_up_to(packets.SUBSCRIBE)), packets.SUBSCRIBE),
        (lambda: SilentBroker(_flood), packets.CONNECT),
    ],
    ids=["half-open", "connect", "subscribe", "flood"],
)
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
def test_a_guard_ends_while_the_broker_is_silent(
    guard: GuardThread, broker: Callable[[], SilentBroker], reached: int | None, scheme: str
) -> None:
    """Nor does it answer the DISCONNECT. With TLS it never answers the handshake."""
    silent = broker()
    try:
        guard.url = f"{scheme}://127.0.0.1:{silent.port}"
        guard.start()
        if reached is None or scheme == "mqtts":
            eventually(lambda: silent.connections > 0, what="the connection")
        else:
            eventually(lambda: reached in silent.got, what="the packet")
        guard.stop()
        assert guard.failure is None
    finally:
        silent.close()
        guard.stop()
        eventually(lambda: not [each for each in threading.enumerate() if each.name == "link-dial"], what="the end")


def test_a_link_closes_whose_messages_nobody_acknowledges() -> None:
    """Neither a publish nor the DISCONNECT is answered, and the broker keeps the connection open."""
    silent, mailbox = SilentBroker(_up_to(packets.PUBLISH)), LinkEventQueue()
    try:
        account = Account("link", "u", "p", {"agentId": "ag-00000000000000aa"})
        link = MqttDialer(ManagerAddress.parse(f"mqtt://127.0.0.1:{silent.port}"), 30)(account, None, mailbox.post)
        eventually(lambda: [event for _, event in mailbox.take(1.0)] == [Opened("127.0.0.1")], what="the opening")
        assert link.publish(PRESENCE, b"{}") is not None
        eventually(lambda: packets.PUBLISH in silent.got, what="the packet")
        closing = threading.Thread(target=link.close, args=(1.0,), daemon=True)
        closing.start()
        eventually(lambda: not closing.is_alive(), what="the return of close")
        eventually(lambda: not [each for each in threading.enumerate() if each.name == "link-mqtt"], what="the end")
    finally:
        silent.close()


class _Idle:
    """Guard and connector of a loop that have nothing to do; each event asks for the stop."""

    due = float("inf")

    def __init__(self) -> None:
        self.handled = 0

    def tick(self, now: float) -> None:
        del now

    def handle(self, link: Link, event: Event, now: float) -> None:
        del link, event, now
        self.handled += 1


def test_no_further_event_is_handled_once_a_stop_is_wanted() -> None:
    """A broker decides how many there are and what each costs: 250 of them wait here."""
    idle, mailbox, nobody = _Idle(), LinkEventQueue(), cast("Link", None)
    for _ in range(250):
        mailbox.post(nobody, Opened(None))
    Loop(cast("Guard", idle), cast("Connector", idle), mailbox, Clock(), lambda: None).run(lambda: idle.handled > 0)
    assert idle.handled == 1
