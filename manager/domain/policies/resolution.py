"""Policy resolution: mappings merge by key, block- and allowlists are unions, other lists are replaced.

The result is as of a time: expired entries are left out, and addresses that the allowlist covers are never blocked
(the contract, section 4).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import inf
from typing import Any

from manager.domain.networks import NetworkSet, network_of
from schemas.threats import Severity

UNITED = frozenset({"blocklist", "allowlist"})
"""Sections whose lists are unions of all layers."""


def resolve(layers: Iterable[Mapping[str, Any]], at: float = 0.0) -> dict[str, Any]:
    """Merge layers into sections, each over the ones before it.

    Args:
        layers: sections as JSON values in wire names, the widest scope first.
        at: seconds since 1970; blocklist entries that expire by then are left out.
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for name, section in layer.items():
            if name in UNITED:
                result[name] = _unite(result.get(name, {}), section)
            else:
                result[name] = _merge(result.get(name), section)
    if "blocklist" in result:
        result["blocklist"] = _in_force(result["blocklist"], result.get("allowlist", {}), at)
    return result


def raise_sensitivity(sections: Mapping[str, Any], step: float, floor: float) -> dict[str, Any]:
    """Return the sections with raised sensitivity.

    `autoRespond` is lower by `step`, but no lower than `floor` and than `notifyAndWait`, and never higher than before;
    `minimumSeverity` is low. Both start from the operator's values, so two reasons lower it no further than one.
    """
    thresholds, alerting = sections["thresholds"], sections["alerting"]
    before = thresholds["autoRespond"]
    lowered = min(before, max(before - step, floor, thresholds["notifyAndWait"]))
    return {
        **sections,
        "thresholds": {**thresholds, "autoRespond": lowered},
        "alerting": {**alerting, "minimumSeverity": Severity.LOW.value},
    }


def value_of(entry: Any) -> str:
    """Return a list entry's value: the entry itself if it is text, else its `value` member."""
    return str(entry["value"]) if isinstance(entry, Mapping) else str(entry)


def expiry_of(entry: Any) -> float:
    """Return the expiry of an entry, in seconds since 1970; infinity for a permanent entry.

    Raises:
        ValueError: its `expiresAt` is no time.
    """
    expires = entry.get("expiresAt") if isinstance(entry, Mapping) else None
    return inf if expires is None else datetime.fromisoformat(expires).timestamp()


def expiries(layer: Mapping[str, Any]) -> list[float]:
    """Return the distinct expiry times in a layer's blocklist, sorted."""
    found = {expiry_of(entry) for entries in layer.get("blocklist", {}).values() for entry in entries}
    return sorted(found - {inf})


def _merge(under: Any, over: Any) -> Any:
    if isinstance(under, Mapping) and isinstance(over, Mapping):
        return {key: _merge(under.get(key), over[key]) if key in over else under[key] for key in {**under, **over}}
    return over


def _unite(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _union(under.get(name, []), over.get(name, [])) for name in {**under, **over}}


def _union(first: Iterable[Any], second: Iterable[Any]) -> list[Any]:
    """Unite entries by value; of two equal values the longer lasting entry is kept, on a tie the later layer's."""
    entries: dict[str, Any] = {}
    for entry in [*first, *second]:
        value = value_of(entry)
        if value not in entries or expiry_of(entry) >= expiry_of(entries[value]):
            entries[value] = entry
    return [entries[value] for value in sorted(entries)]


def _in_force(blocklist: Mapping[str, Any], allowlist: Mapping[str, Any], at: float) -> dict[str, Any]:
    live = {name: [entry for entry in entries if expiry_of(entry) > at] for name, entries in blocklist.items()}
    allowed = NetworkSet(allowlist.get("ips", ()))
    if allowed and live.get("ips"):
        live["ips"] = [entry for entry in live["ips"] if not _covered(allowed, value_of(entry))]
    harmless = frozenset(allowlist.get("fileHashes", ()))
    if harmless and live.get("fileHashes"):
        live["fileHashes"] = [entry for entry in live["fileHashes"] if value_of(entry) not in harmless]
    return live


def _covered(allowed: NetworkSet, value: str) -> bool:
    network = network_of(value)
    return network is not None and allowed.covers(network)
