"""A simulated agent's MQTT session: it heeds what the contract lets a broker and a manager say, and nothing else."""

import asyncio
import json
import time
from typing import Any, cast

import pytest

from schemas import message_codes, topics
from schemas.blocklist import BlocklistChange, BlocklistSnapshot
from schemas.keys import ManagerKeyring
from schemas.model import utc
from schemas.policy import Policy
from schemas.presence import ManagerKeys
from schemas.report_batches import FEATURE
from schemas.threats import Receipt
from simulate.agent import Agent, InForce, Tally
from simulate.doors import packets
from simulate.doors.door import DoorError
from simulate.doors.mqtt_session import ANSWERS_WITHIN, KEEP_ALIVE, LoginRefusedError, MqttSession
from simulate.doors.packets import Framer, Packet
from simulate.identity import Identity
from simulate.ledger import Ledger
from simulate.outbox import Outbox
from simulate.schedule import detections
from simulate.verifier import Verifier
from tests.unit.simulate.plans import plan

KEYRING = ManagerKeyring(bytes(32))
AGENT_ID = "ag-0000000000000001"
CONNACK, SUBACK = b"\x20\x02\x00\x00", b"\x90\x07\x00\x01\x01\x01\x01\x01\x01"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.framer = Framer()
        self.written: list[Packet] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += self.framer.feed(data)

    def abort(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed = True

    def published(self, row: topics.Topic) -> list[bytes]:
        messages = [packets.message(packet) for packet in self.written if packet.kind == packets.PUBLISH]
        return [message.payload for message in messages if message.topic == row.address(AGENT_ID)]

    def subscriptions(self) -> int:
        return sum(packet.kind == 0x80 for packet in self.written)


class Talk:
    """A session with its agent, on a wire that the test holds the other end of."""

    def __init__(self, interval: float | None = None, agent: Agent | None = None) -> None:
        identity = Identity("sim-1-00000", agent_id=AGENT_ID)
        self.agent = agent or Agent(0, identity, Outbox(30.0), Ledger(), Tally(), 0.0)
        self.agent.begin_session()
        self.wire = Wire()
        self.session = MqttSession(self.agent, Verifier(KEYRING.sign_public), interval)
        self.session.connection_made(cast("asyncio.BaseTransport", self.wire))

    def open(self) -> "Talk":
        self.session.data_received(CONNACK + SUBACK)
        return self

    def hear(self, topic: str, payload: bytes, packet_id: int = 9) -> None:
        self.session.data_received(packets.publish(topic, payload, packet_id))

    def receipt(self, *ids: str, key: bytes | None = None) -> None:
        mac_key = self.agent.identity.keys.mac_key if key is None else key
        body = Receipt(stored=list(ids)).body()
        below = topics.RECEIPTS.below_root(AGENT_ID)
        self.hear(topics.RECEIPTS.address(AGENT_ID), message_codes.with_mac(mac_key, below, body))

    def signed(self, row: topics.Topic, message: Any) -> None:
        payload = message_codes.with_signature(KEYRING.sign_key, row.below_root("default"), message.body())
        self.hear(row.address("default"), payload)

    def report(self) -> str:
        self.agent.detected(next(detections(plan(agents=1, threats=1))))
        self.session.pump()
        return next(reversed(self.agent.ledger.entries))


@pytest.fixture
def loop() -> Any:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def talk(loop: asyncio.AbstractEventLoop) -> Talk:
    async def begin() -> Talk:
        return Talk()

    return loop.run_until_complete(begin())


def test_birth_comes_after_the_subscriptions(talk: Talk) -> None:
    """Nothing is published before the broker has granted them; then birth, heartbeat, and what waits."""
    talk.session.data_received(CONNACK)
    assert not talk.wire.published(topics.PRESENCE)
    report_id = talk.report()
    talk.session.data_received(SUBACK)
    kinds = [packets.message(packet).topic for packet in talk.wire.written if packet.kind == packets.PUBLISH]
    expected = (topics.PRESENCE, topics.HEARTBEAT, topics.THREATS)
    assert kinds == [row.address(AGENT_ID) for row in expected]
    assert report_id.encode() in talk.wire.published(topics.THREATS)[0]
    assert talk.session.opened.done()
    assert talk.agent.tally.connected == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"\x20\x02\x00\x05", LoginRefusedError), (b"\x20\x02\x00\x03", DoorError),
     (CONNACK + b"\x90\x07\x00\x01\x01\x80\x01\x01\x01", DoorError), (b"\x30\xff\xff\xff\xff", DoorError)],
)  # fmt: skip
def test_a_refusal_ends_it(talk: Talk, answer: bytes, error: type[Exception]) -> None:
    """A refused login, a refused filter and nonsense end the connection before the agent counts as connected."""
    talk.session.data_received(answer)
    assert isinstance(talk.session.opened.exception(), ConnectionError)
    assert error is DoorError or isinstance(talk.session.opened.exception(), error)
    assert (talk.wire.is_closed, talk.agent.tally.connected) == (True, 0)


