"""Registration over MQTT believes only the manager that issued the token, and only an answer to what was sent."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

import pytest

from schemas import message_codes, topics
from schemas.keys import ManagerKeyring
from schemas.presence import ManagerKeys
from schemas.registration import Registration, RegistrationReply, Rejection
from simulate.address import Address
from simulate.agent import Agent, Tally
from simulate.doors import packets
from simulate.doors.enrollment import Enrollment
from simulate.errors import UnreachableError
from simulate.identity import Identity
from simulate.ledger import Ledger
from simulate.outbox import Outbox
from simulate.verifier import Verifier
from tests.unit.simulate.plans import TOKEN

KEYRING, STRANGER = ManagerKeyring(bytes(32)), ManagerKeyring(bytes([1] * 32))
AGENT_ID = "ag-0000000000000007"
Answer = Callable[[str, bytes], list[bytes]]


def _accepted(client_id: str, keyring: ManagerKeyring = KEYRING, named: str = "") -> bytes:
    reply = RegistrationReply(client_id=named or client_id, agent_id=AGENT_ID, organization_id="acme", session=41)
    return message_codes.with_signature(keyring.sign_key, topics.REGISTRATION_REPLY.below_root(client_id), reply.body())


def _rejected(client_id: str, payload: bytes) -> bytes:
    digest = message_codes.payload_digest(payload)
    body = Rejection(client_id=client_id, digest=digest, error="used_token", reason="make a new token").body()
    return message_codes.with_signature(KEYRING.sign_key, topics.REGISTRATION_REPLY.below_root(client_id), body)


def _registered(answer: Answer, keyring: ManagerKeyring = KEYRING) -> Agent:
    """Have an agent register at a broker whose manager has this key and gives these answers; return the agent."""
    agent = Agent(0, Identity("sim-1-00000"), Outbox(30.0), Ledger(), Tally(), time.monotonic())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = packets.Framer()
        with contextlib.closing(writer):
            while data := await reader.read(65_536):
                for packet in framer.feed(data):
                    writer.write(_said(packet, answer, keyring))

    async def register() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address("mqtt", "127.0.0.1", server.sockets[0].getsockname()[1])
        enrollment = Enrollment(address, None, TOKEN, Verifier(TOKEN.sign_key), lambda _identity: None)
        try:
            async with asyncio.timeout(20):
                await enrollment.register(agent)
        finally:
            server.close()

    asyncio.run(register())
    return agent


def _said(packet: packets.Packet, answer: Answer, keyring: ManagerKeyring) -> bytes:
    if packet.kind == 0x10:
        return b"\x20\x02\x00\x00"
    if packet.kind == 0x80:
        keys = ManagerKeys(sign_key=keyring.sign_public, seal_key=keyring.seal_public).body()
        payload = message_codes.with_signature(keyring.sign_key, topics.MANAGER_KEYS.below_root(), keys)
        return b"\x90\x04\x00\x01\x01\x01" + packets.publish(topics.MANAGER_KEYS.address(), payload, retained=True)
    if packet.kind == packets.PUBLISH:
        message = packets.message(packet)
        client_id = message.topic.rpartition("/")[2]
        reply = topics.REGISTRATION_REPLY.address(client_id)
        return b"".join(packets.publish(reply, payload, 1) for payload in answer(client_id, message.payload))
    return b""


def test_the_managers_answer_is_taken() -> None:
    """The agent has its id and organization, and connects with a session above the one that the manager knows."""
    sent: list[bytes] = []
    agent = _registered(lambda client_id, payload: [_accepted(client_id)] if not sent.append(payload) else [])
    identity = agent.identity
    assert (identity.agent_id, identity.organization_id, identity.session) == (AGENT_ID, "acme", 41)
    assert Registration.model_validate_json(sent[0]).hostname == "sim-1-00000"
    assert (agent.pending, agent.tally.registered, agent.tally.ignored) == (None, 1, 0)


def test_false_answers_are_ignored() -> None:
    """A stranger's answer, one to somebody else, and the refusal of another registration change nothing."""

    def answer(client_id: str, payload: bytes) -> list[bytes]:
        others = json.dumps({**json.loads(payload), "hostname": "other"}).encode()
        return [
            _accepted(client_id, STRANGER),
            _accepted(client_id, named="0" * 32),
            _rejected(client_id, others),
            _accepted(client_id),
        ]

    agent = _registered(answer)
    assert (agent.identity.agent_id, agent.tally.ignored) == (AGENT_ID, 3)


def test_a_refusal_ends_the_simulation() -> None:
    """The manager's sentence is handed on, with the hostname."""
    with pytest.raises(UnreachableError, match="refuses sim-1-00000: make a new token"):
        _registered(lambda client_id, payload: [_rejected(client_id, payload)])


def test_another_manager_gets_no_registration() -> None:
    """Where the broker's manager is not the one that the token names, nothing is sent to it."""
    sent: list[bytes] = []
    with pytest.raises(UnreachableError, match="not the one that issued the enrollment token"):
        _registered(lambda _client_id, payload: [sent.append(payload) or b""], STRANGER)
    assert not sent
