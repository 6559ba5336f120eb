"""The interface `Link`: one connection to the manager, its operations and its events.

A link never reconnects: after `Closed` the guard dials a new one, so no message of an old connection is resent
automatically. A link posts its events through the `Post` that it was dialled with, from any thread.

Both kinds of link use the rows of the topic table: each publish or subscription over MQTT has its request over HTTP
(`agent.link.request_queue`). A message from a broker is a `MessageReceived` and must be verified by its message code or
signature. `RegistrationAnswered`, `ReceiptReceived`, `PolicyReceived` and `GenerationReceived` are a manager's HTTP
answers; no link over a broker posts them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas.generations import StoreGeneration
from schemas.threats import Receipt
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Account:
    """The credentials and identifiers of a link.

    Attributes:
        client_id: The MQTT client id; a broker allows one connection for each.
        username: The MQTT user name.
        password: The MQTT password; over HTTP the bearer token, empty for none.
        identifiers: The ids in the topics of this link, by placeholder.
    """

    client_id: str
    username: str
    password: str = field(repr=False)
    identifiers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Will:
    """The MQTT last will; HTTP has none."""

    row: Topic
    payload: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The other side accepted the connection.

    Attributes:
        peer: The address at which the broker or manager is reached, if the link knows.
    """

    peer: str | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection ended or could not be opened.

    Attributes:
        reason: A short phrase.
        unauthorized: The credentials were refused; a retry with the same ones cannot succeed.
        retry_after: Seconds to wait before a retry, as the other side asked.
    """

    reason: str
    unauthorized: bool = False
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A `subscribe` is answered; `refused` are the rows that will not be delivered."""

    rows: tuple[Topic, ...]
    refused: tuple[Topic, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered:
    """The message with this number was acknowledged."""

    number: int


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message on a subscribed row, under one of the link's own ids."""

    row: Topic
    payload: bytes


@dataclass(frozen=True, slots=True)
class RegistrationAnswered:
    """The manager has answered a registration over HTTP: the answer's status and body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ReceiptReceived:
    """A receipt that the manager answered over HTTP."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class PolicyReceived:
    """A policy that the manager answered over HTTP: unsigned JSON, authenticated by the connection."""

    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GenerationReceived:
    """The generation of the manager's store, which the manager answered over HTTP."""

    generation: StoreGeneration


Event = (
    Opened
    | Closed
    | Subscribed
    | Delivered
    | MessageReceived
    | RegistrationAnswered
    | ReceiptReceived
    | PolicyReceived
    | GenerationReceived
)


class Link(Protocol):
    """One connection to the manager, from dialing to its end."""

    def subscribe(self, *rows: Topic) -> None:
        """Subscribe to these rows of the topic table under the account's ids; a `Subscribed` follows."""
        ...

    def unsubscribe(self, row: Topic) -> None:
        """Unsubscribe from a row."""
        ...

    def publish(self, row: Topic, payload: bytes) -> int | None:
        """Send a message on a row; return its number, which `Delivered` repeats for QoS 1.

        Returns None if the link is not open: nothing was sent, and `Closed` follows or was posted before.
        """
        ...

    def close(self, patience: float = 0.0) -> None:
        """Disconnect cleanly, without the last will; no event is posted any more.

        Args:
            patience: Seconds to wait until the other side is notified.
        """
        ...


Post = Callable[[Link, Event], None]


class Dialer(Protocol):
    """Opens links to one address."""

    def __call__(self, account: Account, will: Will | None, post: Post) -> Link:
        """Start connecting and return at once; `Opened` or `Closed` follows."""
        ...
