"""Explanation of an effective policy: the scope of each value, and all scopes of an entry of a list that adds up."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from manager.domain.policies.layers import Sections
from manager.domain.policies.resolution import UNITED, expiry_of, value_of

RAISED = ("thresholds.autoRespond", "alerting.minimumSeverity")
"""The values that an emergency entry of raised sensitivity changes."""


SOURCES = ("default", "global", "organization", "group", "agent", "emergency", "blocklist", "never")
"""The kinds of scopes that set values."""


class Source(NamedTuple):
    """A layer by the kind of its scope and the name of its target; empty for a scope without a name.

    Beside the kinds of documents there are `default` for the documented defaults, `emergency` for the agent's own live
    emergency entries and manual blocks, `blocklist` for its organization's, and `never` for its never list.
    """

    kind: str
    target: str = ""


DEFAULT = Source("default")


class Explained(NamedTuple):
    """One value of an effective policy.

    `path` is as in differences: ``thresholds.autoRespond``, ``blocklist.ips[203.0.113.7]``. `source` set the value, or
    has the entry that is in force; `sources` are all that set it or list the entry, the widest first.
    """

    path: str
    value: Any
    source: Source
    sources: tuple[Source, ...]


def explain(layers: Sequence[tuple[Source, Sections]], effective: Sections) -> list[Explained]:
    """Return each value of an effective policy with its source, sorted by path.

    Args:
        layers: what was merged, the widest scope first; together the layers have every value.
        effective: the result of the merge.
    """
    found: list[Explained] = []
    for name, section in effective.items():
        values = _entries(name, section, layers) if name in UNITED else _values((name,), section, layers)
        found += values
    return sorted(found, key=lambda each: each.path)


def _values(path: tuple[str, ...], value: Any, layers: Sequence[tuple[Source, Sections]]) -> Iterator[Explained]:
    if isinstance(value, Mapping) and value:
        for name, member in value.items():
            yield from _values((*path, name), member, layers)
        return
    sources = tuple(source for source, sections in layers if _has(sections, path))
    yield Explained(".".join(path), value, sources[-1], sources)


def _has(sections: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(sections, Mapping) or name not in sections:
            return False
        sections = sections[name]
    return True


def _entries(
    section: str, lists: Mapping[str, Sequence[Any]], layers: Sequence[tuple[Source, Sections]]
) -> Iterator[Explained]:
    """Yield the entries of a section whose lists add up; of equal values the longest lasting entry is in force."""
    for name, entries in lists.items():
        listed: dict[str, list[tuple[float, Source]]] = {}
        for source, sections in layers:
            for entry in sections.get(section, {}).get(name, ()):
                listed.setdefault(value_of(entry), []).append((expiry_of(entry), source))
        for entry in entries:
            ends = listed[value_of(entry)]
            longest = max(end for end, _ in ends)
            last = [source for end, source in ends if end == longest][-1]
            yield Explained(f"{section}.{name}[{value_of(entry)}]", entry, last, tuple(source for _, source in ends))


def raised(before: Sections, after: Sections) -> list[Sections]:
    """Return, as layers, the values that raised sensitivity changed."""
    names = (path.split(".") for path in RAISED)
    return [
        {section: {name: after[section][name]}}
        for section, name in names
        if before[section][name] != after[section][name]
    ]
