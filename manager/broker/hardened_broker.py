"""The hardened broker: amqtt's listeners, codecs and life cycle, with the defects of 0.12.1 fixed.

The defects, and the code that fixes each:

- A client got retained messages of other clients' subscriptions, without authorization: `MessageRouter.send_retained`
  answers the subscriber's own filters only and authorizes each message; a resumed session gets none.
- A wrong password ended the delivery of the client whose id it carried: `_admit` authenticates first, and refuses an
  id that belongs to another user's session.
- Unacknowledged QoS 1 was lost after five seconds or a disconnect, and there was no in-flight window: `DeliveryQueue`.
- The keep-alive was not enforced: `ConnectionHandler._check_keep_alive`.
- A takeover left the old connection open: `_admit` ends it, and publishes its will before the new client is accepted.
- Each message visited every subscription: `SubscriptionIndex`; each subscription visited every retained message:
  `RetainedMessages`.
- The whole subscription map was logged at each SUBSCRIBE: `ConnectionHandler` handles SUBSCRIBE itself.
- Connections beyond the limit hung, and those without a CONNECT stayed open: `ConnectionSlots`, `_read_connect`.
- Publishing had no rate limit: `ConnectionHandler._slow_down`.
- Nothing was bounded in bytes: `read_packet`, `DeliveryQueue`, `ConnectionHandler._receive`; nor were stored sessions:
  `_store`.
- A retain flag was obeyed on every topic, and wills were not authorized: `MessageRouter.publish`, for wills too.
- An MQTT 5 client got no answer: `read_connect` answers with an MQTT 5 CONNACK, "unsupported version".
- QoS 0 was delivered as QoS 1, queued messages as retained, `$share` was granted and never served: `MessageRouter`.

A publisher's order holds because its packets are handled one after another, and each is in the queues of all its
subscribers before the next is read.
"""

import asyncio
import socket
import ssl
from functools import partial
from typing import cast

import structlog
from amqtt.adapters import StreamReaderAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from manager.broker.access import AccessControl, Authenticator, MayRetain
from manager.broker.connection.acceptor import Acceptor
from manager.broker.connection.connect_packet import (
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    ConnectRequest,
    RefusedError,
    connack,
    read_connect,
)
from manager.broker.connection.connection_handler import AbortableWriter, ConnectionHandler
from manager.broker.connection.connection_slots import ConnectionSlots, network_of
from manager.broker.connection.packet_reader import ConnectionLostError, PacketError
from manager.broker.delivery.client_session import ClientSession
from manager.broker.delivery.message import Message
from manager.broker.delivery.message_router import MessageRouter
from manager.broker.errors import require_pinned_amqtt
from manager.broker.limits import BrokerLimits
from manager.domain.budget import Budget, TokenBucket

_GOODBYE_SECONDS = 5.0
_EXPIRY_CHECK_SECONDS = 60.0

log = structlog.get_logger(__name__)