@pytest.mark.parametrize("refused", [0, 1, 2, 3, 4])
def test_only_a_blocklist_may_be_refused(talk: Talk, refused: int) -> None:
    """Without one of its own topics there is no session; without the organization's blocklist there is one."""
    codes = [0x80 if number == refused else 1 for number in range(5)]
    talk.session.data_received(CONNACK + b"\x90\x07\x00\x01" + bytes(codes))
    assert talk.session.opened.done()
    assert (talk.session.opened.exception() is None) == (refused == 4)
    assert talk.agent.tally.connected == (refused == 4)


@pytest.mark.parametrize(("version", "moved"), [(1, False), (2, True), (3, True)])
def test_a_policy_of_another_organization_begins_another_session(talk: Talk, version: int, moved: bool) -> None:
    """An agent that was moved forgets the former blocklist and connects again; an older policy moves nobody."""
    agent = talk.open().agent
    talk.signed(topics.BLOCKLIST, BlocklistSnapshot(organization_id="default", sequence=4))
    agent.policy = InForce(2)
    topic = topics.POLICY.address(AGENT_ID)
    policy = Policy(
        version=version, digest="0" * 64, updated_at=utc(0), scope="global", agent_id=AGENT_ID, organization_id="acme",
        version_proof="-",
    )  # fmt: skip
    below = topics.POLICY.below_root(AGENT_ID)
    talk.hear(topic, message_codes.with_signature(KEYRING.sign_key, below, policy.body()))
    assert (talk.wire.is_closed, agent.identity.organization_id == "acme") == (moved, moved)
    assert agent.blocklist_sequence == (0 if moved else 4)


def test_only_the_managers_receipt_settles(talk: Talk) -> None:
    """A receipt with another's code is ignored and counted; the right one takes the report out of the outbox."""
    report_id = talk.open().report()
    talk.receipt(report_id, key=bytes(32))
    assert (talk.agent.ledger.waiting, talk.agent.tally.ignored) == (1, 1)
    talk.receipt(report_id)
    assert (talk.agent.ledger.waiting, len(talk.agent.outbox)) == (0, 0)
    assert sum(packet.kind == packets.PUBACK for packet in talk.wire.written) == 2


def test_a_session_sends_again_what_waits(loop: asyncio.AbstractEventLoop, talk: Talk) -> None:
    """A report without a receipt goes again as soon as the next session is open, not after its timeout."""
    report_id = talk.open().report()
    talk.session.cut()

    async def again() -> Talk:
        return Talk(agent=talk.agent).open()

    (payload,) = loop.run_until_complete(again()).wire.published(topics.THREATS)
    assert report_id.encode() in payload


def _listing(talk: Talk, features: list[str], keyring: ManagerKeyring = KEYRING) -> None:
    keys = ManagerKeys(sign_key=keyring.sign_public, seal_key=keyring.seal_public, accepts=features)
    below = topics.MANAGER_KEYS.below_root()
    talk.hear(topics.MANAGER_KEYS.address(), message_codes.with_signature(keyring.sign_key, below, keys.body()))


def _sent(talk: Talk) -> list[int]:
    """Return, once, the number of reports in each message; 0 for a report alone."""
    payloads = talk.wire.published(topics.THREATS)
    talk.wire.written.clear()
    return [len(json.loads(payload).get("reports", ())) for payload in payloads]


@pytest.mark.parametrize("features", [[FEATURE], ["something else"], []])
def test_reports_that_wait_go_together_if_the_manager_lists_it(talk: Talk, features: list[str]) -> None:
    """Several in one message where the keys say so; a report that waits alone goes as before."""
    _listing(talk.open(), features)
    talk.report()
    assert _sent(talk) == [0]
    talk.agent.session = None
    for _ in range(3):
        talk.agent.detected(next(detections(plan(agents=1, threats=1))))
    talk.agent.session = talk.session
    talk.session.pump()
    assert _sent(talk) == ([3] if features == [FEATURE] else [0, 0, 0])
    _listing(talk, [FEATURE], ManagerKeyring(bytes([1]) * 32))
    assert (talk.agent.sends_batches, talk.agent.tally.ignored) == (features == [FEATURE], 1)


