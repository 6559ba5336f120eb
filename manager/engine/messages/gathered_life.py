"""Gathered heartbeats: ingest workers verify them and hand them over, many in one message; the leader judges them.

A message is JSON and ends in a code by a key that only managers have. A heartbeat is passed as its agent wrote it, with
its age: the milliseconds since the worker received it, which need no common clock. Those of HTTP agents stand apart,
and beside them the agents whose other requests are signs of life.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog
from msgspec import Raw, Struct

from manager.domain.ingest.topics import WORKER_LIFE
from manager.domain.instant import Instant
from manager.engine.context import Context, HandedOver, HandedOverHttp
from manager.engine.inbox import Inbound
from schemas.decoding import DecodeError, decode
from schemas.fast_heartbeats import AnyHeartbeat, FastHeartbeat, fast_heartbeat
from schemas.fast_http_heartbeats import AnyHttpHeartbeat, fast_http_heartbeat
from schemas.http_agents import HttpHeartbeat
from schemas.limits import MESSAGE_LIMIT
from schemas.message_codes import has_mac, with_mac, without_mac
from schemas.presence import Heartbeat
from schemas.topics import HEARTBEAT

log = structlog.get_logger(__name__)

FULL = 128 * 1024
"""Bytes of heartbeats at which a message is sent before its second is over."""

LONGEST_AGE = 10.0
"""Seconds after which a gathered heartbeat says nothing; a worker that was stopped sends it late."""

GATHERED_LIMIT = 2 * MESSAGE_LIMIT
"""The maximum size of an HTTP agent's heartbeat in bytes, which may be written longer than it came."""

_MOST_FLOODING = 100


class _Sign(Struct, array_like=True, gc=False):
    agent_id: str
    age: int
    heartbeat: FastHeartbeat


class _RawSign(Struct, array_like=True):
    agent_id: str
    age: int
    heartbeat: Raw


class _Contact(Struct, array_like=True):
    agent_id: str
    age: int


class _Life(Struct):
    number: int
    at: float
    ends: bool
    flooding: list[str]
    signs: list[_Sign]
    others: list[_RawSign]
    http: list[_RawSign] = []
    contacts: list[_Contact] = []


class _RawLife(Struct):
    number: int
    at: float
    ends: bool
    flooding: list[str]
    signs: list[_RawSign]
    others: list[_RawSign]
    http: list[_RawSign] = []
    contacts: list[_Contact] = []


_decode = msgspec.json.Decoder(_Life).decode
_decode_raw = msgspec.json.Decoder(_RawLife).decode
_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


class GatheredLife:
    """The heartbeats that a worker has verified and not yet sent.

    Args:
        worker_id: the worker's id.
        key: codes the messages.
    """

    def __init__(self, worker_id: str, key: bytes) -> None:
        self._topic = WORKER_LIFE.below_root(worker_id)
        self._key = key
        self._number = 0
        self._signs: list[tuple[bytes, float, bytes]] = []
        self._others: list[tuple[bytes, float, bytes]] = []
        self._http: list[tuple[bytes, float, bytes]] = []
        self._contacts: dict[str, float] = {}
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self._signs or self._others or self._http or self._contacts)

    @property
    def is_full(self) -> bool:
        """Whether a message should be sent at once."""
        return self._bytes >= FULL

    def add(self, agent_id: str, heartbeat: AnyHeartbeat, payload: bytes, now: float) -> None:
        """Add a verified heartbeat.

        Args:
            agent_id: its sender.
            heartbeat: the decoded heartbeat.
            payload: the same as it came.
            now: the receipt, monotonic.
        """
        kind = self._signs if isinstance(heartbeat, FastHeartbeat) else self._others
        body = without_mac(payload)
        kind.append((agent_id.encode(), now, body))
        self._bytes += len(body)

    def add_http(self, agent_id: str, body: bytes, now: float) -> None:
        """Add the heartbeat of an authenticated HTTP agent, as JSON; `now` is the receipt, monotonic."""
        self._http.append((agent_id.encode(), now, body))
        self._bytes += len(body)

    def add_contact(self, agent_id: str, now: float) -> None:
        """Add another request of an HTTP agent as a sign of life; only the time of the last one is sent."""
        self._contacts[agent_id] = now

    def message(self, now: Instant, flooding: set[str], *, ends: bool = False) -> bytes:
        """Return the next message, with what was added since the last one; while it `is_full`, a part of that.

        Args:
            now: the present time.
            flooding: agents that flood this worker.
            ends: whether it is the last one.
        """
        self._number += 1
        head = {"number": self._number, "at": now.wall, "ends": ends, "flooding": sorted(flooding)[:_MOST_FLOODING]}
        lists = (
            b",".join(b'["%b",%d,%b]' % (name, max(0, (now.monotonic - at) * 1000), body) for name, at, body in taken)
            for taken in self._take_signs()
        )
        contacts = b",".join(
            b'["%b",%d]' % (agent_id.encode(), max(0, (now.monotonic - at) * 1000))
            for agent_id, at in self._contacts.items()
        )
        members = json.dumps(head).encode()[:-1], *lists, contacts
        body = b'%b,"signs":[%b],"others":[%b],"http":[%b],"contacts":[%b]}' % members
        self._contacts = {}
        return with_mac(self._key, self._topic, body)

    def _take_signs(self) -> Iterator[list[tuple[bytes, float, bytes]]]:
        """Remove and yield the heartbeats of each kind, of all together not much more than `FULL` bytes."""
        room = FULL
        for kind in (self._signs, self._others, self._http):
            count = 0
            while count < len(kind) and room > 0:
                room -= len(kind[count][2])
                count += 1
            taken = kind[:count]
            del kind[:count]
            self._bytes -= sum(len(body) for _, _, body in taken)
            yield taken


