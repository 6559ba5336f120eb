"""amqtt's broker, hardened: the same listeners, codecs and life cycle, with the defects of 0.12.1 mended.

What was wrong, and where it is mended:

- A client got retained messages of other clients' subscriptions, past the access control: `Exchange.send_retained`
  answers the subscriber's own filters only, each message past the access control; a resumed session gets none.
- A wrong password ended the delivery of the client whose id it carried: `_admit` authenticates first, and refuses an
  id that belongs to another user's session.
- Unacknowledged QoS 1 was lost after five seconds or a disconnect, and there was no in-flight window: `Outbox`.
- The keep-alive was not enforced: `HardenedHandler._watch`.
- A takeover left the old connection open: `_admit` ends it, and publishes its will before the new client is let in.
- Every subscription was looked at for each message: `SubscriptionIndex`; every retained message for each
  subscription: `RetainedMessages`.
- The whole subscription map was written out at each SUBSCRIBE: `HardenedHandler` serves it without.
- Connections beyond the limit hung, and those without a CONNECT stayed open: `stream_connected`, `_introduce`.
- Nobody was slowed down who publishes without end: `HardenedHandler._slow_down`.
- Nothing was bounded in bytes: `read_packet`, `Outbox`, `HardenedHandler._receive`; nor stored sessions: `_suspend`.
- A retain flag was obeyed on every topic, and wills were not checked: `Exchange.publish`, for wills too.
- An MQTT 5 client got no answer: `read_introduction` says "unsupported version" in MQTT 5's words.
- QoS 0 was delivered as QoS 1, queued messages as retained, `$share` was granted and never served: `Exchange`.

A publisher's order holds because its packets are handled one after another, and each is in the queues of all its
subscribers before the next is read.
"""

import asyncio
import socket
import ssl
from functools import partial

import structlog
from amqtt.adapters import StreamReaderAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from manager.broker.access import AccessControl, Authenticator, MayRetain
from manager.broker.errors import require_pinned_amqtt
from manager.broker.handler import AbortableWriter, HardenedHandler
from manager.broker.handshake import (
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    Introduction,
    RefusedError,
    connack,
    read_introduction,
)
from manager.broker.limits import BrokerLimits
from manager.broker.message import Message
from manager.broker.packets import ConnectionLostError, PacketError
from manager.broker.routing import Exchange
from manager.broker.session import ClientSession
from manager.domain.budget import Budget, TokenBucket

_BACKLOG = 1024
_GOODBYE_SECONDS = 5.0
_EXPIRY_CHECK_SECONDS = 60.0

log = structlog.get_logger(__name__)


