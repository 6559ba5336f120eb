"""The interface `Link`: one connection to the manager, its operations and its events.

A link never reconnects: after `Closed` the guard dials a new one, so nothing of an old connection is sent again by
itself. A link posts its events through the `Post` that it was dialled with, from any thread.

Both kinds of link use the rows of the topic table: each publish or subscription over MQTT has its request over HTTP
(`agent.link.request_queue`). A message that came through a broker is `Received` and must prove itself by its code or
signature. `Replied`, `Settled` and `Offered` are a manager's own answers; no link over a broker posts them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas.threats import Receipt
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Account:
    """The credentials and identifiers that a link connects with.

    Attributes:
        client_id: The MQTT client id; a broker keeps one connection for each.
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
    """The connection is accepted.

    Attributes:
        peer: The address at which the broker or manager is reached, if the link knows.
    """

    peer: str | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over, or never came about.

    Attributes:
        reason: One short phrase.
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
    """The message with this number is acknowledged."""

    number: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message of a row that this link subscribed to, under one of its own ids."""

    row: Topic
    payload: bytes


@dataclass(frozen=True, slots=True)
class Replied:
    """The manager has answered a registration over HTTP: the answer's status and body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Settled:
    """A receipt that the manager answered over HTTP."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Offered:
    """A policy that the manager answered over HTTP: unsigned JSON, authenticated by the connection."""

    document: Mapping[str, Any]


Event = Opened | Closed | Subscribed | Delivered | Received | Replied | Settled | Offered


class Link(Protocol):
    """One connection, open or not yet."""

    def subscribe(self, *rows: Topic) -> None:
        """Ask for the messages of these rows under the account's ids; a `Subscribed` follows."""
        ...

    def unsubscribe(self, row: Topic) -> None:
        """Ask for no more messages of a row."""
        ...

    def publish(self, row: Topic, payload: bytes) -> int | None:
        """Send a message as its row says; return its number, which `Delivered` repeats for a QoS of 1.

        None if the link is not open: then nothing was sent, and `Closed` follows or has been.
        """
        ...

    def close(self, patience: float = 0.0) -> None:
        """Sign off: no will, and nothing is told any more.

        Args:
            patience: Seconds to wait until the other side has been told.
        """
        ...


Post = Callable[[Link, Event], None]


class Dialer(Protocol):
    """Opens links to one address."""

    def __call__(self, account: Account, will: Will | None, post: Post) -> Link:
        """Start connecting and return at once; `Opened` or `Closed` follows."""
        ...