class HardenedBroker(Broker):
    """An MQTT 3.1.1 broker on one listening socket; `start` and `shutdown` are amqtt's.

    Args:
        listener: a socket that is bound and listens; the broker closes it at `shutdown`.
        authenticator: decides which clients may connect.
        access: decides on publications, subscriptions and deliveries.
        may_retain: returns whether messages of a topic are retained.
        limits: resource limits.
        tls: the server's certificate and key, or None for plain TCP.

    Raises:
        WrongAmqttVersionError: the installed amqtt is not the version that this class overrides.
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
        self._router = MessageRouter(self._clients, access, may_retain)
        limits = self._limits
        self._slots = ConnectionSlots(limits)
        self._budget = Budget(limits.publish_messages, limits.publish_bytes, limits.publish_burst)
        self._guest_budget = Budget(limits.registration_messages, limits.registration_bytes, limits.publish_burst)
        self._buckets: dict[str, TokenBucket] = {}

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
        """Serve the given socket; the caller has bound it and knows its port."""
        del listener_type, address, port, ssl_context
        acceptor = Acceptor(
            self._listener,
            self._slots,
            partial(self.stream_connected, listener_name=listener_name),
            tls=self._tls,
            handshake_seconds=self._limits.connect_seconds,
        )
        return cast("asyncio.Server", acceptor)  # amqtt calls `close` and `wait_closed` of it

    async def stream_connected(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        listener_name: str,
    ) -> None:
        """Serve one connection from its first byte to its last; raises no errors."""
        del listener_name
        client = AbortableWriter(writer)
        try:
            await self._serve_connection(StreamReaderAdapter(reader), client)
        except (TimeoutError, PacketError, ConnectionLostError) as error:
            log.info("connection_ended", peer=client.get_peer_info(), reason=str(error) or type(error).__name__)
        except RefusedError as refusal:
            log.info("client_refused", peer=client.get_peer_info(), reason=str(refusal))
            client.write(refusal.answer)
            await client.finish(_GOODBYE_SECONDS)
        except Exception:
            log.exception("connection_failed", peer=client.get_peer_info())
        finally:
            client.abort()

    async def _serve_connection(self, reader: StreamReaderAdapter, writer: AbortableWriter) -> None:
        request = await self._read_connect(reader)
        guest = self._router.is_guest(request.username)
        session, present = self._admit(request, guest=guest)
        handler = ConnectionHandler(
            plugins=self.plugins_manager,
            router=self._router,
            session=session,
            reader=reader,
            writer=writer,
            limits=self._limits,
            bucket=self._bucket_of(session, writer, guest=guest),
        )
        session.connection = handler
        session.transitions.connect()
        session.queue.rewind()
        handler.answer(connack(0, session_present=present))
        clean_end = False
        try:
            async with asyncio.timeout(self._limits.registration_seconds if guest else None):
                clean_end = await handler.serve()
        finally:
            if session.connection is handler:
                self._end(session, with_will=not clean_end)

    async def _read_connect(self, reader: StreamReaderAdapter) -> ConnectRequest:
        read = read_connect(reader, self._limits.connect_bytes)
        return await asyncio.wait_for(read, self._limits.connect_seconds)

    def _admit(self, request: ConnectRequest, *, guest: bool) -> tuple[ClientSession, bool]:
        """Authenticate a client; return its session, and whether the session was stored.

        Raises:
            RefusedError: the credentials are wrong, or the client id belongs to another user.
        """
        client_id, username = request.client_id, request.username
        try:
            accepted = self._authenticator.authenticate(username, request.password, client_id)
        except Exception as error:
            log.exception("authentication_failed", username=username)
            raise RefusedError("authentication is not possible just now", connack(SERVER_UNAVAILABLE)) from error
        if not accepted:
            raise RefusedError("wrong credentials", connack(NOT_AUTHORIZED))
        reason = self._slots.admit(asyncio.current_task(), username, guest=guest)
        if reason is not None:
            log.warning("connection_refused", reason=reason, username=username)
            raise RefusedError(reason, connack(SERVER_UNAVAILABLE))
        stored = self._clients.get(client_id)
        if stored is not None and stored.username != username:
            raise RefusedError("the client id belongs to another user", connack(IDENTIFIER_REJECTED))
        if stored is not None and stored.connection is not None:
            log.info("session_taken_over", client_id=client_id, username=username)
            self._end(stored, with_will=True)
        if stored is not None and (request.clean_session or guest):
            self._delete(stored)
        session = self._clients.get(client_id)
        present = session is not None
        if session is None:
            session = self._create(client_id, username, guest=guest)
        # A guest's session is not stored, because anyone could open any number of them.
        session.clean_session = request.clean_session or guest
        session.keep_alive = request.keep_alive
        session.will = request.will
        session.will_flag = request.will is not None
        session.will_retain = request.will_retain
        return session, present

    def _bucket_of(self, session: ClientSession, writer: AbortableWriter, *, guest: bool) -> TokenBucket | None:
        """Return a client's token bucket, which outlives the connection, so that a reconnect does not refill it."""
        if guest:
            address, _ = writer.get_peer_info() or ("", 0)
            guest_key = f"{session.username}@{network_of(str(address))}"
            return self._buckets.setdefault(guest_key, TokenBucket(self._guest_budget, self._loop.time()))
        key = self._router.rate_limit_key(session)
        if key is None:
            return None
        return self._buckets.setdefault(key, TokenBucket(self._budget, self._loop.time()))

    def _create(self, client_id: str, username: str | None, *, guest: bool) -> ClientSession:
        queue_bytes = self._limits.registration_queue_bytes if guest else None
        session = ClientSession(client_id, username, self._limits, queue_bytes)
        self._clients[client_id] = session
        self._by_user.setdefault(username, {})[client_id] = session
        return session

    def _end(self, session: ClientSession, *, with_will: bool) -> None:
        """Close a session's connection at once; a clean session ends with it."""
        connection, session.connection = session.connection, None
        if connection is not None:
            connection.cut()
        session.transitions.disconnect()
        will, session.will = session.will, None
        if with_will and will is not None:
            self._router.publish(session, will, retain=bool(session.will_retain))
        if session.clean_session:
            self._delete(session)
        else:
            self._store(session)

    def _store(self, session: ClientSession) -> None:
        session.offline_since = self._loop.time()
        stored = [s for s in self._by_user[session.username].values() if s.connection is None]
        if len(stored) > self._limits.offline_sessions_per_user:
            self._delete(min(stored, key=lambda s: s.offline_since))

    def _delete(self, session: ClientSession) -> None:
        if self._clients.pop(session.client_id, None) is None:
            return
        self._router.remove_client(session)
        of_user = self._by_user[session.username]
        del of_user[session.client_id]
        if not of_user:
            del self._by_user[session.username]

    def disconnect(self, username: str) -> int:
        """Close every connection of a user and delete its sessions; return the number of sessions.

        No will is published, because the manager has removed or suspended the user.
        """
        sessions = list(self._by_user.get(username, {}).values())
        for session in sessions:
            if session.connection is not None:
                self._end(session, with_will=False)
            self._delete(session)
        return len(sessions)

    async def _session_monitor(self) -> None:
        """Delete, once a minute, expired stored sessions and full token buckets."""
        while True:
            await asyncio.sleep(_EXPIRY_CHECK_SECONDS)
            now = self._loop.time()
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.is_full(now)}
            before = now - self._limits.session_seconds
            for session in list(self._clients.values()):
                if session.connection is None and session.offline_since < before:
                    self._delete(session)

    async def _broadcast_message(
        self,
        session: object,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        """Publish a message of the broker itself at once; amqtt's queue and loop are not used."""
        del session
        self._router.route(Message(topic or "", bytes(data or b""), force_qos or 0))

    async def retain_message(
        self,
        source_session: object,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Retain a message of the broker itself, if messages of the topic are retained."""
        del source_session
        self._router.keep(Message(topic_name or "", bytes(data or b""), qos or 0))

    async def shutdown(self) -> None:
        """Stop listening, close every connection without its will, and shut amqtt down."""
        for server in self._servers.values():
            server.instance.close()
        for session in list(self._clients.values()):
            if session.connection is not None:
                self._end(session, with_will=False)
        await super().shutdown()