class HardenedBroker(Broker):
    """An MQTT 3.1.1 broker on one listening socket; `start` and `shutdown` are amqtt's.

    Args:
        listener: a socket that is bound and listens; the broker closes it at `shutdown`.
        authenticator: says who may connect.
        access: says what a client may publish, subscribe to and receive.
        may_retain: says on which topics messages are retained.
        limits: what a client may cost.
        tls: the server's certificate and key, or None for plain TCP.

    Raises:
        WrongAmqttVersionError: the installed amqtt is not the one that this class was made for.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        authenticator: Authenticator,
        access: AccessControl,
        may_retain: MayRetain,
        limits: BrokerLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        require_pinned_amqtt()
        super().__init__(BrokerConfig(listeners={"default": ListenerConfig(bind="socket:0")}, plugins={}))
        self._listener = listener
        self._tls = tls
        self._limits = limits or BrokerLimits()
        self._authenticator = authenticator
        self._clients: dict[str, ClientSession] = {}
        self._by_user: dict[str | None, dict[str, ClientSession]] = {}
        self._exchange = Exchange(self._clients, access, may_retain)
        self._open: set[AbortableWriter] = set()
        limits = self._limits
        self._budget = Budget(limits.publish_messages, limits.publish_bytes, limits.publish_burst)
        self._purses: dict[str, TokenBucket] = {}

    @property
    def port(self) -> int:
        """The port that the broker listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    def session(self, client_id: str) -> ClientSession | None:
        """Return the session of a client id, connected or stored."""
        return self._clients.get(client_id)

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> asyncio.Server:
        """Serve the socket that was given: whoever made it has waited for its port and knows it."""
        del listener_type, address, port, ssl_context
        connected = partial(self.stream_connected, listener_name=listener_name)
        return await asyncio.start_server(
            connected,
            sock=self._listener,
            backlog=_BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=self._limits.connect_seconds if self._tls else None,
        )

    async def stream_connected(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        listener_name: str,
    ) -> None:
        """Serve one connection from its first byte to its last; nothing that goes wrong in it leaves it."""
        del listener_name
        sink = AbortableWriter(writer)
        if len(self._open) >= self._limits.connections:
            log.warning("connection_refused", reason="too many connections", limit=self._limits.connections)
            sink.abort()
            return
        self._open.add(sink)
        try:
            await self._converse(StreamReaderAdapter(reader), sink)
        except (TimeoutError, PacketError, ConnectionLostError) as error:
            log.info("connection_ended", peer=sink.get_peer_info(), reason=str(error) or type(error).__name__)
        except RefusedError as refusal:
            log.info("client_refused", peer=sink.get_peer_info(), reason=str(refusal))
            sink.write(refusal.answer)
            await sink.finish(_GOODBYE_SECONDS)
        except Exception:
            log.exception("connection_failed", peer=sink.get_peer_info())
        finally:
            sink.abort()
            self._open.discard(sink)

    async def _converse(self, reader: StreamReaderAdapter, writer: AbortableWriter) -> None:
        introduction = await self._introduce(reader)
        session, present = self._admit(introduction)
        handler = HardenedHandler(
            plugins=self.plugins_manager,
            exchange=self._exchange,
            session=session,
            reader=reader,
            writer=writer,
            limits=self._limits,
            purse=self._purse_of(session),
        )
        session.connection = handler
        session.transitions.connect()
        session.outbox.rewind()
        handler.answer(connack(0, session_present=present))
        polite = False
        try:
            polite = await handler.serve()
        finally:
            if session.connection is handler:
                self._end(session, with_will=not polite)

    async def _introduce(self, reader: StreamReaderAdapter) -> Introduction:
        read = read_introduction(reader, self._limits.connect_bytes)
        return await asyncio.wait_for(read, self._limits.connect_seconds)

    def _admit(self, introduction: Introduction) -> tuple[ClientSession, bool]:
        """Return the session that serves a client, and whether it was stored.

        Raises:
            RefusedError: who connects is not who it says, or uses the client id of another user.
        """
        client_id, username = introduction.client_id, introduction.username
        try:
            known = self._authenticator.authenticate(username, introduction.password, client_id)
        except Exception as error:
            log.exception("authentication_failed", username=username)
            raise RefusedError("nobody can be authenticated now", connack(SERVER_UNAVAILABLE)) from error
        if not known:
            raise RefusedError("wrong credentials", connack(NOT_AUTHORIZED))
        stored = self._clients.get(client_id)
        if stored is not None and stored.username != username:
            raise RefusedError("the client id is another user's", connack(IDENTIFIER_REJECTED))
        if stored is not None and stored.connection is not None:
            log.info("session_taken_over", client_id=client_id, username=username)
            self._end(stored, with_will=True)
        if stored is not None and introduction.clean_session:
            self._forget(stored)
        session = self._clients.get(client_id)
        present = session is not None
        if session is None:
            session = self._create(client_id, username)
        session.clean_session = introduction.clean_session
        session.keep_alive = introduction.keep_alive
        session.will = introduction.will
        session.will_flag = introduction.will is not None
        session.will_retain = introduction.will_retain
        return session, present

    def _purse_of(self, session: ClientSession) -> TokenBucket | None:
        """Return what pays for a client's publications; it outlives the connection, or a new one would be free."""
        payer = self._exchange.payer(session)
        if payer is None:
            return None
        return self._purses.setdefault(payer, TokenBucket(self._budget, self._loop.time()))

    def _create(self, client_id: str, username: str | None) -> ClientSession:
        session = ClientSession(client_id, username, self._limits)
        self._clients[client_id] = session
        self._by_user.setdefault(username, {})[client_id] = session
        return session

    def _end(self, session: ClientSession, *, with_will: bool) -> None:
        """End a session's connection, at once; a session that is not stored ends with it."""
        connection, session.connection = session.connection, None
        if connection is not None:
            connection.cut()
        session.transitions.disconnect()
        will, session.will = session.will, None
        if with_will and will is not None:
            self._exchange.publish(session, will, retain=bool(session.will_retain))
        if session.clean_session:
            self._forget(session)
        else:
            self._suspend(session)

    def _suspend(self, session: ClientSession) -> None:
        session.offline_since = self._loop.time()
        stored = [s for s in self._by_user[session.username].values() if s.connection is None]
        if len(stored) > self._limits.offline_sessions_per_user:
            self._forget(min(stored, key=lambda s: s.offline_since))

    def _forget(self, session: ClientSession) -> None:
        if self._clients.pop(session.client_id, None) is None:
            return
        self._exchange.forget(session)
        of_user = self._by_user[session.username]
        del of_user[session.client_id]
        if not of_user:
            del self._by_user[session.username]

    def disconnect(self, username: str) -> int:
        """End every connection of a user and forget its sessions; return how many sessions it had.

        No will is published: a user who is cut off by the manager has nothing more to say.
        """
        sessions = list(self._by_user.get(username, {}).values())
        for session in sessions:
            if session.connection is not None:
                self._end(session, with_will=False)
            self._forget(session)
        return len(sessions)

    async def _session_monitor(self) -> None:
        """Forget, once a minute, the stored sessions whose clients have stayed away too long, and full purses."""
        while True:
            await asyncio.sleep(_EXPIRY_CHECK_SECONDS)
            now = self._loop.time()
            self._purses = {payer: purse for payer, purse in self._purses.items() if not purse.is_full(now)}
            before = now - self._limits.session_seconds
            for session in list(self._clients.values()):
                if session.connection is None and session.offline_since < before:
                    self._forget(session)

    async def _broadcast_message(
        self,
        session: object,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        """Publish in the broker's own name, at once; amqtt's queue and its loop have nothing to do."""
        del session
        self._exchange.route(Message(topic or "", bytes(data or b""), force_qos or 0))

    async def retain_message(
        self,
        source_session: object,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Retain in the broker's own name, where messages are retained at all."""
        del source_session
        self._exchange.keep(Message(topic_name or "", bytes(data or b""), qos or 0))

    async def shutdown(self) -> None:
        """Stop listening, cut every connection without its will, and end as amqtt does."""
        for server in self._servers.values():
            server.instance.close()
        for session in list(self._clients.values()):
            if session.connection is not None:
                self._end(session, with_will=False)
        for writer in list(self._open):
            writer.abort()
        await super().shutdown()
