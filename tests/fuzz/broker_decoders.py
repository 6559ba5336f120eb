"""What both ends of MQTT read: the manager's client, the embedded broker and its process, Mosquitto's plugin."""

import asyncio
import contextlib
import json
import queue
import socket
import struct
from collections import Counter

from amqtt.adapters import BufferReader, StreamReaderAdapter
from hypothesis import strategies as st

from manager import mqtt_packets as packets
from manager.broker import process
from manager.broker.accounts import build_access
from manager.broker.connection.connect_packet import RefusedError, read_connect
from manager.broker.connection.connection_handler import AbortableWriter
from manager.broker.connection.packet_reader import (
    ConnectionLostError,
    PacketError,
    read_packet,
    read_packet_id,
    read_publish,
)
from manager.broker.delivery.subscription_index import is_filter, is_topic
from manager.broker.embedded_broker import EmbeddedBroker
from manager.broker.errors import BrokerStartError
from manager.broker.hardened_broker import HardenedBroker
from manager.broker.limits import BrokerLimits
from manager.domain.ingest.topics import ReceivedTopics
from manager.errors import SetupError
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.paho_client import BufferedClient
from manager.provisioning.dynamic_security import DynamicSecurity
from manager.provisioning.logins import FleetLogins
from schemas import topics
from schemas.topics import may_retain
from tests.fuzz.decoder import Decoder
from tests.fuzz.place import AGENT, Place
from tests.integration.broker.broker_rules import Rules
from tests.spoiling import hostile, hostile_json, hostile_text

_LIMITS = BrokerLimits(packet_bytes=300_000, queue_bytes=1_000_000)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + packets.remaining_length(len(body)) + body


def _connect(will: bool = False, user: bool = True) -> bytes:
    flags = 0x02 | (0x2E if will else 0) | (0xC0 if user else 0)
    body = _text("MQTT") + bytes([4, flags, 0, 60]) + _text("client-1")
    body += _text("a/will") + _text("gone") if will else b""
    return _packet(0x10, body + (_text("guest") + _text("right") if user else b""))


CONNECTS = [_connect(), _connect(will=True), _connect(user=False), _packet(0x10, _text("MQTT") + b"\x05\x02\0\0\0\0\0")]
PUBLISHES = [packets.publish_packet("a/b", b"payload", 7), packets.publish_packet("a/kept", b"{}", retained=True)]
REQUESTS = [
    *PUBLISHES,
    _packet(0x34, _text("a") + b"\0\7x"),
    _packet(0x62, b"\0\7"),
    _packet(0x82, b"\0\1" + _text("a/#") + b"\1" + _text("+/b") + b"\0"),
    _packet(0xA2, b"\0\2" + _text("a/#")),
    packets.puback_packets([1]),
    b"\xc0\0",
    b"\xe0\0",
]
ANSWERS = [
    b"\x20\x02\0\0",
    b"\x90\x04\0\1\1\x80",
    b"\xb0\x02\0\2",
    b"\xd0\0",
    b"\x50\x02\0\7",
    b"\x62\x02\0\7",
    b"\x70\x02\0\7",
    packets.puback_packets([256, 257]),
    packets.publish_packet("panguard/v1/agents/ag-0123456789abcdef/threats", b"{}", 7),
    packets.publish_packet("panguard/v1/agents/ag-0123456789abcdef/heartbeat", b"{}"),
]

_streams = st.lists(st.sampled_from(REQUESTS), max_size=6).map(b"".join)
BROKERS_WORDS = st.lists(st.sampled_from(ANSWERS), max_size=6).map(b"".join)
"""What a broker says to a client: its CONNACK first, or anything else."""

_conversations = st.sampled_from(CONNECTS).flatmap(lambda first: _streams.map(first.__add__))


def _client_stream(place: Place, data: bytes) -> None:
    """All that a broker may send the manager, in one piece or cut in two; packets that are rare are paho's to read."""
    ours, theirs = place.pair()
    client = BufferedClient("reader")
    client._sock = ours
    ours.setblocking(False)
    with theirs, contextlib.closing(ours):
        half = len(data) // 2
        try:
            for piece in (data[:half], data[half:]):
                theirs.sendall(piece[:150_000])
                client.receive()
                client.process(lambda _topic, _payload, _mid, _retained: None, len(data))
        finally:
            client._sock = None


def _door_topic(_place: Place, data: bytes) -> None:
    known = ReceivedTopics()[data]
    assert known is None or topics.PREFIX + known[2] == data.decode()


def _plugin(_place: Place, data: bytes) -> None:
    """Every answer of the plugin is taken, or logged; what it leads to is sent, however odd the lists in it."""
    sent: list[object] = []
    keeper = DynamicSecurity(sent.append, FleetLogins({}, {}), Counter())
    keeper.connected()
    keeper.handle_response(data)
    keeper.handle_response(data)
    assert len(sent) < 5000


