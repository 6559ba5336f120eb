"""Lists of the measures in the manifest, for operators and for the guard."""

import hashlib
from collections.abc import Mapping
from typing import Any

from fence.addresses import Network, covers, written
from fence.manifest import Manifest


def listed(
    manifest: Manifest, now: float, covering: Network | None, origin: Any, ineffective: Mapping[Network, str]
) -> list[dict[str, Any]]:
    """Return the measures in force, newest first.

    Args:
        manifest: the measures.
        now: this boot's clock.
        covering: only what covers this network; None for all.
        origin: only what this requester has set; None for all.
        ineffective: the reasons why some do not keep their target out.
    """
    return [
        {
            "id": entry.id,
            "measure": entry.measure,
            "value": written(entry.network),
            "origin": entry.origin,
            "reason": entry.reason,
            "port": entry.port,
            "since": entry.added_at,
            "secondsLeft": round(entry.ends_at - now, 1),
            "ineffective": ineffective.get(entry.network),
        }
        for entry in sorted(manifest.entries.values(), key=lambda entry: -entry.added_at)
        if entry.ends_at > now
        and (covering is None or covers(entry.network, covering))
        and origin in {None, entry.origin}
    ]


def own_blocks_digest(manifest: Manifest) -> str:
    """Return a digest of the addresses blocked by the guard's own decision; the guard compares its own with it."""
    entries = manifest.entries.values()
    values = sorted(written(each.network) for each in entries if each.origin == "own" and each.measure == "block")
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:16]
