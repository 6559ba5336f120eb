"""Response changes: the results of the responder, with responses to record, entries to add and to remove."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from manager.domain.correlation import Indicator
from manager.domain.response.emergency_entry import EmergencyEntry
from manager.domain.response.evidence_index import Observed


class ResponseState(StrEnum):
    """State of an incident's response."""

    APPLIED = "applied"
    PENDING_APPROVAL = "pending_approval"
    REFUSED = "refused"
    SIMULATED = "simulated"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Response:
    """The response to one incident, as it is stored; a later one replaces it. Times are seconds since 1970.

    Args:
        incident_id: the incident.
        state: state of the response.
        reason: one sentence that explains the state.
        at: when the state was decided.
        organization_wide: whether its entry is in the organization's blocklist.
        granted_at: when it took its place in the rate cap; None where it took none.
        made_by: the agents whose reports made it, and whose shares it took.
        approval_expires_at: until when it can be approved, while it waits.
        approved_by: the person who approved it, if it had to wait.
        members_missing: whether members joined while automatic response was frozen, and got no entry.
    """

    incident_id: str
    state: ResponseState
    reason: str
    at: float
    organization_wide: bool = False
    granted_at: float | None = None
    made_by: tuple[str, ...] = ()
    approval_expires_at: float | None = None
    approved_by: str | None = None
    members_missing: bool = False

    @property
    def awaits_organization(self) -> bool:
        """Whether its agents have their entries, and only the organization-wide step waits for approval."""
        return self.state is ResponseState.PENDING_APPROVAL and self.granted_at is not None

    @property
    def is_under_way(self) -> bool:
        """Whether its agents have their entries already; further ones only extend it."""
        return self.state is ResponseState.APPLIED or self.awaits_organization


@dataclass(slots=True)
class ResponseChanges:
    """Changes to store and publish in one transaction; false if there are none.

    Args:
        responses: the newest response of each incident concerned.
        added: new entries. One that replaces an entry of the same subject and target is listed here, the replaced one
            in `removed`.
        removed: entries that are gone: expired, undone, withdrawn, replaced, or evicted.
        moved: live entries of an absorbed incident, with the incident that absorbed it.
        simulated: entries that would have been added.
        evidence: changed evidence of the never-block rules by indicator; None where it was dropped.
    """

    responses: list[Response] = field(default_factory=list)
    added: list[EmergencyEntry] = field(default_factory=list)
    removed: list[EmergencyEntry] = field(default_factory=list)
    moved: list[EmergencyEntry] = field(default_factory=list)
    simulated: list[EmergencyEntry] = field(default_factory=list)
    evidence: dict[Indicator, Observed | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether there is any change."""
        return bool(self.responses or self.added or self.removed or self.moved or self.evidence)

    @property
    def agent_ids(self) -> set[str]:
        """Agents whose own entries changed."""
        return {entry.target for entry in self._changed() if entry.scope == "agent"}

    @property
    def organization_ids(self) -> set[str]:
        """Organizations whose blocklists changed."""
        return {entry.target for entry in self._changed() if entry.scope == "organization"}

    def merge(self, later: "ResponseChanges") -> None:
        """Append later changes."""
        self.responses += later.responses
        self.added += later.added
        self.removed += later.removed
        self.moved += later.moved
        self.simulated += later.simulated
        self.evidence.update(later.evidence)

    def _changed(self) -> Iterator[EmergencyEntry]:
        yield from self.added
        yield from self.removed
        yield from self.moved
