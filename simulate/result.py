"""The result of a simulation, as `-o json` prints it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic.alias_generators import to_camel

from simulate.agent import Tally
from simulate.books import Balance

EXAMPLES = 20
"""Ids that a result names of each kind at most."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The simulator's own process: CPU seconds from the first report to the last receipt, and its largest memory.

    `share` is of one core. A share near 1 means that the simulator is the limit, not the manager.
    """

    cpu_seconds: float = 0.0
    share: float = 0.0
    memory_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """Counts, and times in seconds.

    Attributes:
        sent: Reports that were made.
        stored: Those that the manager has.
        lost: Neither stored nor refused.
        lost_after_receipt: How many of the lost had a receipt.
        doubled: Stored more than once.
        altered: Stored with another content than was sent.
        late: Stored, with a receipt after more than the allowed time, or without one.
        refused: Refused by receipt.
        unsent: Stored for these agents since the start, and not among the reports.
        seconds: From the start of sending to the last receipt, or to the end of waiting.
        longest_pause: Longest time without a receipt while a report waited.
        longest_lag: Longest time that the simulator itself was behind its schedule.
        incidents: About shared attackers, opened since the start.
        incidents_doubled: Those about an address that another of them is about.
        examples: Some ids of each kind that is not as it should be.
    """

    sent: int
    stored: int
    lost: int
    lost_after_receipt: int
    doubled: int
    altered: int
    late: int
    refused: int
    unsent: int
    seconds: float
    longest_pause: float
    longest_lag: float
    cpu_seconds: float
    cpu_share: float
    memory_mib: float
    agents: int
    registered: int
    connected: int
    seconds_connecting: float
    reconnects: int
    cuts: int
    receipts: int
    receipted: int
    deferred: int
    ignored: int
    incidents: int
    incidents_doubled: int
    policies_applied: int
    seed: int
    addresses: list[str]
    is_even: bool
    examples: dict[str, list[str]]

    def members(self) -> dict[str, Any]:
        """Return it as JSON values, camelCase."""
        names = {"memory_mib": "memoryMiB", "is_even": "balanced"}
        return {names.get(name, to_camel(name)): value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Run:
    """Figures of a run that its balance does not have."""

    agents: int
    seed: int
    addresses: list[str]
    connected: int
    seconds_connecting: float
    seconds: float
    longest_pause: float
    longest_lag: float
    usage: Usage


def result_of(balance: Balance, tally: Tally, run: Run, incidents: Iterable[str]) -> Result:
    """Put a result together; `incidents` are the values of those that were opened."""
    opened = Counter(incidents)
    kinds = ("lost", "doubled", "altered", "late", "refused", "unsent")
    found = {kind: getattr(balance, kind) for kind in kinds}
    return Result(
        sent=balance.sent,
        stored=balance.stored,
        **{kind: len(ids) for kind, ids in found.items()},
        lost_after_receipt=balance.lost_after_receipt,
        seconds=round(run.seconds, 3),
        longest_pause=round(run.longest_pause, 3),
        longest_lag=round(run.longest_lag, 3),
        cpu_seconds=round(run.usage.cpu_seconds, 3),
        cpu_share=round(run.usage.share, 3),
        memory_mib=round(run.usage.memory_mib, 1),
        agents=run.agents,
        registered=tally.registered,
        connected=run.connected,
        seconds_connecting=round(run.seconds_connecting, 3),
        reconnects=tally.reconnects,
        cuts=tally.cuts,
        receipts=tally.receipts,
        receipted=balance.receipted,
        deferred=tally.deferred,
        ignored=tally.ignored,
        incidents=opened.total(),
        incidents_doubled=sum(count - 1 for count in opened.values()),
        policies_applied=tally.policies_applied,
        seed=run.seed,
        addresses=run.addresses,
        is_even=balance.is_even,
        examples={kind: ids[:EXAMPLES] for kind, ids in found.items() if ids},
    )
