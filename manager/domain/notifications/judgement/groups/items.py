"""Items: the lines of events in groups, in a form that goes through JSON."""

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

from manager.domain.notifications.message import MOST_LINES, Line, Plain, Quoted
from schemas.threats import Severity

Words: TypeAlias = list[tuple[bool, str]]
"""A line: each part with whether it is text from outside."""

ROOM = MOST_LINES - 3
"""The maximum number of lines of a message beside its title, its command and its link."""

_LONGEST = 200


def plain(text: str) -> tuple[bool, str]:
    """Return a part of the manager's own text."""
    return False, text


def quoted(text: object) -> tuple[bool, str]:
    """Return a part of text from outside; the channel cuts it once more by its own rules."""
    return True, str(text)[:_LONGEST]


def line_of(words: Words) -> Line:
    """Return the parts of a message's line."""
    return tuple(Quoted(text) if outside else Plain(text) for outside, text in words)


@dataclass(slots=True)
class Item:
    """One thing that happened.

    Attributes:
        words: its line.
        at: when it happened last, in seconds since 1970.
        severity: its severity.
        hostname: the host that it happened on.
        command: the command that undoes or acts.
        proven: whether the guard can prove who wrote what it says.
        count: how often it happened.
        is_login: whether somebody logged in; so it counts where an earlier release has stored it.
    """

    words: Words
    at: float
    severity: Severity
    hostname: str | None = None
    command: str | None = None
    proven: bool = True
    count: int = 1
    is_login: bool = True

    def repeat(self, later: "Item") -> None:
        """Count the same thing once more."""
        self.words, self.command = later.words, later.command
        self.severity = most_severe([self.severity, later.severity])
        self.at = max(self.at, later.at)
        self.proven |= later.proven
        self.count += later.count


_RANK = {severity: rank for rank, severity in enumerate(Severity)}


def most_severe(severities: list[Severity]) -> Severity:
    """Return the highest of some severities; low for none."""
    return max(severities, key=_RANK.__getitem__, default=Severity.LOW)


def by_weight(items: list[Item]) -> list[Item]:
    """Return items in the order in which they are told: of each host in turn, the proven and severe ones first."""
    turns, ordered = Counter[str | None](), list[tuple[int, Item]]()
    for item in sorted(items, key=weight):
        ordered.append((turns[item.hostname], item))
        turns[item.hostname] += 1
    return [item for _, item in sorted(ordered, key=lambda each: (each[0], weight(each[1])))]


def drop_lightest(items: dict[str, Item]) -> Item:
    """Remove the lightest item of the host with the most items and return it: no host crowds out another one."""
    hosts = Counter(item.hostname for item in items.values())
    most = max(hosts.values())
    crowded = (subject for subject, item in items.items() if hosts[item.hostname] == most)
    return items.pop(max(crowded, key=lambda subject: weight(items[subject])))


def weight(item: Item) -> tuple[bool, int, float]:
    """Return a key that sorts proven items first, then severe ones, then by time."""
    return not item.proven, -_RANK[item.severity], item.at
