"""Bearer authentication: identifies callers by their token. Tokens are looked up and compared by their SHA-256."""

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from manager.domain.access import AccessToken, AccessTokens, Role
from manager.domain.agents.agent import Agent
from manager.domain.agents.tokens import Token
from manager.domain.console_sessions import ConsoleSessions
from schemas.errors import TokenError
from schemas.keys import EnrollmentToken


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: an agent, or the holder of an access token or of the admin token.

    Attributes:
        name: The name in audit records.
        agent_id: The agent's id; None for any other caller.
        role: The role of the token; None for an agent.
        organizations: The organizations that the token is limited to; None for all of them.
        digest: The SHA-256 of an access token; None for an agent and for the admin token.
        session: The id of the console's session that the request belongs to; None for a bearer token.
    """

    name: str
    agent_id: str | None = None
    role: Role | None = None
    organizations: frozenset[str] | None = None
    digest: bytes | None = field(default=None, repr=False)
    session: str | None = field(default=None, repr=False)

    @staticmethod
    def of_agent(agent_id: str) -> "Caller":
        """Return the caller for an agent; a kept one costs an eighth of a new one."""
        return _caller_of_agent(agent_id)

    @property
    def is_admin(self) -> bool:
        """Whether the caller is an admin of the whole fleet, who may use every route."""
        return self.role is Role.ADMIN and self.organizations is None

    def has(self, role: Role) -> bool:
        """Return whether the caller's token has a role, or one that includes it."""
        return self.role is not None and self.role.includes(role)

    def limit(self, organization_id: str | None) -> tuple[str, ...] | None:
        """Return the organizations that a query is limited to; None for all of them.

        Args:
            organization_id: the one that is asked for; None for all that the token is good for. Another one than those
                gives none.
        """
        if organization_id is not None:
            return (organization_id,) if self.sees(organization_id) else ()
        return None if self.organizations is None else tuple(sorted(self.organizations))

    def sees(self, organization_id: str) -> bool:
        """Return whether the token is good for an organization."""
        return self.organizations is None or organization_id in self.organizations


@lru_cache(maxsize=4096)
def _caller_of_agent(agent_id: str) -> Caller:
    return Caller(agent_id, agent_id)


ADMIN = Caller("admin", role=Role.ADMIN)
"""The holder of the admin token."""


def _holder(access: AccessToken) -> Caller:
    return Caller(access.name, None, access.role, frozenset(access.organizations) or None, access.digest)


def token_digest(token: str) -> bytes:
    """Return the SHA-256 of a token's text, by which it is looked up and compared."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


_UNKNOWN = bytes(32)
"""The digest compared for an unknown token, so that every token costs the same comparisons."""


class Credentials:
    """Identifies bearer tokens: the admin token, access tokens, agents' own tokens, and enrollment tokens.

    Args:
        admin_token: grants access to every route.
        bearer: returns the agent whose HTTP token has a SHA-256, or None.
        enrollment: returns an enrollment token by its id, or None.
        access: the access tokens.
        sessions: the console's sessions.
        clock: seconds since 1970, by which access tokens and sessions expire.
    """

    def __init__(
        self,
        admin_token: str,
        bearer: Callable[[bytes], Agent | None],
        enrollment: Callable[[str], Token | None] = lambda _token_id: None,
        access: AccessTokens | None = None,
        clock: Callable[[], float] = time.time,
        *,
        sessions: ConsoleSessions | None = None,
    ) -> None:
        self._admin_digest = hashlib.sha256(admin_token.encode()).digest()
        self._bearer = bearer
        self._enrollment = enrollment
        self._access = AccessTokens() if access is None else access
        self._sessions = ConsoleSessions() if sessions is None else sessions
        self._clock = clock

    def identify(self, token: str) -> Caller | None:
        """Return the holder of a token; None for an unknown, expired or revoked one. The use is noted."""
        return self.identify_digest(token_digest(token))

    def identify_digest(self, digest: bytes) -> Caller | None:
        """Return the holder of the token with this `token_digest`, as `identify` does."""
        agent = self._bearer(digest)
        access = self._access.find(digest)
        is_access = hmac.compare_digest(digest, _UNKNOWN if access is None else access.digest)
        if hmac.compare_digest(digest, self._admin_digest):
            return ADMIN
        if is_access and access is not None:
            now = self._clock()
            if not access.is_live(now):
                return None
            self._access.note_use(access, now)
            return _holder(access)
        return None if agent is None else Caller.of_agent(agent.agent_id)

    def token_digest(self, caller: Caller) -> bytes:
        """Return the SHA-256 of the text of a person's token, for the session that it opens."""
        return self._admin_digest if caller.digest is None else caller.digest

    def identify_session(self, session_id: str, *, is_use: bool = True) -> Caller | None:
        """Return the holder of the token that a session was opened with; None once either has ended.

        Args:
            session_id: the session's id.
            is_use: whether the request counts as use, which a session needs every 30 minutes.
        """
        session, now = self._sessions.find(session_id), self._clock()
        if session is None or not session.is_live(now):
            return None
        caller = ADMIN
        if not hmac.compare_digest(session.token_digest, self._admin_digest):
            access = self._access.find(session.token_digest)
            if access is None or not access.is_live(now):
                return None
            caller = _holder(access)
            self._access.note_use(access, now)
        if is_use:
            self._sessions.note_use(session, now)
        return replace(caller, session=session_id)

    def session_end(self, caller: Caller) -> float | None:
        """Return when a caller's session ends without another request; None without a session."""
        session = None if caller.session is None else self._sessions.find(caller.session)
        return None if session is None else session.ends_at

    def is_current(self, caller: Caller) -> bool:
        """Return whether the access token and the session of a caller are still good; True for one without both."""
        if caller.session is not None:
            session = self._sessions.find(caller.session)
            if session is None or not session.is_live(self._clock()):
                return False
        if caller.digest is None:
            return True
        token = self._access.find(caller.digest)
        return token is not None and token.is_live(self._clock())

    def enrollment(self, token: str) -> EnrollmentToken | None:
        """Parse an enrollment token made by this manager, whether or not it is still valid; None for any other text."""
        try:
            given = EnrollmentToken.parse(token)
        except TokenError:
            return None
        known = self._enrollment(given.token_id)
        same = hmac.compare_digest(_UNKNOWN if known is None else known.proof_key, given.proof_key)
        return given if same and known is not None else None
