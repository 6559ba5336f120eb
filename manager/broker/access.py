"""What the broker asks before it lets anybody in or lets a message through; no transport and no store here."""

from typing import Literal, Protocol

Action = Literal["publish", "subscribe", "receive"]


class Authenticator(Protocol):
    """Knows who may connect."""

    def authenticate(self, username: str | None, password: str | None, client_id: str) -> bool:
        """Return whether this CONNECT is let in; asked before anything of a stored session is touched."""
        ...


class AccessControl(Protocol):
    """Knows what those who are connected may do."""

    def may(self, action: Action, username: str | None, client_id: str, topic: str) -> bool:
        """Return whether a client may publish to, or receive from, a topic, or subscribe to a filter.

        `receive` is asked for every delivery, live, queued or retained, so it must be cheap.
        """
        ...

    def payer(self, username: str | None, client_id: str) -> str | None:
        """Return who pays for what a client publishes, all its connections together; None if nobody has to."""
        ...


class MayRetain(Protocol):
    """Knows the topics on which messages are retained."""

    def __call__(self, topic: str, /) -> bool:
        """Return whether a retain flag on this topic is obeyed; elsewhere it is stripped."""
        ...
