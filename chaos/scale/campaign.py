"""The campaign of the profile `scale`: one group, one fleet, faults in a seeded order, each with a verdict."""

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import psycopg

from chaos.run import FAILURES, Show, told
from chaos.scale.faults import ScaleFault
from chaos.scale.group import Group
from chaos.site import Load
from simulate import Simulation

_CONNECTED_WITHIN = 120.0
_RECEIPT_WITHIN = 180.0
_DECIDED_WITHIN = 180.0
_LEDGER_WITHIN = 1800.0
_AFTER_DEADLINE = 300.0
"""Seconds for which the fleet goes on reporting at most when no further fault begins."""

_SETTLES, _AT_ONCE = 0.1, 0.15
"""Shares of the faults after which all members must be ready before the next one, and of those that the next one
follows at once. After the others the next one strikes when a report has had its receipt."""

_BEHIND = 60.0
"""Seconds of reports that may wait for their receipts when a fault strikes: the system has to catch up."""

Tell = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Verdict:
    """The result of one fault. Times in seconds.

    Attributes:
        number: its place in the campaign, from 1.
        note: what it struck, and for how long.
        at: since the beginning of the campaign.
        lasted: the strike.
        receipt_after: from its end to a report's receipt; None where the next fault did not wait for one.
        ready_after: from its end until all members were ready and a report that was made then had its receipt; the
            same.
        sent: reports that had been made when the verdict was given.
        waiting: those of them without a receipt.
        wrong: what must hold and does not.
    """

    seed: int
    number: int
    fault: str
    group: str
    note: str = ""
    at: float = 0.0
    lasted: float = 0.0
    receipt_after: float | None = None
    ready_after: float | None = None
    sent: int = 0
    waiting: int = 0
    wrong: list[str] = field(default_factory=list)

    def members(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {"verdict": "fails" if self.wrong else "holds", **asdict(self)}


@dataclass(slots=True)
class Campaign:
    """The results of one campaign. Times in seconds.

    Attributes:
        seed: of every random choice.
        agents: the simulated agents.
        rate: reports per second that were scheduled, total over all agents.
        faults: the strikes by kind.
        doubled_responses: responses that were decided more than once.
        undecided: stored reports on which the leader had not decided at the end.
        cores: what each part used of a core, on average.
        load: the machine's load average of the last minute, at the beginning and at the end.
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
    responses: int = 0
    responses_doubled: int = 0
    undecided: int = 0
    epochs: int = 0
    renewals: int = 0
    commits: int = 0
    longest_pause: float = 0.0
    seconds: float = 0.0
    reported_for: float = 0.0
    cores: dict[str, float] = field(default_factory=dict)
    load: tuple[float, float] = (0.0, 0.0)
    wrong: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether all that must hold held."""
        counted = self.lost or self.doubled or self.altered or self.refused or self.undecided
        return not (counted or self.incidents_doubled or self.responses_doubled or self.wrong)

    def members(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {**asdict(self), "holds": self.holds}


def run_campaign(
    faults: Sequence[ScaleFault],
    *,
    seed: int,
    load: Load,
    seconds: float,
    show: Show,
    tell: Tell = lambda _members: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Campaign:
    """Strike one group with faults under load, then check the ledger, the incidents and the history of the lease.

    Args:
        faults: the faults in their order.
        seed: of every further random choice.
        load: the fleet.
        seconds: after which no further fault begins.
        show: is told of progress.
        tell: is given the verdict of each fault as JSON values, then the results.
        stopping: returns whether no further fault shall begin; the checks are made all the same.
    """
    found = Campaign(seed, load.agents, load.rate, load=(os.getloadavg()[0], 0.0))
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()

    def is_over() -> bool:
        return stopping() or time.monotonic() - began > seconds

    try:
        with Group(home, Random(seed)) as group:
            _strike_all(faults, group, seconds=seconds, is_over=is_over, show=show, tell=tell, found=found)
    except (*FAILURES, psycopg.Error) as error:
        found.wrong.append(told(error))
    found.seconds = round(time.monotonic() - began, 1)
    found.load = found.load[0], os.getloadavg()[0]
    tell(found.members())
    if found.holds:
        shutil.rmtree(home, ignore_errors=True)
    else:
        show(f"logs kept in {home}")
    return found


def _strike_all(
    faults: Sequence[ScaleFault],
    group: Group,
    *,
    seconds: float,
    is_over: Callable[[], bool],
    show: Show,
    tell: Tell,
    found: Campaign,
) -> None:
    load = Load(found.agents, found.rate, seconds=seconds + _AFTER_DEADLINE)
    with group.reporting(found.seed, load) as simulation:
        simulation.wait_until_connected(_CONNECTED_WITHIN)
        began, done = time.monotonic(), Counter[str]()
        for number, fault in enumerate(faults, 1):
            if is_over():
                break
            verdict = Verdict(found.seed, number, fault.name, fault.group, at=round(time.monotonic() - began, 1))
            may_go_on = _strike(fault, group, simulation, verdict)
            tell(verdict.members())
            show(
                f"{number} of {len(faults)}: {fault.name} ({verdict.note}), {verdict.lasted:g} s,"
                f" receipt after {verdict.receipt_after} s, {verdict.sent} reports, {verdict.waiting} wait;"
                f" {'; '.join(verdict.wrong) or 'holds'}"
            )
            done[fault.name] += 1
            found.network += fault.group == "network"
            found.faults, found.kills = dict(done), group.kills
            found.wrong += [f"{number}, {fault.name}: {each}" for each in verdict.wrong]
            if not may_go_on:
                break
        group.revive()
        found.cores = group.usage.cores()
        simulation.stop()
        _check(group, found)


def _strike(fault: ScaleFault, group: Group, simulation: Simulation, verdict: Verdict) -> bool:
    """Strike, recover and look; return whether the next fault may strike."""
    group.notes = []
    began = time.monotonic()
    try:
        fault.strike(group)
        verdict.note, ended = ", ".join(group.notes), time.monotonic()
        verdict.lasted = round(ended - began, 1)
        _recover(group, simulation, verdict, ended)
        missing = group.receipts.without_row()
        verdict.wrong += [f"receipts without a row: {len(missing)}, {missing[:3]}"] if missing else []
        verdict.wrong += group.history.early()
    except (*FAILURES, psycopg.Error, psutil.Error) as error:
        verdict.note = ", ".join(group.notes)
        verdict.wrong.append(told(error))
        return False
    finally:
        progress = simulation.progress
        verdict.sent, verdict.waiting = progress.sent, progress.waiting
    return True


def _recover(group: Group, simulation: Simulation, verdict: Verdict, ended: float) -> None:
    group.revive()
    die = group.dice.random()
    behind = _BEHIND * simulation.plan.rate
    if die < _AT_ONCE and simulation.progress.waiting < behind:
        return
    receipted = group.receipted()
    group.until(lambda: group.receipted() > receipted, "a report has its receipt", _RECEIPT_WITHIN)
    verdict.receipt_after = round(time.monotonic() - ended, 1)
    group.until(lambda: simulation.progress.waiting < behind, "the reports of a minute wait at most", _LEDGER_WITHIN)
    if die > 1 - _SETTLES:
        group.settle()
        receipted = group.receipted()
        group.until(lambda: group.receipted() > receipted, "a report has its receipt", _RECEIPT_WITHIN)
        verdict.ready_after = round(time.monotonic() - ended, 1)


def _check(group: Group, found: Campaign) -> None:
    group.settle()
    if group.fleet is None:
        return
    result = group.fleet.result(_LEDGER_WITHIN)
    found.sent, found.stored, found.lost, found.doubled = result.sent, result.stored, result.lost, result.doubled
    found.altered, found.refused, found.longest_pause = result.altered, result.refused, result.longest_pause
    found.incidents, found.incidents_doubled = result.incidents, result.incidents_doubled
    found.reported_for = result.seconds
    try:
        group.until(group.history.is_decided, "all reports are decided", _DECIDED_WITHIN)
    except FAILURES:
        found.undecided = group.history.undecided()
    checked = group.history.check()
    found.epochs, found.renewals, found.commits = checked.epochs, checked.renewals, checked.commits
    found.responses, found.responses_doubled = checked.responses, checked.responses_doubled
    found.wrong += checked.wrong
    if checked.wrong:
        (group.home / "evidence.json").write_text(json.dumps(group.history.evidence(), indent=1))
