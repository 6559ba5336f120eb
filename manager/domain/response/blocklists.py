"""Blocklist messages of the organizations: changes in sequence, and snapshots of all entries."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal

from manager.domain.response.emergency_entries import EmergencyEntries
from manager.domain.response.emergency_entry import EmergencyEntry, Subject
from manager.domain.response.manual_blocks import ManualBlock
from manager.domain.response.response_changes import ResponseChanges
from schemas.blocklist import BlocklistChange, BlocklistEntry, BlocklistSnapshot
from schemas.model import utc

EntryKey = tuple[Literal["ip", "file_hash"], str]
"""Kind and value of an entry, by which guards know it."""

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
        touched: dict[str, set[EntryKey]] = {}
        for each in (*response_changes.removed, *response_changes.added, *response_changes.moved):
            if each.scope == "organization":
                touched.setdefault(each.target, set()).add(entry_key(each))
        return self.publish(touched, advance)

    def publish(
        self, touched: Mapping[str, Collection[EntryKey]], advance: Callable[[], int]
    ) -> Iterator[BlocklistChange]:
        """Yield the changes that bring the given entries of each organization's blocklist up to date.

        Args:
            touched: kind and value of the entries that were added or removed, by organization.
            advance: raises the fleet's revision by one and returns it.
        """
        for organization_id in sorted(touched):
            live = {key: self._live(organization_id, key) for key in touched[organization_id]}
            steps = sorted(live.items(), key=lambda step: (step[1] is not None, step[0]))
            for start in range(0, len(steps), ENTRIES_IN_CHANGE):
                part = steps[start : start + ENTRIES_IN_CHANGE]
                before = self.sequences.get(organization_id, 0)
                self.sequences[organization_id] = advance()
                yield BlocklistChange(
                    organization_id=organization_id,
                    from_sequence=before,
                    sequence=self.sequences[organization_id],
                    added=[entry for _, entry in part if entry is not None],
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
            entries=self._all_live(organization_id),
            never=list(never) if (never := self.never.get(organization_id)) is not None else None,
        )

    def _live(self, organization_id: str, key: EntryKey) -> BlocklistEntry | None:
        """Return the entry of a value as guards get it: the emergency entry or the manual block, the later to end."""
        kind, value = key
        entry = self._entries.find("organization", organization_id, Subject(kind, value, organization_id, None))
        manual = self._entries.manual.find_in_organization(organization_id, value) if kind == "ip" else None
        return _published(key, entry, manual)

    def _all_live(self, organization_id: str) -> list[BlocklistEntry]:
        entries = {entry_key(each): each for each in self._entries.list_of("organization", organization_id)}
        manual = self._entries.manual.in_organization(organization_id)
        keys = sorted({*entries, *(manual_key(value) for value in manual)})
        found = (_published(key, entries.get(key), manual.get(key[1])) for key in keys)
        return [entry for entry in found if entry is not None]


def manual_key(value: str) -> EntryKey:
    """Return the key of a manual block's entry."""
    return "ip", value


def entry_key(entry: EmergencyEntry) -> EntryKey:
    """Return the key of an emergency entry."""
    return "file_hash" if entry.kind == "file_hash" else "ip", entry.value


def _published(key: EntryKey, entry: EmergencyEntry | None, manual: ManualBlock | None) -> BlocklistEntry | None:
    """Return an entry for guards; without the reason, so that 10,000 entries fit in a message."""
    ends = [each.expires_at for each in (entry, manual) if each is not None]
    if not ends:
        return None
    incident_id = entry.incident_id if entry is not None else None
    return BlocklistEntry(kind=key[0], value=key[1], expires_at=utc(max(ends)), incident_id=incident_id)
