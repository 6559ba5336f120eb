"""Emergency entry: one address, hash or lowered threshold put in force by an incident."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from manager.domain.correlation import Indicator, Kind

EntryKind = Literal["ip", "file_hash", "sensitivity"]
Holder = Literal["agent", "organization"]

KINDS: dict[Kind, EntryKind] = {"source_ip": "ip", "file_hash": "file_hash", "technique": "sensitivity"}
"""Entry kind of each indicator kind: a blocked address, a blocked hash, or raised sensitivity."""

_INDICATORS: dict[EntryKind, Kind] = {entry_kind: kind for kind, entry_kind in KINDS.items()}

_SHA256_DIGITS = 64


def is_enforceable(kind: str, value: str) -> bool:
    """Return whether guards put a value in force: a hash shorter than SHA-256 only raises alerts."""
    return kind != "file_hash" or len(value) == _SHA256_DIGITS


class Subject(NamedTuple):
    """Value that an entry is about, with its scope (see `Indicator`)."""

    kind: EntryKind
    value: str
    organization_id: str
    site: str | None

    @classmethod
    def of(cls, indicator: Indicator) -> "Subject":
        """Return the subject of the response to an indicator."""
        return cls(KINDS[indicator.kind], indicator.value, indicator.organization_id, indicator.site)

    def indicator(self) -> Indicator:
        """Return the indicator of this subject."""
        return Indicator(_INDICATORS[self.kind], self.value, self.organization_id, self.site)


@dataclass(frozen=True, slots=True)
class EmergencyEntry:
    """One live entry, as it is stored. Times are seconds since 1970.

    Args:
        id: its id; `DELETE /api/blocks/:id` names it.
        scope: whether it is in one agent's own policy or in an organization's blocklist.
        target: the agent's or the organization's id.
        subject: the address, hash or technique.
        reason: one sentence that a guard's status shows.
        incident_id: the incident that made it.
        created_at: when it was put in force.
        expires_at: when it ends; the guard enforces that, too.
        number: the first version of the agent's policy, or sequence of the blocklist, with it; None until it has one.
    """

    id: str
    scope: Holder
    target: str
    subject: Subject
    reason: str
    incident_id: str
    created_at: float
    expires_at: float
    number: int | None = None

    @property
    def kind(self) -> EntryKind:
        """Kind of the entry."""
        return self.subject.kind

    @property
    def value(self) -> str:
        """The address, hash or technique in normal form."""
        return self.subject.value
