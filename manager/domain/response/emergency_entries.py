"""Live emergency entries of all agents and organizations: bounded, each with an expiry."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from manager.domain.policies.layers import Emergency, EmergencyBlock, RaisedSensitivity
from manager.domain.response.emergency_entry import EmergencyEntry, Holder, Subject
from manager.domain.response.manual_blocks import ManualBlock, ManualBlocks
from manager.domain.response.settings import ResponderSettings

_Place = tuple[Holder, str]


class PutResult(NamedTuple):
    """Result of `EmergencyEntries.put`: whether the entry was added, and the entries that it replaced or evicted."""

    added: bool
    removed: list[EmergencyEntry]


class EmergencyEntries:
    """Entries by id, by holder and by subject. A holder has one entry for a subject, the one that lasts longest.

    Args:
        settings: bounds, and the size of a sensitivity step.
    """

    def __init__(self, settings: ResponderSettings) -> None:
        self._settings = settings
        self.manual = ManualBlocks(settings)
        """The manual blocks, which share agents' policies and organizations' blocklists with the entries."""
        self.groups_of: Callable[[str], Iterable[str]] = lambda _agent_id: ()
        """Returns the policy groups of an agent, whose manual blocks are in its own policy."""
        self._by_id: dict[str, EmergencyEntry] = {}
        self._held: dict[_Place, dict[Subject, EmergencyEntry]] = {}
        self._holders: dict[Subject, set[_Place]] = {}
        self._ends: list[tuple[float, str]] = []
        self.evicted = 0
        """Number of entries evicted because their holder had no more room."""

    def __len__(self) -> int:
        """Return the number of live entries."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[EmergencyEntry]:
        """Yield the live entries."""
        return iter(self._by_id.values())

    def load(self, entries: Iterable[EmergencyEntry]) -> None:
        """Add entries from the store; the next `expire` removes expired ones."""
        for entry in entries:
            self._keep(entry)

    def get(self, entry_id: str) -> EmergencyEntry | None:
        """Return the live entry with this id."""
        return self._by_id.get(entry_id)

    def list_of(self, scope: Holder, target: str) -> list[EmergencyEntry]:
        """Return the live entries of one agent or organization, sorted by subject."""
        entries = self._held.get((scope, target), {})
        return [entries[subject] for subject in sorted(entries, key=lambda each: (each.kind, each.value))]

    def find(self, scope: Holder, target: str, subject: Subject) -> EmergencyEntry | None:
        """Return a holder's live entry for a subject."""
        return self._held.get((scope, target), {}).get(subject)

    def list_about(self, subject: Subject) -> list[EmergencyEntry]:
        """Return all holders' live entries for a subject."""
        return [self._held[place][subject] for place in sorted(self._holders.get(subject, ()))]

    def subjects(self) -> list[Subject]:
        """Return the subjects of the live entries."""
        return list(self._holders)

    def put(self, entry: EmergencyEntry) -> PutResult:
        """Add an entry, unless the holder's entry for the same subject lasts at least as long.

        Where a holder has no more room, its first entry to expire is evicted (the contract, section 4).
        """
        known = self.find(entry.scope, entry.target, entry.subject)
        if known is not None:
            if known.expires_at >= entry.expires_at:
                return PutResult(added=False, removed=[])
            self.remove(known)
            self._keep(entry)
            return PutResult(added=True, removed=[known])
        removed = self.make_room(entry.scope, entry.target, 1)
        self._keep(entry)
        return PutResult(added=True, removed=removed)

    def make_room(self, scope: Holder, target: str, places: int = 0) -> list[EmergencyEntry]:
        """Evict a holder's first entries to expire, until it has some places free; return them."""
        removed: list[EmergencyEntry] = []
        taken = self.manual.taken_in_organization(target) if scope == "organization" else len(self.manual_of(target))
        room = self._room(scope) - taken - places
        while (held := self._held.get((scope, target), {})) and len(held) > room:
            first = min(held.values(), key=lambda each: (each.expires_at, each.created_at, each.id))
            self.remove(first)
            self.evicted += 1
            removed.append(first)
        return removed

    def remove(self, entry: EmergencyEntry) -> None:
        """Remove a live entry."""
        place = (entry.scope, entry.target)
        del self._by_id[entry.id]
        del self._held[place][entry.subject]
        if not self._held[place]:
            del self._held[place]
        self._holders[entry.subject].discard(place)
        if not self._holders[entry.subject]:
            del self._holders[entry.subject]
        if len(self._ends) > 2 * len(self._by_id) + 64:
            self._ends = [(each.expires_at, each.id) for each in self._by_id.values()]
            heapify(self._ends)

    def remove_foreign(self, agent_id: str, organization_id: str) -> list[EmergencyEntry]:
        """Remove and return an agent's own entries that are of other organizations than the one that it is in."""
        own = self.list_of("agent", agent_id)
        foreign = [entry for entry in own if entry.subject.organization_id != organization_id]
        for entry in foreign:
            self.remove(entry)
        return foreign

    def move(self, subject: Subject, absorbed_id: str, incident_id: str) -> list[EmergencyEntry]:
        """Assign an absorbed incident's entries to the incident that absorbed it; return them."""
        moved = [
            replace(entry, incident_id=incident_id)
            for entry in self.list_about(subject)
            if entry.incident_id == absorbed_id
        ]
        for entry in moved:
            self._by_id[entry.id] = entry
            self._held[entry.scope, entry.target][entry.subject] = entry
        return moved

    def next_expiry(self) -> float | None:
        """Return the time of the next expiry, in seconds since 1970; None without entries."""
        while self._ends and self._ends[0][1] not in self._by_id:
            heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    def expire(self, now: float) -> list[EmergencyEntry]:
        """Remove and return the entries that have expired by now."""
        gone = []
        while (due := self.next_expiry()) is not None and due <= now:
            entry = self._by_id[heappop(self._ends)[1]]
            self.remove(entry)
            gone.append(entry)
        return gone

    def agent_layer(self, agent_id: str) -> Emergency:
        """Return an agent's own entries and manual blocks as the topmost layer of its policy."""
        entries = self.list_of("agent", agent_id)
        attention = [entry.expires_at for entry in entries if entry.kind == "sensitivity"]
        sensitivity = RaisedSensitivity(max(attention), *self._sensitivity()) if attention else None
        addresses = {entry.value: _block(entry) for entry in entries if entry.kind == "ip"}
        for manual in self.manual_of(agent_id).values():
            known = addresses.get(manual.value)
            if known is None or known.expires_at < manual.expires_at:
                addresses[manual.value] = EmergencyBlock(manual.value, manual.reason, "", manual.expires_at)
        return Emergency(
            addresses=tuple(addresses[value] for value in sorted(addresses)),
            file_hashes=tuple(_block(entry) for entry in entries if entry.kind == "file_hash"),
            sensitivity=sensitivity,
        )

    def manual_of(self, agent_id: str) -> dict[str, ManualBlock]:
        """Return the manual blocks in an agent's own policy by value."""
        return self.manual.of_agent(agent_id, self.groups_of(agent_id)) if self.manual else {}

    def _sensitivity(self) -> tuple[float, float]:
        return self._settings.auto_respond_step, self._settings.auto_respond_floor

    def _room(self, scope: Holder) -> int:
        return self._settings.agent_entries if scope == "agent" else self._settings.organization_entries

    def _keep(self, entry: EmergencyEntry) -> None:
        place = (entry.scope, entry.target)
        self._by_id[entry.id] = entry
        self._held.setdefault(place, {})[entry.subject] = entry
        self._holders.setdefault(entry.subject, set()).add(place)
        heappush(self._ends, (entry.expires_at, entry.id))


def _block(entry: EmergencyEntry) -> EmergencyBlock:
    return EmergencyBlock(entry.value, entry.reason, entry.incident_id, entry.expires_at)
