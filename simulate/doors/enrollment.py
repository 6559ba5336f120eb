"""Registration over MQTT: sends the sealed secret and the token's proof, and verifies the manager's signed answer."""

import asyncio
import secrets
import ssl
from collections.abc import Callable

from schemas import message_codes
from schemas.keys import EnrollmentToken
from schemas.presence import ManagerKeys
from schemas.registration import RegistrationReply, Rejection
from schemas.topics import MANAGER_KEYS, REGISTRATION, REGISTRATION_REPLY
from simulate.address import Address
from simulate.agent import Agent
from simulate.doors import packets
from simulate.doors.door import DoorError
from simulate.errors import UnreachableError
from simulate.identity import Identity
from simulate.verifier import Verifier

_LOGIN = "registration"
_ANSWER_WITHIN = 5.0
_ATTEMPTS = 6
_KEEP_ALIVE = 60
_CHUNK = 65_536
_CONNECT_WITHIN = 15.0


class Enrollment:
    """Registers agents at one broker.

    Args:
        address: The broker.
        tls: Verifies the broker's certificate; None for plain text.
        token: The enrollment token.
        verifier: Verifies the manager's signatures.
        keep: Called with each identity that the manager has accepted.
    """

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None,
        token: EnrollmentToken,
        verifier: Verifier,
        keep: Callable[[Identity], None],
    ) -> None:
        self._address = address
        self._tls = tls
        self._token = token
        self._verifier = verifier
        self._keep = keep

    async def register(self, agent: Agent) -> None:
        """Register a client. A registration without an answer is sent again unchanged, also on the next connection.

        Raises:
            OSError: the connection failed, or no answer came.
            TimeoutError: the broker did not accept the connection.
            UnreachableError: the manager refuses the client, or another manager issued the token.
        """
        client_id = agent.pending[0] if agent.pending else secrets.token_hex(16)
        async with asyncio.timeout(_CONNECT_WITHIN):
            reader, writer = await asyncio.open_connection(self._address.host, self._address.port, ssl=self._tls)
        try:
            await self._converse(agent, client_id, reader, writer)
            writer.write(packets.DISCONNECT)
        finally:
            writer.close()

    async def _converse(
        self, agent: Agent, client_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        reply_topic, keys_topic = REGISTRATION_REPLY.address(client_id), MANAGER_KEYS.address()
        writer.write(packets.connect(client_id, _LOGIN, _LOGIN, _KEEP_ALIVE))
        writer.write(packets.subscribe(1, (reply_topic, keys_topic)))
        framer, attempts, has_sent = packets.Framer(), 0, False
        while attempts < _ATTEMPTS:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN):
                    data = await reader.read(_CHUNK)
            except TimeoutError:
                attempts += 1
                if has_sent:
                    self._send(agent, writer)
                continue
            if not data:
                raise DoorError("the broker ended the connection of a client that registers")
            for packet in framer.feed(data):
                message = self._message(packet, writer)
                if message is None:
                    continue
                if message.topic == keys_topic and not has_sent:
                    has_sent = self._take_keys(agent, client_id, message.payload)
                    self._send(agent, writer)
                elif message.topic == reply_topic and self._is_answered(agent, client_id, message.payload):
                    return
        what = "has not answered a registration" if has_sent else "has not announced its keys at this broker"
        raise DoorError(f"the manager {what}: see that it is connected to its broker")

    def _message(self, packet: packets.Packet, writer: asyncio.StreamWriter) -> packets.Message | None:
        if packet.kind == packets.CONNACK and packets.return_code(packet):
            raise DoorError("the broker refuses clients that register")
        if packet.kind == packets.SUBACK and not packets.are_granted(packet):
            raise DoorError("the broker refuses the subscriptions of a client that registers")
        if packet.kind != packets.PUBLISH:
            return None
        message = packets.message(packet)
        if message.packet_id:
            writer.write(packets.acknowledge(message.packet_id))
        return message

    def _take_keys(self, agent: Agent, client_id: str, payload: bytes) -> bool:
        keys = self._verifier.shared(MANAGER_KEYS, None, payload)
        if not isinstance(keys, ManagerKeys):
            raise UnreachableError(
                "the manager at this broker is not the one that issued the enrollment token: take a token from it"
            )
        if agent.pending is None:
            agent.pending = client_id, agent.registration(self._token, keys.seal_key, client_id)
        return True

    @staticmethod
    def _send(agent: Agent, writer: asyncio.StreamWriter) -> None:
        if agent.pending is not None:
            client_id, payload = agent.pending
            writer.write(packets.publish(REGISTRATION.address(client_id), payload, 2))

    def _is_answered(self, agent: Agent, client_id: str, payload: bytes) -> bool:
        answer = self._verifier.own(REGISTRATION_REPLY, client_id, payload)
        if (
            agent.pending is None
            or not isinstance(answer, RegistrationReply | Rejection)
            or answer.client_id != client_id
        ):
            agent.tally.ignored += 1
            return False
        if isinstance(answer, Rejection):
            if answer.digest != message_codes.payload_digest(agent.pending[1]):
                agent.tally.ignored += 1
                return False
            raise UnreachableError(f"the manager refuses {agent.identity.hostname}: {answer.reason}")
        agent.pending = None
        identity = agent.identity
        identity.agent_id, identity.organization_id = answer.agent_id, answer.organization_id
        identity.session = max(identity.session, answer.session)
        agent.tally.registered += 1
        self._keep(identity)
        return True
