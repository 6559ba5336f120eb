"""Runs faults against sites: seeded, under load, with all reports checked at the end of each run."""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

from chaos.fault import Fault
from chaos.site import DOORS, DoorName, Load, Site, SiteError
from simulate import SimulationError

FAILURES = (SiteError, SimulationError, TimeoutError, AssertionError, OSError)
_LEDGER_WITHIN = 1200.0
_CONNECTED_WITHIN = 120.0
_MORE_FOR_EACH_AGENT = 0.2
_RECEIPT_WITHIN = 60.0
_RECOVERS = 0.7
"""Share of the strikes after which a report must have its receipt before the next one; the others follow at once."""


@dataclass(slots=True)
class Row:
    """The results of one fault at one door. Times in seconds."""

    fault: str
    group: str
    door: str
    seed: int
    agents: int = 0
    rate: float = 0.0
    strikes: int = 0
    kills: int = 0
    sent: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    altered: int = 0
    refused: int = 0
    before_copy: int = 0
    incidents: int = 0
    incidents_doubled: int = 0
    longest_pause: float = 0.0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)
    expected: str | None = None

    @property
    def holds(self) -> bool:
        """Whether all expectations were met."""
        return not (self.lost or self.doubled or self.altered or self.refused or self.incidents_doubled or self.failed)

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Self:
        """Return the row from the output of `members`."""
        return cls(**{name: value for name, value in members.items() if name != "holds"})

    def members(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {**asdict(self), "holds": self.holds}


Show = Callable[[str], None]


def run_fault(fault: Fault, door: DoorName, strikes: int, *, seed: int, load: Load, deadline: float, show: Show) -> Row:
    """Strike a site the given number of times under load, then check all reports.

    Args:
        fault: the fault.
        door: the door at which the fleet reports.
        strikes: how many times.
        seed: of every random choice.
        load: the fleet, unless the fault needs one of its own.
        deadline: monotonic time from which no further strike is begun.
        show: is told of progress.

    Returns:
        The counts of the ledger; what failed is among them.
    """
    load = fault.load or load
    row = Row(fault.name, fault.group, door, seed, agents=load.agents, rate=load.rate, expected=fault.xfail)
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()
    try:
        site = Site(door, home, Random(seed), dict(fault.environment))
        _strike(fault, site, strikes, load=load, deadline=deadline, show=show, row=row)
    except FAILURES as error:
        row.failed.append(told(error))
    finally:
        row.seconds = round(time.monotonic() - began, 1)
        if row.holds:
            shutil.rmtree(home, ignore_errors=True)
        else:
            show(f"logs kept in {home}")
    return row


def _strike(fault: Fault, site: Site, strikes: int, *, load: Load, deadline: float, show: Show, row: Row) -> None:
    with ExitStack() as stack:
        stack.enter_context(site)
        simulation = stack.enter_context(site.reporting(row.seed, load))
        simulation.wait_until_connected(_CONNECTED_WITHIN + _MORE_FOR_EACH_AGENT * load.agents)
        try:
            for number in range(strikes):
                if time.monotonic() > deadline:
                    break
                fault.strike(site)
                row.strikes += 1
                if site.dice.random() < _RECOVERS:
                    _wait_for_receipt(site)
                show(f"{fault.name} at {site.door}: {number + 1} of {strikes}, {simulation.progress.sent} reports")
            site.wait_ready()
        except FAILURES as error:  # the ledger is checked all the same
            row.failed.append(told(error))
        row.kills = site.kills
        simulation.stop()
        result = simulation.result(_LEDGER_WITHIN)
        row.sent, row.stored, row.doubled, row.altered = result.sent, result.stored, result.doubled, result.altered
        row.refused, row.incidents, row.incidents_doubled = result.refused, result.incidents, result.incidents_doubled
        row.longest_pause = result.longest_pause
        row.lost = result.lost
        if site.copied_at is not None:  # what had its receipt, and no agent kept, is gone with the store
            row.before_copy = min(result.lost, result.lost_after_receipt)
            row.lost -= row.before_copy


def told(error: BaseException) -> str:
    """Return an error as a line of the results."""
    return f"{type(error).__name__}: {error}"[:600]


def _wait_for_receipt(site: Site) -> None:
    receipted = site.receipted()
    site.until(lambda: site.receipted() > receipted, "a report has its receipt", _RECEIPT_WITHIN)


def share_out(faults: Sequence[Fault], kills: int) -> list[tuple[Fault, DoorName, int]]:
    """Distribute a total number of strikes over all faults and their doors."""
    places = [(fault, door) for fault in faults for door in DOORS if door in fault.doors]
    weighed = sum(fault.weight for fault, _ in places if not fault.once) or 1
    shares = []
    for fault, door in places:
        count = 1 if fault.once else max(1, round(kills * fault.weight / weighed))
        shares.append((fault, door, count))
    return shares
