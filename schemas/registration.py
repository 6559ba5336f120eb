"""Enrollment: what a client sends to become an agent, and the two answers it can get."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.identifiers import AgentId, ClientId, Hostname, Label, OrganizationId, TokenId
from schemas.model import Timestamp, WireModel
from schemas.presence import Digest, Session

Text = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One short line of text without control characters."""


class Registration(WireModel):
    """A client asks to become an agent, or an agent to be taken back after a restart.

    Ends in `proof` (see `schemas.codes`); `sealed_secret` is the agent's secret, sealed to the manager's seal key.
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
    """The manager took the client: its identity, and the last session that the manager knows of it. Signed."""

    client_id: ClientId
    agent_id: AgentId
    organization_id: OrganizationId
    session: Session = Field(description="the agent connects with a higher one")


class Rejection(WireModel):
    """The manager refused the client. Signed, so that nobody else can turn a client away.

    `digest` names what was refused: a registration that was changed on its way is none of the client's.
    """

    client_id: ClientId
    digest: Digest = Field(description="SHA-256 of the registration's payload as the manager got it")
    error: Literal["bad_proof", "unknown_token", "expired_token", "used_token", "outdated", "conflict", "malformed"]
    reason: str = Field(max_length=512, description="one sentence that says what to do")
