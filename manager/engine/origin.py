"""The source of a command: actor, address and request id, as the audit log records them."""

from contextvars import ContextVar
from typing import NamedTuple


class Origin(NamedTuple):
    """The source of a command.

    Attributes:
        actor: `admin`, the name of an access token, an agent's id, `token:…` with the name or else the id of an
            enrollment token for a registration with it, or the part of the manager that acts.
        address: The peer's address; None where there is none, or the broker hides it.
        request_id: The HTTP request's id, which its answer and the log contain.
        role: The role of the access token or of the admin token; None for any other actor.
    """

    actor: str
    address: str | None = None
    request_id: str | None = None
    role: str | None = None


MANAGER = Origin("manager")
"""The manager itself, without a request."""

RESPONDER = Origin("responder")
"""The automatic response."""

current_origin: ContextVar[Origin] = ContextVar("current_origin", default=MANAGER)
"""The sender of the HTTP request that the current task serves."""
