"""The organizations' blocklists as messages: a change at once, the retained snapshot behind it, amortised."""

from collections.abc import Iterator, Mapping

from manager.domain.response import Blocklists
from manager.engine.batch import Publication
from schemas import codes
from schemas.blocklist import BlocklistChange
from schemas.keys import ManagerKeyring
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES

_LONG_AGO = -1e9
_KEY = "blocklist_sequence:"
"""Before the organization's id: the name under which the store keeps a sequence."""


def kept_sequences(meta: Mapping[str, str]) -> dict[str, int]:
    """Return the sequences that the store kept among its single values."""
    return {key.removeprefix(_KEY): int(value) for key, value in meta.items() if key.startswith(_KEY)}


def to_keep(organization_id: str, sequence: int) -> tuple[str, str]:
    """Return the single value by which the store keeps a sequence."""
    return _KEY + organization_id, str(sequence)


class BlocklistMessages:
    """Signs changes and snapshots, and says when a snapshot is due. Times are monotonic.

    Args:
        keyring: signs.
        blocklists: what the snapshots say.
        snapshot_every: seconds between two snapshots of one organization at least.
    """

    def __init__(self, keyring: ManagerKeyring, blocklists: Blocklists, snapshot_every: float) -> None:
        self._keyring = keyring
        self._blocklists = blocklists
        self._snapshot_every = snapshot_every
        self._due: dict[str, float] = {}
        self._published: dict[str, float] = {}
        self.publish_all()

    def publish_all(self) -> None:
        """Let every snapshot go out again: a broker may have lost what it retained."""
        self._due = dict.fromkeys(self._blocklists.sequences, _LONG_AGO)

    def change(self, change: BlocklistChange) -> Publication:
        """Return a change as it is published; the snapshot will follow."""
        self._schedule(change.organization_id)
        topic = BLOCKLIST_CHANGES.below_root(change.organization_id)
        payload = codes.with_signature(self._keyring.sign_key, topic, change.body())
        return Publication(BLOCKLIST_CHANGES.address(change.organization_id), payload)

    def behind(self, organization_id: str, sequence: int) -> None:
        """An agent's heartbeat showed an older sequence: it needs the snapshot."""
        if sequence < self._blocklists.sequences.get(organization_id, 0):
            self._schedule(organization_id)

    def due(self, now: float) -> Iterator[Publication]:
        """Yield, once, the snapshots whose time has come."""
        for organization_id in [name for name, at in self._due.items() if at <= now]:
            del self._due[organization_id]
            self._published[organization_id] = now
            topic = BLOCKLIST.below_root(organization_id)
            body = self._blocklists.snapshot(organization_id).body()
            payload = codes.with_signature(self._keyring.sign_key, topic, body)
            yield Publication(BLOCKLIST.address(organization_id), payload, retained=True)

    def _schedule(self, organization_id: str) -> None:
        self._due.setdefault(organization_id, self._published.get(organization_id, _LONG_AGO) + self._snapshot_every)
