"""Who a bearer is: tokens are compared by their SHA-256, the admin's in constant time."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from manager.domain.agent import Agent


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: an agent, or the admin where `agent_id` is None."""

    agent_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether every route is open to the caller."""
        return self.agent_id is None

    @property
    def name(self) -> str:
        """How the caller stands in records of what was done."""
        return self.agent_id or "admin"


class Credentials:
    """Knows the admin's token by its digest, and asks the registry for the agents'.

    Args:
        admin_token: opens every route.
        bearer: returns the agent whose HTTP token has a SHA-256, or None.
    """

    def __init__(self, admin_token: str, bearer: Callable[[bytes], Agent | None]) -> None:
        self._admin_digest = hashlib.sha256(admin_token.encode()).digest()
        self._bearer = bearer

    def identify(self, token: str) -> Caller | None:
        """Return who holds a token; None if nobody does."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        agent = self._bearer(digest)
        if hmac.compare_digest(digest, self._admin_digest):
            return Caller()
        return None if agent is None else Caller(agent.agent_id)
