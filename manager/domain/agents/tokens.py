"""Enrollment tokens in the manager: the key that verifies proofs, never the secret."""

from dataclasses import dataclass, field, replace

from manager.domain.agents.agent import Host


@dataclass(slots=True)
class Token:
    """One enrollment token. Times are seconds since 1970; `proof_key` is SHA-256 of the token's secret.

    `max_uses` counts agents, not registrations: a reconnection uses nothing up.
    """

    token_id: str
    proof_key: bytes = field(repr=False)
    created_at: float
    organization_id: str | None = None
    site: str | None = None
    tags: tuple[str, ...] = ()
    expires_at: float | None = None
    max_uses: int | None = None
    uses: int = 0
    revoked_at: float | None = None

    @property
    def uses_left(self) -> int | None:
        """Number of agents that the token may still enroll; None for no limit."""
        return None if self.max_uses is None else max(0, self.max_uses - self.uses)

    def place(self, host: Host) -> Host:
        """Return the host with the token's site and tags, where the token names any, in place of its own."""
        return replace(host, site=self.site or host.site, tags=self.tags or host.tags)

    def refuses(self, now: float, *, is_new_agent: bool) -> str | None:
        """Return the error code of a rejection by this token, or None if it admits the client."""
        if self.revoked_at is not None:
            return "unknown_token"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired_token"
        if is_new_agent and self.uses_left == 0:
            return "used_token"
        return None
