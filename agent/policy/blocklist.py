"""The organization's emergency blocklist: applies changes in sequence, and the snapshot if a change is missing."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable

from agent.clock import Clock
from agent.connection.identity import Enrolled
from agent.link.link import Link
from agent.logs import EventLog
from agent.manager_time import ManagerTime
from agent.respond.desired_measures import span
from agent.respond.responder import Measure
from agent.storage.database import Database
from schemas.blocklist import BlocklistChange, BlocklistEntry, BlocklistSnapshot
from schemas.decoding import DecodeError, decode
from schemas.succession import TrustedKeys
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES, Topic

_log = EventLog("blocklist")

Forward = Callable[[str, bytes, int], None]

_HASH = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_MAX_WAITING = 1_000
_NEVER = float("inf")

PATIENCE = 15.0
"""Seconds to wait for a newer snapshot; the manager publishes a snapshot within 10 s after a change."""


class OrganizationBlocklist:
    """The stored entries of the guard's organization, at one sequence.

    Each session subscribes to the changes and reads the retained snapshot. A change after a gap waits. The
    snapshot stays subscribed until no sequence is missing, and for `PATIENCE` seconds: the retained snapshot may lag
    behind changes that were published while this guard was offline.

    Args:
        database: The guard's database.
        ignored: Counts rejected messages by reason.
        manager_time: Learns from the time in verified messages.
        forward: Called with topic below the root, payload and sequence of each verified message.
    """

    def __init__(
        self,
        database: Database,
        ignored: Counter[str],
        manager_time: ManagerTime | None = None,
        forward: Forward = lambda _topic, _payload, _sequence: None,
    ) -> None:
        self._database = database
        self._ignored = ignored
        self._manager_time = ManagerTime(Clock()) if manager_time is None else manager_time
        self.forward = forward
        self._link: Link | None = None
        self._trusted: TrustedKeys | None = None
        self._waiting: dict[int, BlocklistChange] = {}
        self.due = _NEVER
        row = database.connection.execute("SELECT organization_id, sign_key, sequence FROM blocklist_head").fetchone()
        self._owner: tuple[str, str] = ("", "") if row is None else (row[0], row[1])
        self.sequence: int = 0 if row is None else row[2]

    def pin(self, enrolled: Enrolled) -> None:
        """Set organization and signing keys of the accepted list; delete the list of another organization or manager.

        Over HTTP there is no key and no list, because the policy contains the entries.
        """
        self._trusted = enrolled.trusted
        organization_id, sign_key = self._owner
        if self._trusted is not None and self._trusted.knows(sign_key):
            sign_key = enrolled.sign_key
        owner = (enrolled.organization_id, enrolled.sign_key)
        if (organization_id, sign_key) != owner:
            self._owner = owner
            self._store(0, [], [], whole=True)

    def opened(self, link: Link, now: float) -> None:
        """Subscribe to the snapshot on a new link; the changes are subscribed already."""
        self._link = link
        self._waiting.clear()
        self.ask(now)

    def closed(self) -> None:
        """Handle the loss of the link: nothing is requested until the next link."""
        self._link = None
        self.due = _NEVER

    def ask(self, now: float) -> None:
        """Subscribe to the snapshot (again)."""
        if self._link is not None:
            self._link.subscribe(BLOCKLIST)
            self.due = now + PATIENCE

    def tick(self, now: float) -> None:
        """Unsubscribe from the snapshot when no sequence is missing."""
        if now < self.due or self._link is None:
            return
        if self._waiting:
            self.ask(now)
        else:
            self._link.unsubscribe(BLOCKLIST)
            self.due = _NEVER

    def receive(self, row: Topic, payload: bytes, now: float) -> bool:
        """Apply a snapshot or a change; return whether the sequence changed."""
        if self._trusted is None or not payload:
            return False
        topic = row.below_root(self._owner[0])
        if self._trusted.signer(topic, payload, self._manager_time.latest_now()) is None:
            self._ignored["blocklist_forged"] += 1
            return False
        before = self.sequence
        try:
            if row is BLOCKLIST:
                snapshot = decode(BlocklistSnapshot, payload, BLOCKLIST.limit)
                self._manager_time.observe(snapshot.sent_at, "blocklist", snapshot.sequence)
                self._snapshot(snapshot)
                self.forward(topic, payload, snapshot.sequence)
            else:
                change = decode(BlocklistChange, payload, BLOCKLIST_CHANGES.limit)
                self._manager_time.observe(change.sent_at, "blocklist", change.sequence)
                self._change(change)
                self.forward(topic, payload, change.sequence)
        except DecodeError:
            self._ignored["blocklist_unreadable"] += 1
        except sqlite3.Error:
            _log.exception("blocklist_not_stored")
        if self._waiting and self.due == _NEVER:
            self.ask(now)
        return self.sequence != before

    def measures(self) -> Iterable[Measure]:
        """Return all entries."""
        rows = self._database.connection.execute("SELECT kind, value, reason, expires_at, incident_id FROM blocklist")
        return [Measure(*row) for row in rows]

    def _snapshot(self, snapshot: BlocklistSnapshot) -> None:
        if snapshot.organization_id != self._owner[0]:
            return
        if snapshot.sequence > self.sequence:
            self._store(snapshot.sequence, snapshot.entries, [], whole=True)
        self._catch_up()

    def _change(self, change: BlocklistChange) -> None:
        if change.organization_id != self._owner[0] or change.sequence <= self.sequence:
            return
        self._waiting[change.sequence] = change
        while len(self._waiting) > _MAX_WAITING:
            del self._waiting[max(self._waiting)]
        self._catch_up()

    def _catch_up(self) -> None:
        """Apply the waiting changes in order, up to the first gap; drop outdated changes."""
        for sequence in sorted(self._waiting):
            change = self._waiting[sequence]
            if sequence > self.sequence:
                if change.from_sequence > self.sequence:
                    return
                self._store(sequence, change.added, change.removed, whole=False)
            del self._waiting[sequence]

    def _store(self, sequence: int, added: list[BlocklistEntry], removed: list[BlocklistEntry], *, whole: bool) -> None:
        with self._database.transaction() as connection:
            if whole:
                connection.execute("DELETE FROM blocklist")
            keys = [(entry.kind, entry.value) for entry in map(_normal, removed) if entry is not None]
            connection.executemany("DELETE FROM blocklist WHERE kind = ? AND value = ?", keys)
            rows = [
                (entry.kind, entry.value, entry.reason, entry.expires_at, entry.incident_id)
                for entry in map(_normal, added)
                if entry is not None
            ]
            connection.executemany("INSERT OR REPLACE INTO blocklist VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("INSERT OR REPLACE INTO blocklist_head VALUES (1, ?, ?, ?)", (*self._owner, sequence))
        self.sequence = sequence


def _normal(entry: BlocklistEntry) -> Measure | None:
    """Return an entry as a measure with a normalized value; None for an invalid entry."""
    expires_at = None if entry.expires_at is None else entry.expires_at.timestamp()
    if entry.kind == "file_hash":
        value = entry.value.lower() if _HASH.fullmatch(entry.value) else ""
    else:
        try:
            value = span(entry.value).text
        except ValueError:
            value = ""
    if not value:
        _log.warning("blocklist_entry_unreadable", kind=entry.kind)
        return None
    return Measure(entry.kind, value, entry.reason, expires_at, entry.incident_id)
