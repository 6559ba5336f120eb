"""The source of a command: actor, address and request id, as the audit log records them."""

from contextvars import ContextVar
from typing import NamedTuple


class Origin(NamedTuple):
    """The source of a command.

    Attributes:
        actor: `admin`, an agent's id, `token:…` for a registration with a token, or the part of the manager that acts.
        address: The peer's address; None where there is none, or the broker hides it.
        request_id: The HTTP request's id, which its answer and the log contain.
    """

    actor: str
    address: str | None = None
    request_id: str | None = None


MANAGER = Origin("manager")
"""The manager itself, without a request."""

RESPONDER = Origin("responder")
"""The automatic response."""

current_origin: ContextVar[Origin] = ContextVar("current_origin", default=MANAGER)
"""The sender of the HTTP request that the current task serves."""