def test_batches_without_any_receipt_end_after_a_minute(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then each report goes alone, until the keys are heard again."""
    start = time.monotonic()
    _listing(talk.open(), [FEATURE])
    talk.agent.outbox.begin()
    for _ in range(2):
        talk.agent.detected(next(detections(plan(agents=1, threats=1))))
    talk.session.pump()
    assert _sent(talk) == [2]
    for later, expected in ((31, [2]), (59, []), (92, [0, 0])):
        monkeypatch.setattr(time, "monotonic", lambda later=later: start + later)
        talk.session.pump()
        assert _sent(talk) == expected, later
    _listing(talk, [FEATURE])
    assert talk.agent.sends_batches


def test_a_missing_change_asks_for_the_snapshot(talk: Talk) -> None:
    """Changes that follow each other are taken; after a gap the snapshot is subscribed to again."""
    talk.open()
    talk.signed(topics.BLOCKLIST, BlocklistSnapshot(organization_id="default", sequence=4))
    talk.signed(topics.BLOCKLIST_CHANGES, BlocklistChange(organization_id="default", from_sequence=4, sequence=6))
    before = talk.wire.subscriptions()
    assert talk.agent.blocklist_sequence == 6
    talk.signed(topics.BLOCKLIST_CHANGES, BlocklistChange(organization_id="default", from_sequence=8, sequence=9))
    assert (talk.agent.blocklist_sequence, talk.wire.subscriptions()) == (6, before + 1)


def test_a_snapshot_is_left_after_a_while(talk: Talk) -> None:
    """When nothing has been missing for 15 s the agent unsubscribes from the snapshot."""
    talk.open()
    talk.session.tick(time.monotonic() + 14)
    assert not any(packet.first == 0xA2 for packet in talk.wire.written)
    talk.session.tick(time.monotonic() + 16)
    assert any(packet.first == 0xA2 for packet in talk.wire.written)


def _presence(talk: Talk, state: str, session: int) -> bytes:
    own, talk.agent.identity.session = talk.agent.identity.session, session
    payload = talk.agent.presence(state)
    talk.agent.identity.session = own
    return payload


@pytest.mark.parametrize(("state", "session"), [("online", 5), ("lost", 1), ("offline", 7)])
def test_a_session_that_is_over_is_surpassed(talk: Talk, state: str, session: int) -> None:
    """Where the fleet knows a newer session, or this one's end, the agent connects again with a higher one."""
    talk.open()
    talk.hear(topics.PRESENCE.address(AGENT_ID), _presence(talk, state, session))
    assert (talk.wire.is_closed, talk.session.over.done(), talk.agent.identity.session) == (True, True, session)


def test_an_older_session_is_overwritten(talk: Talk) -> None:
    """An older presence after the own birth was seen is answered by another birth; before that it is expected."""
    talk.open()
    topic = topics.PRESENCE.address(AGENT_ID)
    talk.hear(topic, _presence(talk, "lost", 0))
    assert len(talk.wire.published(topics.PRESENCE)) == 1
    talk.hear(topic, _presence(talk, "online", 1))
    talk.hear(topic, _presence(talk, "lost", 0))
    assert len(talk.wire.published(topics.PRESENCE)) == 2


def test_a_silent_broker_is_asked_and_left(talk: Talk) -> None:
    """After 30 s of silence it is asked whether it lives; without an answer the connection ends."""
    talk.open()
    start = time.monotonic()
    talk.session.tick(start + KEEP_ALIVE - 1)
    assert not any(packet.first == 0xC0 for packet in talk.wire.written)
    talk.session.tick(start + KEEP_ALIVE + 1)
    assert any(packet.first == 0xC0 for packet in talk.wire.written)
    talk.session.tick(start + KEEP_ALIVE + 2 + ANSWERS_WITHIN)
    assert (talk.wire.is_closed, talk.agent.tally.connected) == (True, 0)
    assert "does not answer" in talk.agent.tally.last_error


def test_a_farewell_waits_for_the_broker(talk: Talk) -> None:
    """`offline` is published retained; the connection ends with a DISCONNECT once the broker has taken it."""
    talk.open().session.sign_off()
    (number,) = [
        packets.message(packet).packet_id
        for packet in talk.wire.written
        if packet.first == 0x33 and b'"offline"' in packet.body
    ]
    assert not talk.wire.is_closed
    talk.session.data_received(b"\x40\x02" + number.to_bytes(2))
    assert talk.wire.is_closed
    assert talk.wire.written[-1].first == 0xE0


def test_heartbeats_keep_their_interval(loop: asyncio.AbstractEventLoop) -> None:
    """After the first of a session one follows in each interval, at some phase; without an interval none does."""

    async def begin(interval: float | None) -> Talk:
        return Talk(interval).open()

    for interval, expected in ((10.0, {3, 4}), (None, {1})):
        talk = loop.run_until_complete(begin(interval))
        start = time.monotonic()
        for second in range(1, 30):
            talk.session.tick(start + second)
        assert len(talk.wire.published(topics.HEARTBEAT)) in expected
