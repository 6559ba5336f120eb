"""Ports of the embedded broker for authentication and access control."""

from typing import Literal, Protocol

Action = Literal["publish", "subscribe", "receive"]


class Authenticator(Protocol):
    """Decides which clients may connect."""

    def authenticate(self, username: str | None, password: str | None, client_id: str) -> bool:
        """Return whether this CONNECT is accepted; called before a stored session is touched."""
        ...


class AccessControl(Protocol):
    """Decides what connected clients may do."""

    def may(self, action: Action, username: str | None, client_id: str, topic: str) -> bool:
        """Return whether a client may publish to a topic, receive from it, or subscribe to a filter.

        `receive` is called for every delivery, live, queued or retained, so it must be cheap.
        """
        ...

    def is_guest(self, username: str | None) -> bool:
        """Return whether the user's password is public, as that of registering clients, which have separate limits."""
        ...

    def rate_limit_key(self, username: str | None, client_id: str) -> str | None:
        """Return the key of the token bucket for a client's publications; None for no limit.

        Connections with one key share one bucket. Guests are limited by their networks instead.
        """
        ...


class MayRetain(Protocol):
    """Decides on which topics messages are retained."""

    def __call__(self, topic: str, /) -> bool:
        """Return whether the retain flag is allowed on this topic; on other topics it is cleared."""
        ...