def collect(context: Context, message: Inbound) -> None:
    """Add the heartbeats of a worker's message to the batch; a message without a right code is a dead letter."""
    fleet, payload = context.fleet, message.payload
    if fleet.life_key is None or not has_mac(fleet.life_key, message.topic, payload):
        context.dead_letter(message.topic, "no right code", payload)
        return
    try:
        life, signs = _decoded(without_mac(payload))
    except _ERRORS as error:
        context.dead_letter(message.topic, str(error), payload)
        return
    now = context.batch.now
    if fleet.ingest_workers.is_late(message.identifier, life.at, now):
        context.dead_letter(message.topic, f"sent {now.wall - life.at:.0f} s ago by the worker's clock", payload)
        return
    if not fleet.ingest_workers.heard(message.identifier, life.number, now, ends=life.ends):
        fleet.counters["worker_messages_repeated"] += 1
        return
    context.flooding.update(life.flooding)
    fleet.counters[HEARTBEAT.name] += len(signs)
    find = fleet.registry.find
    for agent_id, age, heartbeat in signs:
        agent, seconds = find(agent_id), age / 1000
        if agent is None or not 0 <= seconds <= LONGEST_AGE:
            fleet.counters["heartbeats_ignored"] += 1
            continue
        received = Instant(now.wall - seconds, now.monotonic - seconds)
        context.handed_over.append(HandedOver(agent, heartbeat, received))
    _collect_http(context, life)


def _collect_http(context: Context, life: "_Life | _RawLife") -> None:
    """Add the heartbeats of HTTP agents in a message to the batch, and their other requests."""
    fleet, now = context.fleet, context.batch.now
    signs: list[tuple[str, int, AnyHttpHeartbeat | None]] = [(each.agent_id, each.age, None) for each in life.contacts]
    for sign in life.http:
        heartbeat = _http_heartbeat(sign)
        if heartbeat is None:
            fleet.counters["heartbeats_ignored"] += 1
        else:
            signs.append((sign.agent_id, sign.age, heartbeat))
    for agent_id, age, heartbeat in signs:
        agent, seconds = fleet.registry.find(agent_id), age / 1000
        if agent is None or not 0 <= seconds <= LONGEST_AGE:
            fleet.counters["heartbeats_ignored"] += 1
            continue
        received = Instant(now.wall - seconds, now.monotonic - seconds)
        context.handed_over_http.append(HandedOverHttp(agent, heartbeat, received))


def _http_heartbeat(sign: _RawSign) -> AnyHttpHeartbeat | None:
    """Return the heartbeat of an HTTP agent; None for one that cannot be read, as one from another release."""
    raw: Any = bytes(sign.heartbeat)
    try:
        return fast_http_heartbeat(raw) or decode(HttpHeartbeat, raw, GATHERED_LIMIT)
    except DecodeError as error:
        log.warning("gathered_heartbeat_unreadable", agent_id=sign.agent_id, reason=str(error))
        return None


def take_http(context: Context) -> Iterator[HandedOverHttp]:
    """Remove and yield the batch's gathered signs of life of HTTP agents, the first received first."""
    handed_over, context.handed_over_http = context.handed_over_http, []
    yield from sorted(handed_over, key=lambda each: each.received.monotonic)


def take(context: Context) -> Iterator[HandedOver]:
    """Remove and yield the batch's gathered heartbeats, each agent's in the order of session and sequence.

    The broker splits one agent's heartbeats among the workers, whose messages overtake each other.
    """
    handed_over, context.handed_over = context.handed_over, []
    yield from sorted(handed_over, key=_order)


def _order(each: HandedOver) -> tuple[int, int]:
    return each.heartbeat.session, each.heartbeat.sequence


def _decoded(body: bytes) -> tuple[_Life | _RawLife, list[tuple[str, int, AnyHeartbeat]]]:
    """Return a message and its heartbeats; one that cannot be read does not keep the others out."""
    life: _Life | _RawLife
    signs: list[tuple[str, int, AnyHeartbeat]]
    try:
        life = _decode(body)
        signs = [(each.agent_id, each.age, each.heartbeat) for each in life.signs]
        rest = life.others
    except msgspec.ValidationError:  # from a worker of another release
        life = _decode_raw(body)
        signs, rest = [], [*life.signs, *life.others]
    for each in rest:
        raw: Any = bytes(each.heartbeat)
        try:
            heartbeat = fast_heartbeat(raw) or decode(Heartbeat, raw, HEARTBEAT.limit)
        except DecodeError as error:
            log.warning("gathered_heartbeat_unreadable", agent_id=each.agent_id, reason=str(error))
            continue
        signs.append((each.agent_id, each.age, heartbeat))
    return life, signs