_ROLE = {
    "rolename": f"agent-{AGENT}",
    "acls": [{"acltype": "subscribePattern", "topic": "a", "priority": 1, "allow": True}],
}
_LISTED = [
    {"command": "setDefaultACLAccess"},
    {"command": "listRoles", "data": {"totalCount": 2, "roles": [_ROLE]}},
    {
        "command": "listClients",
        "data": {"totalCount": 1, "clients": [{"username": AGENT, "textdescription": "panguard x", "roles": [_ROLE]}]},
    },
    {"command": "createClient", "error": "Client already exists"},
]
_plugin_answers = st.lists(st.sampled_from(_LISTED), max_size=4).map(
    lambda answers: json.dumps({"responses": answers}).encode()
)


async def _packet_stream(data: bytes) -> None:
    reader = BufferReader(data)
    while True:
        packet = await read_packet(reader, 100_000)
        if packet.kind == 3:
            read_publish(packet.flags, packet.body)
        elif packet.kind in (4, 6):
            read_packet_id(packet.body)


def _refusing_packets(place: Place, data: bytes) -> None:
    with contextlib.suppress(ConnectionLostError):
        place.run(_packet_stream(data))


def _introduction(place: Place, data: bytes) -> None:
    place.run(read_connect(BufferReader(data), 64 * 1024))


async def _serve_connection(data: bytes) -> None:
    """Serve one whole connection: the broker's own steps, on two ends of a real socket."""
    listener = socket.socket()
    broker = HardenedBroker(
        listener,
        authenticator=Rules(),
        access=Rules(),
        may_retain=lambda topic: topic.endswith("/kept"),
        limits=_LIMITS,
    )
    broker._loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    far_reader, far = await asyncio.open_connection(sock=theirs)
    sink = AbortableWriter(writer)
    swallowed = asyncio.create_task(far_reader.read())
    try:
        far.write(data)
        far.write_eof()
        broker._slots.open(asyncio.current_task(), "127.0.0.1")
        await broker._serve_connection(StreamReaderAdapter(reader), sink)
    finally:
        sink.abort()
        far.close()
        await asyncio.gather(swallowed, return_exceptions=True)
        listener.close()


def _conversation(place: Place, data: bytes) -> None:
    place.run(_serve_connection(data))


_CONFIGURATION = {
    "host": "127.0.0.1",
    "port": 1883,
    "access": {"users": {"m": {"sha256": "00" * 32, "role": "manager", "identifiers": {}}}},
    "limits": {"in_flight": 10},
    "portWaitSeconds": 1,
}


def _configuration(_place: Place, data: bytes) -> None:
    config = process._configuration(data)
    process._parts(config, build_access)


def _run_command(_place: Place, data: bytes) -> None:
    """A line that is no command is ignored."""

    class Obedient:
        def disconnect(self, username: str) -> int:
            return len(username)

    process._run_command(Obedient(), data, lambda: None)  # type: ignore[arg-type]


def _first_line(_place: Place, data: bytes) -> None:
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    lines.put(data)
    EmbeddedBroker({})._read_port(lines)


def _filters(_place: Place, data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert not (is_topic(text) and not text)
    is_filter(text)
    may_retain(text)


MQTT = (
    Decoder("BufferedClient.take", "network", hostile(BROKERS_WORDS), _client_stream, (OSError,)),
    Decoder(
        "BrokerLink topics",
        "network",
        hostile_text(*(row.filter.replace("+", "x") for row in topics.TABLE)),
        _door_topic,
    ),
    Decoder("DynamicSecurity.heard", "network", hostile_json(_plugin_answers), _plugin),
    Decoder(
        "BrokerAddress.parse",
        "operator",
        hostile_text("mqtt://user@host:1883", "mqtts://[::1]", "mqtt://h:99999", "mqtt://[", "mqtt://u:p@h"),
        lambda _, data: BrokerAddress.parse(data.decode("utf-8", "surrogateescape")),
        (SetupError,),
    ),
    Decoder("broker packets", "network", hostile(_streams), _refusing_packets, (PacketError,)),
    Decoder(
        "broker CONNECT",
        "network",
        hostile(st.sampled_from(CONNECTS)),
        _introduction,
        (PacketError, ConnectionLostError, RefusedError),
    ),
    Decoder(
        "broker connection",
        "network",
        hostile(_conversations),
        _conversation,
        (PacketError, ConnectionLostError, RefusedError, TimeoutError),
        slow=True,
    ),
    Decoder("broker filters", "network", hostile_text("a/b/c", "a/+/#", "$share/x/y", "/" * 40), _filters),
    Decoder(
        "broker process configuration",
        "operator",
        hostile_json(st.just(json.dumps(_CONFIGURATION).encode())),
        _configuration,
        (BrokerStartError,),
    ),
    Decoder(
        "broker process commands",
        "operator",
        hostile_json(st.sampled_from([b'{"disconnect":"x"}', b'{"reload":"certificate"}'])),
        _run_command,
    ),
    Decoder(
        "EmbeddedBroker first line",
        "operator",
        hostile_json(st.sampled_from([b'{"ready":true,"port":1883}', b'{"error":"why"}'])),
        _first_line,
        (BrokerStartError,),
    ),
)
