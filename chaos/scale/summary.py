"""Sums the lines of campaigns: a verdict for each fault, and the results of each campaign that came to its end."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SUMMED = (
    "sent", "stored", "lost", "doubled", "altered", "refused", "incidents", "incidents_doubled", "responses",
    "responses_doubled", "undecided", "epochs", "renewals", "commits", "kills", "reported_for",
)  # fmt: skip


@dataclass(slots=True)
class Struck:
    """The faults of one kind: how many there were, how many failed, and the longest time to a receipt, in seconds."""

    group: str
    times: int = 0
    failed: int = 0
    longest: float = 0.0


@dataclass(slots=True)
class Summary:
    """The sum of some campaigns. Those that were stopped have verdicts alone."""

    campaigns: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, Struck] = field(default_factory=dict)
    seeds: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """The faults with a verdict."""
        return sum(kind.times for kind in self.kinds.values())

    @property
    def network(self) -> int:
        """Those of the network."""
        return sum(kind.times for kind in self.kinds.values() if kind.group == "network")

    @property
    def holds(self) -> bool:
        """Whether each fault and each campaign held."""
        return not self.wrong and all(each["holds"] for each in self.campaigns)

    def total(self, name: str) -> float:
        """Return the sum of one count over the campaigns."""
        return sum(each[name] for each in self.campaigns)


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the lines of campaigns."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines() if line.strip()]


def summed(lines: Iterable[dict[str, Any]]) -> Summary:
    """Sum the lines of one campaign or of several."""
    found = Summary()
    for line in lines:
        found.seeds.add(line["seed"])
        if "verdict" not in line:
            found.campaigns.append(line)
            found.wrong += [f"seed {line['seed']}: {each}" for each in line["wrong"]]
            continue
        kind = found.kinds.setdefault(line["fault"], Struck(line["group"]))
        kind.times += 1
        kind.failed += line["verdict"] != "holds"
        kind.longest = max(kind.longest, line["receipt_after"] or 0.0)
        wrong = [f"seed {line['seed']}, fault {line['number']}, {line['fault']}: {each}" for each in line["wrong"]]
        found.wrong += wrong
    found.wrong = list(dict.fromkeys(found.wrong))
    return found


def table(found: Summary) -> str:
    """Return the sum as tables of Markdown."""
    rows = ["| fault | times | fails | longest to a receipt |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {kind.times} | {kind.failed} | {kind.longest:.1f} s |"
        for name, kind in sorted(found.kinds.items(), key=lambda each: (each[1].group, each[0]))
    ]
    rows += ["", "| | |", "|---|---|", f"| faults, of the network | {found.faults}, {found.network} |"]
    rows += [f"| {name.replace('_', ' ')} | {found.total(name):,.0f} |" for name in _SUMMED]
    pause = max((each["longest_pause"] for each in found.campaigns), default=0.0)
    rows += [f"| longest pause | {pause:.1f} s |", *(f"- {each}" for each in found.wrong)]
    return "\n".join(rows)
