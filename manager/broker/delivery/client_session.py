"""A client's session: amqtt's session object, the delivery queue, the will, and the connection that serves it."""

from typing import Any, Literal, Protocol, cast

from amqtt.session import Session

from manager.broker.delivery.delivery_queue import DeliveryQueue
from manager.broker.delivery.message import Message
from manager.broker.limits import BrokerLimits


class SessionConnection(Protocol):
    """The interface of a session's connection."""

    def wake(self) -> None:
        """Send the messages in the delivery queue."""
        ...

    def cut(self) -> None:
        """Close the connection at once."""
        ...


class SessionState:
    """Connection state for amqtt; replaces its own state machine, which costs 30 KB a session."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Literal["new", "connected", "disconnected"] = "new"

    def connect(self) -> None:
        """Enter the state `connected`."""
        self.state = "connected"

    def disconnect(self) -> None:
        """Enter the state `disconnected`."""
        self.state = "disconnected"

    def is_connected(self) -> bool:
        """Return whether a connection serves the session."""
        return self.state == "connected"


class ClientSession(Session):
    """A session of the hardened broker; it belongs to the user who opened it."""

    def __init__(
        self, client_id: str, username: str | None, limits: BrokerLimits, queue_bytes: int | None = None
    ) -> None:
        super().__init__()
        self.client_id: str = client_id
        self.username = username
        self.queue = DeliveryQueue(limits, queue_bytes)
        self.connection: SessionConnection | None = None
        self.will: Message | None = None
        self.incomplete: set[int] = set()
        """Packet ids of QoS 2 messages that were received and not yet released (MQTT 3.1.1, 4.3.3)."""

        self.denials = 0
        """The number of refused publications and subscriptions; the first is logged."""

        self.offline_since = 0.0
        """The loop's time at which the connection ended; valid while no connection serves the session."""

    def _init_states(self) -> None:
        # Replaces amqtt's own state machine; SessionState has every member that amqtt uses.
        self.transitions = cast("Any", SessionState())

    def deliver(self, message: Message, qos: int, *, retain: bool = False) -> None:
        """Queue a message for the client; without a connection, drop QoS 0 and messages for clean sessions."""
        connection = self.connection
        if connection is None:
            if qos and not self.clean_session:
                self.queue.put(message, qos, retain=retain)
            return
        self.queue.put(message, qos, retain=retain)
        connection.wake()
