"""Bearer authentication: identifies callers by their token, and provides FastAPI dependencies for the routes.

Tokens are compared by their SHA-256; the admin's and the enrollment tokens' in constant time.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from manager.api.errors import Forbidden, Unauthorized
from manager.domain.agents.agent import Agent
from manager.domain.agents.tokens import Token
from schemas.errors import TokenError
from schemas.keys import EnrollmentToken

_scheme = HTTPBearer(auto_error=False, description="The admin's token, or an agent's own.")


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: an agent, or the admin where `agent_id` is None."""

    agent_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the caller may use every route."""
        return self.agent_id is None

    @property
    def name(self) -> str:
        """The caller's name in audit records."""
        return self.agent_id or "admin"


ADMIN = Caller()

_UNKNOWN_PROOF_KEY = bytes(32)
"""The digest compared for an unknown token id, so that every token costs one comparison."""


class Credentials:
    """Identifies bearer tokens: the admin's by its digest, agents' and enrollment tokens through the registry.

    Args:
        admin_token: grants access to every route.
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
        """Return the holder of a token; None for an unknown token."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        agent = self._bearer(digest)
        if hmac.compare_digest(digest, self._admin_digest):
            return ADMIN
        return None if agent is None else Caller(agent.agent_id)

    def enrollment(self, token: str) -> EnrollmentToken | None:
        """Parse an enrollment token made by this manager, whether or not it is still valid; None for any other text."""
        try:
            given = EnrollmentToken.parse(token)
        except TokenError:
            return None
        known = self._enrollment(given.token_id)
        same = hmac.compare_digest(_UNKNOWN_PROOF_KEY if known is None else known.proof_key, given.proof_key)
        return given if same and known is not None else None


async def authenticated(
    request: Request, _given: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> Caller:
    """Return the caller that admission control identified.

    Raises:
        Unauthorized: the token is missing or unknown; the answer does not tell which.
    """
    caller: Caller | None = request.scope.get("caller")
    if caller is None:
        raise Unauthorized
    return caller


async def admin(caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
    """Return the caller if it is the admin.

    Raises:
        Forbidden: the caller is an agent.
    """
    if not caller.is_admin:
        raise Forbidden
    return caller


async def admin_or_self(agent_id: str, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
    """Return the caller if it is the admin or the agent in the path.

    Raises:
        Forbidden: the caller is another agent; the answer does not tell whether the agent in the path exists.
    """
    return require_admin_or_self(caller, agent_id)


def require_admin_or_self(caller: Caller | None, agent_id: str) -> Caller:
    """Return the caller if it is the admin or this agent.

    Raises:
        Unauthorized: the caller is unknown.
        Forbidden: the caller is another agent.
    """
    if caller is None:
        raise Unauthorized
    if not caller.is_admin and caller.agent_id != agent_id:
        raise Forbidden
    return caller


Authenticated = Annotated[Caller, Depends(authenticated)]
Admin = Annotated[Caller, Depends(admin)]
AdminOrSelf = Annotated[Caller, Depends(admin_or_self)]
