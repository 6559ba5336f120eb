"""Enrollment messages: the registration and its two possible answers."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.identifiers import AgentId, ClientId, Hostname, Label, OrganizationId, TokenId
from schemas.model import Timestamp, WireModel
from schemas.presence import Digest, Session

Text = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One short line of text without control characters."""


class Registration(WireModel):
    """The registration of a new agent, or of a known one after a restart.

    It ends in `proof` (see `schemas.message_codes`). `sealed_secret` is the agent's secret, sealed with the manager's
    seal key.
    """

    hostname: Hostname
    os: Text
    arch: Text
    version: Text
    organization_id: OrganizationId | None = None
    client_id: ClientId
    site: Label | None = None
    tags: list[Label] = Field(default_factory=list, max_length=32)
    addresses: list[Annotated[str, StringConstraints(max_length=64)]] = Field(default_factory=list, max_length=256)
    gateways: list[Annotated[str, StringConstraints(max_length=64)]] = Field(default_factory=list, max_length=64)
    sent_at: Timestamp
    uptime: float = Field(ge=0, le=1e10, description="seconds that the guard has run, on its monotonic clock")
    token_id: TokenId
    sealed_secret: Annotated[str, StringConstraints(max_length=256)]


class RegistrationReply(WireModel):
    """The answer to an accepted registration: the agent's id, and the last session known to the manager. Signed."""

    client_id: ClientId
    agent_id: AgentId
    organization_id: OrganizationId
    session: Session = Field(description="the agent connects with a higher one")
    sent_at: Timestamp | None = None


class Rejection(WireModel):
    """The answer to a refused registration. Signed, so that only the manager can refuse a client.

    `digest` identifies the refused registration: a client ignores the refusal of one that was altered in transit.
    """

    client_id: ClientId
    digest: Digest = Field(description="SHA-256 of the registration's payload as the manager got it")
    error: Literal["bad_proof", "unknown_token", "expired_token", "used_token", "outdated", "conflict", "malformed"]
    reason: str = Field(max_length=512, description="one sentence that says what to do")
    sent_at: Timestamp | None = None
