"""Emergency entries: what an incident puts in force, for whom, why, and until when."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from manager.domain.correlation import Indicator, Kind

EntryKind = Literal["ip", "file_hash", "sensitivity"]
Holder = Literal["agent", "organization"]

KINDS: dict[Kind, EntryKind] = {"source_ip": "ip", "file_hash": "file_hash", "technique": "sensitivity"}
"""What each kind of indicator puts in force: a blocked address, a blocked hash, or more attention."""

_INDICATORS: dict[EntryKind, Kind] = {entry_kind: kind for kind, entry_kind in KINDS.items()}


class Subject(NamedTuple):
    """What an entry is about, and where that means the same (see `Indicator`)."""

    kind: EntryKind
    value: str
    organization_id: str
    site: str | None

    @classmethod
    def of(cls, indicator: Indicator) -> "Subject":
        """Return what the response to an indicator is about."""
        return cls(KINDS[indicator.kind], indicator.value, indicator.organization_id, indicator.site)

    def indicator(self) -> Indicator:
        """Return the indicator that it is a response to."""
        return Indicator(_INDICATORS[self.kind], self.value, self.organization_id, self.site)


@dataclass(frozen=True, slots=True)
class EmergencyEntry:
    """One live entry, as it is stored. Times are seconds since 1970.

    Args:
        id: its own id; `DELETE /api/blocks/:id` names it.
        scope: whether it stands in one agent's own policy or in an organization's blocklist.
        target: the agent's or the organization's id.
        subject: the address, hash or technique.
        reason: one sentence that a guard's status shows.
        incident_id: the incident that made it.
        created_at: when.
        expires_at: when it ends; the guard goes by that, too.
    """

    id: str
    scope: Holder
    target: str
    subject: Subject
    reason: str
    incident_id: str
    created_at: float
    expires_at: float

    @property
    def kind(self) -> EntryKind:
        """What it does."""
        return self.subject.kind

    @property
    def value(self) -> str:
        """The address, hash or technique in normal form."""
        return self.subject.value
