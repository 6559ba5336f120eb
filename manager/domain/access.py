"""Access tokens of people and programs: name, role, organizations, expiry, and which token a digest belongs to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

LIVE_TOKENS = 1000
"""The maximum number of tokens that are neither revoked nor expired."""

_RESERVED_NAMES = frozenset({"admin", "anonymous", "manager", "offline_retention", "responder"})
_AGENT = "ag-"

ADMIN_NAME = "admin"
"""The name of the admin token, which no access token has."""


class Role(StrEnum):
    """Role of an access token; `viewer` < `responder` < `admin`, while `metrics` and `feed` stand apart."""

    VIEWER = "viewer"
    RESPONDER = "responder"
    ADMIN = "admin"
    METRICS = "metrics"
    FEED = "feed"

    def includes(self, needed: "Role") -> bool:
        """Return whether this role may do what `needed` may."""
        return needed in _INCLUDED[self]


_READS = frozenset({Role.VIEWER, Role.METRICS, Role.FEED})
_INCLUDED = {
    Role.METRICS: frozenset({Role.METRICS}),
    Role.FEED: frozenset({Role.FEED}),
    Role.VIEWER: _READS,
    Role.RESPONDER: _READS | {Role.RESPONDER},
    Role.ADMIN: _READS | {Role.RESPONDER, Role.ADMIN},
}


@dataclass(slots=True)
class AccessToken:
    """One access token. Times are seconds since 1970; `digest` is the SHA-256 of its text.

    `organizations` is empty for a token of all organizations. `rotated_at` is when its text was made.
    """

    name: str
    digest: bytes = field(repr=False)
    role: Role
    organizations: tuple[str, ...]
    created_at: float
    rotated_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None

    @property
    def text_id(self) -> str:
        """The beginning of the digest, which names the token's present text."""
        return self.digest.hex()[:16]

    @property
    def lifetime(self) -> float | None:
        """Seconds from the making of its text to its expiry; None for a token that does not expire."""
        return None if self.expires_at is None else self.expires_at - self.rotated_at

    def is_live(self, now: float) -> bool:
        """Return whether the token is accepted: neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def is_reserved(name: str) -> bool:
    """Return whether a name stands, in any case, for another actor in the audit log: admin, a part, an agent."""
    folded = name.casefold()
    return folded in _RESERVED_NAMES or folded.startswith(_AGENT)


class AccessTokens:
    """All access tokens, by name and by digest.

    One thread changes it; others may call `find` and `note_use` at the same time.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, AccessToken] = {}
        self._by_digest: dict[bytes, AccessToken] = {}
        self._written: dict[str, float | None] = {}

    def load(self, tokens: Iterable[AccessToken]) -> None:
        """Add the stored tokens."""
        for token in tokens:
            self.add(token)

    def add(self, token: AccessToken) -> None:
        """Add a token, in place of the one with its name."""
        self._forget_text(token.name)
        self._by_name[token.name] = token
        self._by_digest[token.digest] = token
        self._written[token.name] = token.last_used_at

    def discard(self, token: AccessToken) -> None:
        """Drop a token that was not stored."""
        self._forget_text(token.name)
        self._by_name.pop(token.name, None)
        self._written.pop(token.name, None)

    def restore(self, before: AccessToken) -> None:
        """Put a token back as it was, in place of the one with its name."""
        self._forget_text(before.name)
        self._by_name[before.name] = before
        self._by_digest[before.digest] = before
        self._written.setdefault(before.name, before.last_used_at)

    def rotate(self, token: AccessToken, digest: bytes, now: float, expires_at: float | None) -> None:
        """Replace a token's text; the old one is refused from now on."""
        self._forget_text(token.name)
        token.digest, token.rotated_at, token.expires_at = digest, now, expires_at
        self._by_digest[digest] = token

    def get(self, name: str) -> AccessToken | None:
        """Return a token by its name, revoked ones too."""
        return self._by_name.get(name)

    def look_alike(self, name: str) -> AccessToken | None:
        """Return a token that is not revoked, and whose name differs from a name at most in case."""
        folded = name.casefold()
        tokens = (each for each in self._by_name.values() if each.name.casefold() == folded)
        return next((each for each in tokens if each.revoked_at is None), None)

    def find(self, digest: bytes) -> AccessToken | None:
        """Return the token with a digest, expired and revoked ones too."""
        return self._by_digest.get(digest)

    def organizations(self) -> frozenset[str]:
        """Return the organizations that tokens are limited to, without revoked ones."""
        tokens = (token for token in self._by_name.values() if token.revoked_at is None)
        return frozenset(organization_id for token in tokens for organization_id in token.organizations)

    def live(self, now: float) -> int:
        """Return the number of tokens that are neither revoked nor expired."""
        return sum(token.is_live(now) for token in self._by_name.values())

    def note_use(self, token: AccessToken, now: float) -> None:
        """Record the use of a token in memory; `used` yields it for the store."""
        token.last_used_at = now

    def used(self) -> list[AccessToken]:
        """Return the tokens that were used since the last call."""
        used = [token for token in self._by_name.values() if token.last_used_at != self._written[token.name]]
        self._written.update((token.name, token.last_used_at) for token in used)
        return used

    def _forget_text(self, name: str) -> None:
        known = self._by_name.get(name)
        if known is not None:
            self._by_digest.pop(known.digest, None)
