"""Blocklist messages of the organizations: changes in sequence, and snapshots of all entries."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from manager.domain.response.emergency_entries import EmergencyEntries
from manager.domain.response.emergency_entry import EmergencyEntry
from manager.domain.response.response_changes import ResponseChanges
from schemas.blocklist import BlocklistChange, BlocklistEntry, BlocklistSnapshot
from schemas.model import utc

ENTRIES_IN_CHANGE = 400
"""Entries of one change: with the longest ids they stay below the size limit of a message."""


class Blocklists:
    """Sequence of each organization's blocklist: the fleet's revision at its last change.

    Args:
        entries: the live entries.
        sequences: the sequences from the store.
    """

    def __init__(self, entries: EmergencyEntries, sequences: Mapping[str, int] | None = None) -> None:
        self._entries = entries
        self.sequences = dict(sequences or {})
        self.never: dict[str, tuple[str, ...]] = {}
        """The published never list of each organization."""

    def changes(self, response_changes: ResponseChanges, advance: Callable[[], int]) -> Iterator[BlocklistChange]:
        """Yield the changes to publish for response changes, one for each organization unless it is very large.

        Args:
            response_changes: entries added, removed and moved; its transaction must store `sequences`, too.
            advance: raises the fleet's revision by one and returns it.
        """
        for organization_id in sorted(response_changes.organization_ids):
            touched = {
                _key(each): each
                for each in (*response_changes.removed, *response_changes.added, *response_changes.moved)
                if _belongs_to(each, organization_id)
            }
            live = {
                key: self._entries.find("organization", organization_id, entry.subject)
                for key, entry in touched.items()
            }
            steps = sorted(live.items(), key=lambda step: (step[1] is not None, step[0]))
            for start in range(0, len(steps), ENTRIES_IN_CHANGE):
                part = steps[start : start + ENTRIES_IN_CHANGE]
                before = self.sequences.get(organization_id, 0)
                self.sequences[organization_id] = advance()
                yield BlocklistChange(
                    organization_id=organization_id,
                    from_sequence=before,
                    sequence=self.sequences[organization_id],
                    added=[_published(entry) for _, entry in part if entry is not None],
                    removed=[BlocklistEntry(kind=key[0], value=key[1]) for key, entry in part if entry is None],
                )

    def change_never(self, organization_id: str, never: tuple[str, ...], advance: Callable[[], int]) -> BlocklistChange:
        """Replace an organization's never list; return the change to publish."""
        before = self.sequences.get(organization_id, 0)
        self.sequences[organization_id], self.never[organization_id] = advance(), never
        return BlocklistChange(
            organization_id=organization_id,
            from_sequence=before,
            sequence=self.sequences[organization_id],
            never=list(never),
        )

    def leave_gap(self, organization_id: str, sequence: int) -> BlocklistChange:
        """Set an organization's sequence; return an empty change that no guard can apply without the snapshot."""
        self.sequences[organization_id] = sequence
        return BlocklistChange(organization_id=organization_id, from_sequence=sequence - 1, sequence=sequence)

    def snapshot(self, organization_id: str) -> BlocklistSnapshot:
        """Return all entries of an organization at its sequence."""
        return BlocklistSnapshot(
            organization_id=organization_id,
            sequence=self.sequences.get(organization_id, 0),
            entries=[_published(entry) for entry in self._entries.list_of("organization", organization_id)],
            never=list(never) if (never := self.never.get(organization_id)) is not None else None,
        )


def _belongs_to(entry: EmergencyEntry, organization_id: str) -> bool:
    return entry.scope == "organization" and entry.target == organization_id


def _key(entry: EmergencyEntry) -> tuple[Literal["ip", "file_hash"], str]:
    return "file_hash" if entry.kind == "file_hash" else "ip", entry.value


def _published(entry: EmergencyEntry) -> BlocklistEntry:
    """Return an entry for guards; without the reason, so that 10,000 entries fit in a message."""
    kind, value = _key(entry)
    return BlocklistEntry(kind=kind, value=value, expires_at=utc(entry.expires_at), incident_id=entry.incident_id)
