"""Blocklist messages: each change at once, the retained snapshot of an organization at a bounded rate."""

import json
from collections.abc import Iterator, Mapping

from manager.domain.instant import Instant
from manager.domain.networks import Network, network_of
from manager.domain.response import Blocklists
from manager.engine.batch import Publication
from schemas import message_codes
from schemas.blocklist import BlocklistChange, BlocklistEntry, BlocklistSnapshot
from schemas.keys import ManagerKeyring
from schemas.model import utc
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES

_NEVER = -1e9
_NEVER_KEY = "never:"
"""Prefix of the stored value of an organization's published never list."""

_LIFTED_KEY = "lifted:"
"""Prefix of the stored value of an organization's lifted networks."""

SEQUENCE_KEY = "blocklist_sequence:"
"""Prefix of the stored value of an organization's sequence."""


def stored_sequences(meta: Mapping[str, str]) -> dict[str, int]:
    """Return the sequences by organization from the stored values."""
    return {key.removeprefix(SEQUENCE_KEY): int(value) for key, value in meta.items() if key.startswith(SEQUENCE_KEY)}


def sequence_value(organization_id: str, sequence: int) -> tuple[str, str]:
    """Return key and value that store an organization's sequence."""
    return SEQUENCE_KEY + organization_id, str(sequence)


def stored_never_lists(meta: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the published never lists by organization from the stored values."""
    listed = ((key.removeprefix(_NEVER_KEY), value) for key, value in meta.items() if key.startswith(_NEVER_KEY))
    return {organization_id: tuple(json.loads(value)) for organization_id, value in listed}


def never_value(organization_id: str, networks: tuple[str, ...]) -> tuple[str, str]:
    """Return key and value that store an organization's published never list."""
    return _NEVER_KEY + organization_id, json.dumps(networks)


def stored_lifts(meta: Mapping[str, str]) -> dict[str, dict[Network, float]]:
    """Return the lifted networks by organization from the stored values, each with its end in seconds since 1970."""
    found: dict[str, dict[Network, float]] = {}
    for key, value in meta.items():
        if key.startswith(_LIFTED_KEY):
            lifted = {network_of(text): until for text, until in json.loads(value).items()}
            known = {network: until for network, until in lifted.items() if network is not None}
            found[key.removeprefix(_LIFTED_KEY)] = known
    return found


def lifted_value(organization_id: str, lifted: Mapping[Network, float]) -> tuple[str, str]:
    """Return key and value that store an organization's lifted networks."""
    return _LIFTED_KEY + organization_id, json.dumps({str(network): until for network, until in lifted.items()})


class BlocklistMessages:
    """Signs changes and snapshots and schedules snapshots. Times are monotonic.

    Args:
        keyring: signs the messages.
        blocklists: the content of the snapshots.
        snapshot_every: the minimum time between two snapshots of one organization, in seconds.
    """

    def __init__(self, keyring: ManagerKeyring, blocklists: Blocklists, snapshot_every: float) -> None:
        self._keyring = keyring
        self._blocklists = blocklists
        self._snapshot_every = snapshot_every
        self._due: dict[str, float] = {}
        self._published: dict[str, float] = {}
        self.publish_all()

    def publish_all(self) -> None:
        """Schedule every snapshot at once, because a broker may have lost its retained messages."""
        self._due = dict.fromkeys(self._blocklists.sequences, _NEVER)

    def change(self, change: BlocklistChange, wall: float) -> Publication:
        """Return the publication of a change, and schedule the snapshot; `wall` is in seconds since 1970."""
        self._schedule(change.organization_id)
        topic = BLOCKLIST_CHANGES.below_root(change.organization_id)
        payload = message_codes.with_signature(self._keyring.sign_key, topic, stamped_change(change, wall).body())
        return Publication(BLOCKLIST_CHANGES.address(change.organization_id), payload)

    def publish_if_behind(self, organization_id: str, sequence: int) -> None:
        """Schedule the snapshot if an agent's heartbeat shows an older sequence."""
        if sequence < self._blocklists.sequences.get(organization_id, 0):
            self._schedule(organization_id)

    def due(self, now: Instant) -> Iterator[Publication]:
        """Yield and unschedule the snapshots that are due."""
        for organization_id in [name for name, at in self._due.items() if at <= now.monotonic]:
            del self._due[organization_id]
            self._published[organization_id] = now.monotonic
            topic = BLOCKLIST.below_root(organization_id)
            body = stamped_snapshot(self._blocklists.snapshot(organization_id), now.wall).body()
            payload = message_codes.with_signature(self._keyring.sign_key, topic, body)
            yield Publication(BLOCKLIST.address(organization_id), payload, retained=True)

    def _schedule(self, organization_id: str) -> None:
        self._due.setdefault(organization_id, self._published.get(organization_id, _NEVER) + self._snapshot_every)


def stamped_change(change: BlocklistChange, wall: float) -> BlocklistChange:
    """Return a change as it is signed at a time: with `sentAt`, and the time left of each entry."""
    return change.model_copy(
        update={"sent_at": utc(wall), "added": [_with_time_left(each, wall) for each in change.added]}
    )


def stamped_snapshot(snapshot: BlocklistSnapshot, wall: float) -> BlocklistSnapshot:
    """Return a snapshot as it is signed at a time: with `sentAt`, and the time left of each entry."""
    entries = [_with_time_left(entry, wall) for entry in snapshot.entries]
    return snapshot.model_copy(update={"sent_at": utc(wall), "entries": entries})


def _with_time_left(entry: BlocklistEntry, wall: float) -> BlocklistEntry:
    if entry.expires_at is None:
        return entry
    left = max(0.0, round(entry.expires_at.timestamp() - wall, 1))
    return entry.model_copy(update={"seconds_left": left})
