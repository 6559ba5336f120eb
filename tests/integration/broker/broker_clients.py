"""Clients for broker tests: paho with a queue for what arrives, and a raw socket that breaks rules."""

import queue
import socket
import threading
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.integration.broker.broker_rules import PASSWORD
from tests.support.mqtt_client import MqttClient

WAIT = 60.0
"""Seconds in which what must come has come, on a loaded machine too."""


class PahoClient:
    """A paho client whose calls wait for the broker's answer; `arrived` holds the messages."""

    def __init__(
        self,
        port: int,
        client_id: str,
        *,
        username: str = "guest",
        clean: bool = True,
        manual_ack: bool = False,
        password: str = PASSWORD,
        patience: float = WAIT,
    ) -> None:
        self._patience = patience
        self.arrived: queue.Queue[MQTTMessage] = queue.Queue()
        self._acknowledged = threading.Event()
        self.codes: list[int] = []
        self.session_present = False
        self.name = client_id
        self._port = port
        self.paho = MqttClient(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean,
            manual_ack=manual_ack,
            reconnect_on_failure=False,
        )
        self.paho.username_pw_set(username, password)
        self.paho.on_message = lambda _client, _data, message: self.arrived.put(message)
        self.paho.on_connect = self._on_connect
        self.paho.on_subscribe = self._on_answer
        self.paho.on_unsubscribe = self._on_answer

    def _on_connect(self, _client: Client, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        self.session_present = flags.session_present
        self._on_answer(None, None, 0, [code], None)

    def _on_answer(self, _client: Any, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
        self.codes = [code.value for code in codes]
        self._acknowledged.set()

    def _await_answer(self) -> list[int]:
        if not self._acknowledged.wait(WAIT):
            raise RuntimeError("the broker did not answer")
        self._acknowledged.clear()
        return self.codes

    def connect(self, keep_alive: int = 60) -> int:
        """Connect and return the code of the broker's answer; 0 accepts the client."""
        self.paho.connect("127.0.0.1", self._port, keepalive=keep_alive)
        self.paho.loop_start()
        return self._await_answer()[0]

    def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """Subscribe and return the broker's code."""
        self.paho.subscribe(topic_filter, qos)
        return self._await_answer()[0]

    def subscribe_to_all(self, filters: list[str]) -> list[int]:
        """Subscribe to many filters in one packet and return the broker's codes."""
        self.paho.subscribe([(topic_filter, 1) for topic_filter in filters])
        return self._await_answer()

    def unsubscribe(self, topic_filter: str) -> None:
        self.paho.unsubscribe(topic_filter)
        self._await_answer()

    def publish(self, topic: str, payload: str, qos: int = 1, *, retain: bool = False) -> None:
        """Publish and wait until the broker has it."""
        self.paho.publish(topic, payload, qos, retain).wait_for_publish(WAIT)

    def next(self) -> MQTTMessage:
        """Return the next message; none in time fails the claim."""
        try:
            return self.arrived.get(timeout=self._patience)
        except queue.Empty:
            raise AssertionError("the message did not arrive") from None

    def texts(self, count: int) -> list[str]:
        """Return the payloads of the next messages."""
        return [self.next().payload.decode() for _ in range(count)]

    def until(self, marker: str) -> list[MQTTMessage]:
        """Return what arrived before a marker that was published last."""
        messages: list[MQTTMessage] = []
        while (message := self.next()).payload.decode() != marker:
            messages.append(message)
        return messages

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def packet(head: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes((head, *length)) + body


class RawClient:
    """A socket that sends what the test says."""

    def __init__(self, port: int, patience: float = WAIT) -> None:
        self.patience = patience
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def connect(
        self,
        client_id: str,
        *,
        username: str = "guest",
        password: str = PASSWORD,
        keep_alive: int = 0,
        will: tuple[str, str] | None = None,
        will_retain: bool = False,
        clean: bool = True,
    ) -> int:
        """Send CONNECT and return the broker's code."""
        flags = 0xC0 | (0x02 if clean else 0) | (0x0C if will else 0) | (0x20 if will_retain else 0)
        body = text("MQTT") + bytes((4, flags)) + keep_alive.to_bytes(2, "big") + text(client_id)
        if will:
            body += text(will[0]) + text(will[1])
        self.send(packet(0x10, body + text(username) + text(password)))
        return self.receive(4)[3]

    def publish(self, topic: str, payload: bytes, packet_id: int = 1) -> None:
        self.send(packet(0x32, text(topic) + packet_id.to_bytes(2, "big") + payload))

    def receive(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise RuntimeError("the broker closed the connection")
            data += chunk
        return data

    def is_closed_by_peer(self) -> bool:
        """Return whether the broker ends the connection in time, reading what still comes."""
        self.socket.settimeout(self.patience)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True
