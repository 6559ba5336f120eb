"""Routes messages to subscribers; every publication, subscription and delivery is authorized. No I/O."""

from collections.abc import Mapping

import structlog

from manager.broker.access import AccessControl, Action, MayRetain
from manager.broker.delivery.client_session import ClientSession
from manager.broker.delivery.message import Message
from manager.broker.delivery.retained_messages import RetainedMessages
from manager.broker.delivery.subscription_index import SubscriptionIndex, is_filter, is_topic

REFUSED = 0x80
"""SUBACK return code of a refused filter (MQTT 3.1.1, 3.9.3)."""

_HIGHEST_GRANT = 1

log = structlog.get_logger(__name__)


class MessageRouter:
    """Subscriptions, retained messages, and the delivery to subscribers."""

    def __init__(self, sessions: Mapping[str, ClientSession], access: AccessControl, may_retain: MayRetain) -> None:
        self._sessions = sessions
        self._access = access
        self._may_retain = may_retain
        self._subscriptions = SubscriptionIndex()
        self._retained = RetainedMessages()

    def _may(self, action: Action, session: ClientSession, topic: str) -> bool:
        try:
            return self._access.may(action, session.username, session.client_id, topic)
        except Exception:
            # Access control reads a store: while the store fails, every action is refused and the broker continues.
            log.exception("access_control_failed", action=action, client_id=session.client_id)
            return False

    def _count_denial(self, action: Action, session: ClientSession, topic: str) -> None:
        # Logged once per session, so that a client with a thousand attempts a second does not fill the log.
        session.denials += 1
        if session.denials == 1:
            log.warning("denied", action=action, client_id=session.client_id, username=session.username, topic=topic)

    def is_guest(self, username: str | None) -> bool:
        """Return whether the user's password is public."""
        return self._access.is_guest(username)

    def rate_limit_key(self, session: ClientSession) -> str | None:
        """Return the key of the token bucket for a client's publications; None for no limit."""
        return self._access.rate_limit_key(session.username, session.client_id)

    def publish(self, sender: ClientSession, message: Message, *, retain: bool) -> None:
        """Publish a client's message or will; a publication that is not allowed has no effect."""
        if not is_topic(message.topic) or not self._may("publish", sender, message.topic):
            self._count_denial("publish", sender, message.topic)
            return
        if retain:
            self.keep(message)
        self.route(message)

    def keep(self, message: Message) -> None:
        """Retain a message, or clear its topic, if messages of the topic are retained."""
        if self._may_retain(message.topic):
            self._retained.keep(message)

    def route(self, message: Message) -> None:
        """Deliver a message to every session that is subscribed to its topic and may receive it."""
        topic = message.topic
        for client_id, granted in self._subscriptions.match(topic).items():
            session = self._sessions[client_id]
            if self._may("receive", session, topic):
                session.deliver(message, min(granted, message.qos))

    def subscribe(self, session: ClientSession, topic_filter: str, qos: int) -> int:
        """Grant a filter and return the QoS granted, or `REFUSED`.

        QoS 2 is granted as QoS 1, which MQTT 3.1.1, 3.8.4 allows: no topic of the contract needs it.
        """
        if not is_filter(topic_filter) or not self._may("subscribe", session, topic_filter):
            self._count_denial("subscribe", session, topic_filter)
            return REFUSED
        granted = min(qos, _HIGHEST_GRANT)
        self._subscriptions.add(session.client_id, topic_filter, granted)
        return granted

    def send_retained(self, session: ClientSession, topic_filter: str, qos: int) -> None:
        """Deliver the retained messages that match a new subscription and that the client may receive."""
        for message in self._retained.matching(topic_filter):
            if self._may("receive", session, message.topic):
                session.deliver(message, min(qos, message.qos), retain=True)

    def unsubscribe(self, session: ClientSession, topic_filter: str) -> None:
        """Remove one filter of a client."""
        self._subscriptions.remove(session.client_id, topic_filter)

    def remove_client(self, session: ClientSession) -> None:
        """Remove all filters of a session that ends."""
        self._subscriptions.remove_client(session.client_id)
