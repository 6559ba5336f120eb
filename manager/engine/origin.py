"""Who asks for a change, and from where: what the audit log says of it beside the change itself."""

from contextvars import ContextVar
from typing import NamedTuple


class Origin(NamedTuple):
    """The source of a command.

    Attributes:
        actor: `admin`, an agent's id, `token:…` for who registers with a token, or the part of the manager that acts.
        address: The peer's address; None where there is none, or the broker hides it.
        request_id: The HTTP request's id, which stands in its answer and in the log.
    """

    actor: str
    address: str | None = None
    request_id: str | None = None


MANAGER = Origin("manager")
"""The manager itself, unasked."""

RESPONDER = Origin("responder")
"""The automatic response."""

current_origin: ContextVar[Origin] = ContextVar("current_origin", default=MANAGER)
"""Who sent the request that a task of the HTTP door is serving."""
