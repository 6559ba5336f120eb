"""Managed entries that a never-rule refuses for now: kept with their ends, and set once no rule refuses them."""

import json
from typing import NamedTuple

from fence.addresses import Network, parse
from fence.issuers import Source
from fence.manifest import Manifest

MOST = 1_000
"""The entries of a source that are kept; the others are tried again with the next message."""


class WaitingEntry(NamedTuple):
    """One entry of a signed message; `ends_at` is on the manager's clock, None without an end."""

    network: Network
    ends_at: float | None
    reason: str


class WaitingEntries:
    """The waiting entries of policy and blocklist, in the manifest's state.

    Args:
        manifest: stores them.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._read: dict[Source, tuple[str, dict[Network, WaitingEntry]]] = {}

    def of(self, source: Source) -> dict[Network, WaitingEntry]:
        """Return the waiting entries of a source."""
        return dict(self._kept(source))

    def state(self, source: Source, entries: dict[Network, WaitingEntry]) -> dict[str, str]:
        """Return the state that holds these entries, the first of them if there are too many."""
        rows = [(str(each.network), each.ends_at, each.reason) for each in list(entries.values())[:MOST]]
        return {_key(source): json.dumps(rows, separators=(",", ":"))}

    def count(self, source: Source) -> int:
        """Return the number of waiting entries of a source."""
        return len(self._kept(source))

    def _kept(self, source: Source) -> dict[Network, WaitingEntry]:
        text = self._manifest.state(_key(source)) or "[]"
        known = self._read.get(source)
        if known is None or known[0] is not text:
            entries = {
                (network := parse(value)): WaitingEntry(network, end, why) for value, end, why in json.loads(text)
            }
            known = self._read[source] = text, entries
        return known[1]


def _key(source: Source) -> str:
    return f"{source}_waiting"
