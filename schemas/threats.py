"""Threat reports and their receipts."""

from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import Field, JsonValue, StringConstraints

from schemas.generations import GenerationNumber
from schemas.identifiers import AgentId, ThreatId
from schemas.limits import REPORTS_IN_BATCH
from schemas.model import Timestamp, WireModel

Word = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Severity(StrEnum):
    """Severity of a threat, lowest first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Threat(WireModel):
    """A detected threat: the verdict in a report.

    Keys of `evidence` with a meaning: `sourceIp`, `fileHash` (sha256, sha1 or md5, hex), `filePath`, `process`, `pid`,
    `user`, `targetUser`, `targetService`, and `lastLogin`, the time of the source's last successful login on this host.
    `userExists` and `targetUserExists` are true if the agent knows that the name is an account of its host; any other
    name may be a mistyped password. Other keys are kept unchanged.
    """

    type: Word
    confidence: float = Field(ge=0, le=100)
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
    severity: Severity = Severity.MEDIUM
    technique: Annotated[str, StringConstraints(pattern=r"^T[0-9]{4}(\.[0-9]{3})?$")] | None = None
    rule_id: Word | None = None
    count: int = Field(default=1, ge=1, le=2**53 - 1)
    first_seen: Timestamp | None = None
    last_seen: Timestamp | None = None
    vouched: Annotated[list[Word], Field(max_length=64)] | None = Field(
        default=None, description="keys of `evidence` whose writer the guard can prove; absent or empty: none"
    )


class ResponseTaken(WireModel):
    """The agent's response to a threat."""

    action: Word
    target: Annotated[str, StringConstraints(max_length=1024)] | None = None
    outcome: Annotated[str, StringConstraints(max_length=1024)] | None = None
    expires_at: Timestamp | None = None
    connections: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None,
        description="established connections of the target to other services of the host, which a block cuts or would "
        "cut; absent where the guard does not know",
    )


_PASSIVE = frozenset({"none", "notify", "log", "alert", "monitor"})
_NOT_TAKEN = ("not blocked", "would have been taken", "would_be_taken", "refused", "impossible", "failed")


class TakenAction(Protocol):
    """The members of a response that tell whether it was carried out."""

    @property
    def action(self) -> str:
        """The action."""
        ...

    @property
    def outcome(self) -> str | None:
        """Its outcome, if it is stated."""
        ...


def is_executed(response: str | TakenAction | None) -> bool:
    """Return whether a report's response is an action that was carried out on the host."""
    if response is None:
        return False
    if isinstance(response, str):
        return response.lower() not in _PASSIVE
    return response.action.lower() not in _PASSIVE and not (response.outcome or "").lower().startswith(_NOT_TAKEN)


class ThreatReport(WireModel):
    """The report of one threat; `id` is unique within the agent, and repeated reports are stored once."""

    id: ThreatId
    agent_id: AgentId
    threat: Threat
    response: Word | ResponseTaken | None = None
    timestamp: Timestamp = Field(description="detection time, on the agent's clock")


class ThreatReportBatch(WireModel):
    """Several reports of one agent in one message; each is stored or refused by itself."""

    reports: Annotated[list[ThreatReport], Field(min_length=1, max_length=REPORTS_IN_BATCH)]
    resent: bool | None = Field(
        default=None, description="the agent has receipts for them, and the manager asked for them by a generation"
    )


class Refusal(WireModel):
    """The refusal of a report that can never be stored, with the reason."""

    id: ThreatId
    reason: Annotated[str, StringConstraints(max_length=512)]


class Deferral(WireModel):
    """The deferral of reports over the agent's budget, to be sent again after `retry_after` seconds."""

    ids: list[ThreatId]
    retry_after: float = Field(ge=0)


ReceiptMark = Annotated[str, StringConstraints(min_length=1, max_length=160, pattern=r"^[A-Za-z0-9._-]+$")]
"""The manager's coded statement of how far its store had come at a receipt; opaque to guards."""


class Receipt(WireModel):
    """Receipt for reports: stored permanently, refused permanently, or deferred."""

    stored: list[ThreatId] = Field(default_factory=list)
    refused: list[Refusal] = Field(default_factory=list)
    deferred: list[Deferral] = Field(default_factory=list)
    sent_at: Timestamp | None = None
    generation: GenerationNumber | None = Field(
        default=None, description="the generation of the store that has the reports in `stored`"
    )
    mark: ReceiptMark | None = Field(
        default=None,
        description="how far the store had come, coded by the manager; heartbeats return the latest as `receiptMark`",
    )
