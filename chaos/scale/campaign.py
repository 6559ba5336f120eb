"""The campaign of the profile `scale`: one group, one fleet, faults in a seeded order, and the checks at the end."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from chaos.run import FAILURES, Show, told
from chaos.scale.faults import ScaleFault
from chaos.scale.group import Group
from chaos.site import Load

_CONNECTED_WITHIN = 120.0
_RECEIPT_WITHIN = 120.0
_DECIDED_WITHIN = 120.0
_LEDGER_WITHIN = 900.0
_AFTER_DEADLINE = 300.0
"""Seconds for which the fleet goes on reporting at most when no further fault begins."""

_SETTLES = 0.5
"""Share of the faults after which all members must be ready before the next one."""


@dataclass(slots=True)
class Campaign:
    """The results of one campaign. Times in seconds.

    Attributes:
        seed: of every random choice.
        agents: the simulated agents.
        rate: reports per second that were scheduled, total over all agents.
        faults: the strikes by kind.
        wrong: what must hold and did not.
    """

    seed: int
    agents: int
    rate: float
    faults: dict[str, int] = field(default_factory=dict)
    network: int = 0
    kills: int = 0
    sent: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    altered: int = 0
    refused: int = 0
    incidents: int = 0
    incidents_doubled: int = 0
    epochs: int = 0
    renewals: int = 0
    commits: int = 0
    longest_pause: float = 0.0
    seconds: float = 0.0
    reported_for: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether all that must hold held."""
        return not (self.lost or self.doubled or self.altered or self.refused or self.incidents_doubled or self.wrong)

    def members(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {**asdict(self), "holds": self.holds}


def run_campaign(faults: Sequence[ScaleFault], *, seed: int, load: Load, deadline: float, show: Show) -> Campaign:
    """Strike one group with faults under load, then check the ledger, the incidents and the history of the lease.

    Args:
        faults: the faults in their order.
        seed: of every further random choice.
        load: the fleet.
        deadline: monotonic time from which no further fault begins.
        show: is told of progress.
    """
    found = Campaign(seed, load.agents, load.rate)
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()
    try:
        _run(faults, Group(home, Random(seed)), deadline=deadline, show=show, found=found)
    except (*FAILURES, psycopg.Error) as error:
        found.wrong.append(told(error))
    found.seconds = round(time.monotonic() - began, 1)
    if found.holds:
        shutil.rmtree(home, ignore_errors=True)
    else:
        show(f"logs kept in {home}")
    return found


def _run(faults: Sequence[ScaleFault], group: Group, *, deadline: float, show: Show, found: Campaign) -> None:
    with ExitStack() as stack:
        stack.enter_context(group)
        lasts = max(0.0, deadline - time.monotonic()) + _AFTER_DEADLINE
        load = Load(found.agents, found.rate, seconds=lasts)
        simulation = stack.enter_context(group.reporting(found.seed, load))
        simulation.wait_until_connected(_CONNECTED_WITHIN)
        done: Counter[str] = Counter()
        for number, fault in enumerate(faults):
            if time.monotonic() > deadline:
                break
            show(f"{number + 1} of {len(faults)}: {fault.name}, {simulation.progress.sent} reports")
            try:
                fault.strike(group)
                done[fault.name] += 1
                found.network += fault.group == "network"
                _recover(group)
            except FAILURES as error:  # the ledger is checked all the same
                found.wrong.append(f"{fault.name}: {told(error)}")
                break
        found.faults, found.kills = dict(done), group.kills
        group.revive()
        simulation.stop()
        _check(group, found)


def _recover(group: Group) -> None:
    group.revive()
    receipted = group.receipted()
    group.until(lambda: group.receipted() > receipted, "a report has its receipt", _RECEIPT_WITHIN)
    if group.dice.random() < _SETTLES:
        group.settle()


def _check(group: Group, found: Campaign) -> None:
    group.settle()
    if group.fleet is None:
        return
    result = group.fleet.result(_LEDGER_WITHIN)
    found.sent, found.stored, found.lost, found.doubled = result.sent, result.stored, result.lost, result.doubled
    found.altered, found.refused, found.longest_pause = result.altered, result.refused, result.longest_pause
    found.incidents, found.incidents_doubled = result.incidents, result.incidents_doubled
    found.reported_for = result.seconds
    group.until(group.history.is_decided, "all reports are decided", _DECIDED_WITHIN)
    checked = group.history.check()
    found.epochs, found.renewals, found.commits = checked.epochs, checked.renewals, checked.commits
    found.wrong += checked.wrong
