"""A client's session: what amqtt keeps of it, its outbox, its will, and the connection that serves it, if any."""

from typing import Any, Literal, Protocol, cast

from amqtt.session import Session

from manager.broker.delivery_queue import Outbox
from manager.broker.limits import BrokerLimits
from manager.broker.message import Message


class Connection(Protocol):
    """What a session knows of the connection that serves it."""

    def wake(self) -> None:
        """Look into the outbox: there is something to send."""
        ...

    def cut(self) -> None:
        """End the connection at once, whatever it is doing."""
        ...


class SessionState:
    """Whether a session is connected, for amqtt's eyes; its own state machine costs 30 KB a session."""

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
    """A session of the hardened broker, bound to the user who opened it."""

    def __init__(self, client_id: str, username: str | None, limits: BrokerLimits) -> None:
        super().__init__()
        self.client_id: str = client_id
        self.username = username
        self.outbox = Outbox(limits)
        self.connection: Connection | None = None
        self.will: Message | None = None
        self.incomplete: set[int] = set()
        """Packet ids of QoS 2 messages that were taken and not yet released (MQTT 3.1.1, 4.3.3)."""

        self.denials = 0
        """Publications and subscriptions refused; the first is logged."""

        self.offline_since = 0.0
        """Of the loop's clock; means something while no connection serves the session."""

    def _init_states(self) -> None:
        # amqtt declares its own machine here and asks it nothing that this one has not.
        self.transitions = cast("Any", SessionState())

    def deliver(self, message: Message, qos: int, *, retain: bool = False) -> None:
        """Send a message, or keep it for the next connection; QoS 0 is not kept."""
        connection = self.connection
        if connection is None:
            if qos and not self.clean_session:
                self.outbox.put(message, qos, retain=retain)
            return
        self.outbox.put(message, qos, retain=retain)
        connection.wake()
