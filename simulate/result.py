"""The result of a simulation, with its JSON form for `-o json`."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic.alias_generators import to_camel

from simulate.agent import Tally
from simulate.ledger import Balance
from simulate.manager_reader import Opened

EXAMPLES = 20
"""The maximum number of example ids of each kind in a result."""

_WINDOW = timedelta(seconds=300.001)
"""The longest gap between two reports of one run; times are exact to the millisecond."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources used by the simulator: CPU seconds from the first report to the last receipt, and peak memory.

    `share` is the share of one core. A share near 1 means that the simulator is the limit, not the manager.
    """

    cpu_seconds: float = 0.0
    share: float = 0.0
    memory_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """Counts, and times in seconds.

    Attributes:
        sent: Reports that were created.
        stored: Reports that the manager has stored.
        lost: Reports neither stored nor refused.
        lost_after_receipt: Lost reports with a receipt.
        doubled: Reports stored more than once.
        altered: Reports stored with other content than was sent.
        late: Stored reports with a late receipt or without one.
        refused: Reports refused by receipt.
        unsent: Reports stored for these agents since the start that they have not sent.
        seconds: The time from the start of sending to the last receipt, or to the end of waiting.
        time_to_receipt: The seconds from a report to its receipt, by the percentage of reports that had it within them.
        longest_pause: The longest time without a receipt while a report waited.
        longest_lag: The longest delay of the simulator itself behind its schedule.
        incidents: Incidents about shared attackers that were opened since the start.
        incidents_doubled: Incidents about the same address as another one, with reports of the same run.
        incidents_split: Incidents about the same address as another one, with reports dated more than 300 s apart.
        examples: Some ids of each kind of error.
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
    time_to_receipt: dict[str, float | None]
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
    incidents_split: int
    policies_applied: int
    seed: int
    addresses: list[str]
    is_even: bool
    examples: dict[str, list[str]]

    def members(self) -> dict[str, Any]:
        """Return the result as JSON values with camelCase names."""
        names = {"memory_mib": "memoryMiB", "is_even": "balanced"}
        return {names.get(name, to_camel(name)): value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Run:
    """Measurements of a run, apart from its balance."""

    agents: int
    seed: int
    addresses: list[str]
    connected: int
    seconds_connecting: float
    seconds: float
    longest_pause: float
    longest_lag: float
    usage: Usage


def further_incidents(incidents: Iterable[Opened]) -> tuple[int, int]:
    """Count the incidents after the first about each address: those of the same run of reports, and those of another.

    A run ends at a gap of more than 300 s, so two incidents without such a gap between them are one too many. All
    reports about an attacker are made within seconds: a gap means that the manager dated some of them wrongly.
    """
    doubled = split = 0
    ends: dict[str, datetime] = {}
    for each in sorted(incidents, key=lambda incident: incident.first):
        end = ends.get(each.value)
        if end is not None and each.first - end <= _WINDOW:
            doubled += 1
        elif end is not None:
            split += 1
        ends[each.value] = max(each.last, end or each.last)
    return doubled, split


def result_of(balance: Balance, tally: Tally, run: Run, incidents: Sequence[Opened]) -> Result:
    """Build the result of a run; `incidents` are those that were opened."""
    doubled, split = further_incidents(incidents)
    kinds = ("lost", "doubled", "altered", "late", "refused", "unsent")
    found = {kind: getattr(balance, kind) for kind in kinds}
    return Result(
        sent=balance.sent,
        stored=balance.stored,
        **{kind: len(ids) for kind, ids in found.items()},
        lost_after_receipt=balance.lost_after_receipt,
        seconds=round(run.seconds, 3),
        time_to_receipt=dict(balance.time_to_receipt),
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
        incidents=len(incidents),
        incidents_doubled=doubled,
        incidents_split=split,
        policies_applied=tally.policies_applied,
        seed=run.seed,
        addresses=run.addresses,
        is_even=balance.is_even,
        examples={kind: ids[:EXAMPLES] for kind, ids in found.items() if ids},
    )
