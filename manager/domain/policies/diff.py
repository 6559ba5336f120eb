"""Differences between two policies, member by member, and their urgency."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from manager.domain.policies.resolution import UNITED, value_of

ACTIVE_ACTIONS = frozenset({"block_ip", "kill_process", "quarantine_file"})
"""Actions by which a guard changes its host; a policy that allows none of them has auto-respond switched off."""


class Difference(NamedTuple):
    """One member that differs; None stands for a missing member or list entry.

    `path` names it as an error would: ``thresholds.autoRespond``, ``blocklist.ips[203.0.113.7]``.
    """

    path: str
    before: Any
    after: Any


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between two documents or effective sections, sorted by path.

    Entries of block- and allowlists are compared by value; any other list is one value.
    """
    return sorted(_differences("", before, after), key=lambda difference: difference.path)


def is_urgent(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether an effective policy must replace another at once, over HTTP too.

    Urgent are changes of the blocked addresses, in either direction, and switching auto-respond off (the contract,
    section 4).
    """
    if before["blocklist"]["ips"] != after["blocklist"]["ips"]:
        return True
    return auto_responds(before) and not auto_responds(after)


def auto_responds(sections: Mapping[str, Any]) -> bool:
    """Return whether a guard may change its host by itself."""
    return not ACTIVE_ACTIONS.isdisjoint(sections["response"]["actions"])


def _differences(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    if _is_mapping(before) and _is_mapping(after):
        before, after = before or {}, after or {}
        for name in {**before, **after}:
            member = f"{path}.{name}" if path else name
            if path.removeprefix("policy.") in UNITED:
                yield from _entries(member, before.get(name) or [], after.get(name) or [])
            else:
                yield from _differences(member, before.get(name), after.get(name))
        return
    yield Difference(path, before, after)


def _entries(path: str, before: list[Any], after: list[Any]) -> Iterator[Difference]:
    old = {value_of(entry): entry for entry in before}
    new = {value_of(entry): entry for entry in after}
    for value in {**old, **new}:
        if old.get(value) != new.get(value):
            yield Difference(f"{path}[{value}]", old.get(value), new.get(value))


def _is_mapping(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)
