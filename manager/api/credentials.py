"""Who a bearer is: tokens are compared by their SHA-256, the admin's and the enrollment tokens' in constant time."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from manager.domain.agents.agent import Agent
from manager.domain.agents.tokens import Token
from schemas.errors import TokenError
from schemas.keys import EnrollmentToken


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


ADMIN = Caller()

_NOBODYS = bytes(32)
"""Compared with where no such token is known, so that every token costs one comparison."""


class Credentials:
    """Knows the admin's token by its digest, and asks the fleet for the agents' and for enrollment tokens.

    Args:
        admin_token: opens every route.
        bearer: returns the agent whose HTTP token has a SHA-256, or None.
        enrollment: returns an enrollment token by its id, or None.
    """

    def __init__(
        self,
        admin_token: str,
        bearer: Callable[[bytes], Agent | None],
        enrollment: Callable[[str], Token | None] = lambda _token_id: None,
    ) -> None:
        self._admin_digest = hashlib.sha256(admin_token.encode()).digest()
        self._bearer = bearer
        self._enrollment = enrollment

    def identify(self, token: str) -> Caller | None:
        """Return who holds a token; None if nobody does."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        agent = self._bearer(digest)
        if hmac.compare_digest(digest, self._admin_digest):
            return ADMIN
        return None if agent is None else Caller(agent.agent_id)

    def enrollment(self, token: str) -> EnrollmentToken | None:
        """Return the enrollment token that a text is, if this manager made it, whether or not it is still good."""
        try:
            given = EnrollmentToken.parse(token)
        except TokenError:
            return None
        known = self._enrollment(given.token_id)
        same = hmac.compare_digest(_NOBODYS if known is None else known.proof_key, given.proof_key)
        return given if same and known is not None else None
