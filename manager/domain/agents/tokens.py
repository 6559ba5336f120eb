"""Enrollment tokens in the manager: the key that verifies proofs (not the secret), and the rate limit of new agents."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from manager.domain.agents.agent import Agent
from manager.domain.agents.host import Host
from manager.domain.instant import Instant


@dataclass(slots=True)
class Token:
    """One enrollment token. Times are seconds since 1970; `proof_key` is SHA-256 of the token's secret.

    `max_uses` counts agents, not registrations: a reconnection does not count. `rate` is the number of new agents an
    hour, None for the manager's own limit. Agents of an `ephemeral` token go offline silently, and are removed after an
    hour. `rotated_at` is when its secret was replaced.
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
    name: str | None = None
    rate: int | None = None
    ephemeral: bool = False
    rotated_at: float | None = None

    @property
    def uses_left(self) -> int | None:
        """Number of agents that the token may still enroll; None for no limit."""
        return None if self.max_uses is None else max(0, self.max_uses - self.uses)

    @property
    def is_unlimited(self) -> bool:
        """Whether the token has neither an expiry nor a number of uses."""
        return self.expires_at is None and self.max_uses is None

    def place(self, host: Host) -> Host:
        """Return the host with the token's tags and site; what the host states itself is only reported."""
        return host.changed(site=self.site, tags=self.tags)

    def refuses(self, now: float, *, is_new_agent: bool) -> str | None:
        """Return the error code if this token rejects the client, else None."""
        if self.revoked_at is not None:
            return "unknown_token"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired_token"
        if is_new_agent and self.uses_left == 0:
            return "used_token"
        return None


RATE_WINDOW = 3600.0
"""Seconds in which a token enrolls at most its rate of new agents."""


class EnrollmentRate:
    """Limits the new agents of each token with a rate, or without any limit of its own; reconnections do not count.

    Args:
        limit: new agents within RATE_WINDOW for a token that has no rate, expiry or number of uses; 0 for no limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._enrolled: dict[str, deque[float]] = {}

    def limit_of(self, token: Token) -> int:
        """Return the number of new agents that a token enrolls within RATE_WINDOW; 0 for no limit."""
        if token.rate is not None:
            return token.rate
        return self.limit if token.is_unlimited else 0

    def load(self, agents: Iterable[Agent], tokens: Mapping[str, Token], now: Instant) -> None:
        """Count the registered agents of the last hour, after a restart."""
        for agent in sorted(agents, key=lambda each: each.registered_at):
            age = now.wall - agent.registered_at
            token = tokens.get(agent.token_id or "")
            if token is not None and 0 <= age < RATE_WINDOW:
                self._record(token, now.monotonic - age)

    def wait(self, token: Token, now: Instant) -> float:
        """Return the seconds until the token may enroll a new agent; 0 if it may now."""
        limit, enrolled = self.limit_of(token), self._enrolled.get(token.token_id)
        if not limit or enrolled is None or len(enrolled) < limit:
            return 0.0
        return max(0.0, enrolled[0] + RATE_WINDOW - now.monotonic)

    def reason(self, token: Token, wait: float) -> str:
        """Return the error message for a refused new agent, with the time to wait."""
        remedy = (
            "use a token with an expiry or a number of uses" if token.rate is None else "use one with a higher rate"
        )
        return (
            f"the enrollment token has let in {self.limit_of(token)} new agents within an hour; try again in"
            f" {math.ceil(wait / 60)} min, or {remedy}"
        )

    def record(self, token: Token, now: Instant) -> None:
        """Count a new agent."""
        self._record(token, now.monotonic)

    def _record(self, token: Token, monotonic: float) -> None:
        limit = self.limit_of(token)
        if limit:
            self._enrolled.setdefault(token.token_id, deque(maxlen=limit)).append(monotonic)
