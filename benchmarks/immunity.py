"""Measures time to immunity: seconds until a connected fleet applied an attacker's block, through real brokers.

Run as ``python -m benchmarks.immunity [--quick] [-o json]``. Manager, broker and guards share the machine. All guards
live in this process, made from the contract: they verify, take and answer what real ones do, one after another on one
core, but keep no database and set no firewall.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from math import ceil
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import interpreter
from benchmarks.connected_guards import PATIENCE, WORD_WITHIN, Ledger, connected
from tests.support.mosquitto import Mosquitto, mosquitto_path
from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually

_FULL, _QUICK = (1_000, 5), (100, 1)
"""Connected guards, and attackers that come one after another."""

_ENFORCED = 2.0
"""Target: seconds until 99 % of the guards have the block, and until the manager has the word of all kernels."""

_TARGET = 1.0
"""Target: seconds until 95 % of the fleet has the block (design, section 5)."""

_PERCENTS = (50, 95, 99, 100)
_RECORDED = (50, 95, None, 100)
"""The percents of a fleet for which the manager records a time; it has none for 99."""

_DEFAULTS = {"HEARTBEAT_INTERVAL": "30", "STALE_AFTER": "90", "SWEEP_INTERVAL": "30", "SETTLING_TIME": "5"}
"""The manager's default settings, which the tests' processes shorten."""


class Attack(NamedTuple):
    """Result for one attacker, in seconds from the report of the second guard."""

    pair: list[float]  # when each of the two had the block in its own policy, and had said so
    third: float  # when a third guard reported it
    fleet: list[float]  # when each guard had the block in the organization's blocklist
    busy: float  # CPU time of this process from the third report to the last of these
    accepted: dict[str, float]  # the manager's own time to acceptance, by percent of the fleet
    enforced: dict[str, float]  # the manager's own time to immunity


async def _attacks(manager: ManagerProcess, count: int, attackers: int) -> list[Attack]:
    """Connect the fleet and report the attackers, each by three guards of its own."""
    ledger = Ledger()
    guards = await connected(manager, count, ledger)
    found = []
    for number in range(attackers):
        address, reporters = f"203.0.113.{number + 1}", guards[3 * number :][:3]
        reporters[0].report(address)
        await ledger.reach(f"receipt of {reporters[0].agent.hostname}", 1)
        second = reporters[1].report(address)
        pair = await ledger.reach(f"{address} blocked by policy", 2)
        third, busy = reporters[2].report(address), time.process_time()
        fleet = [at - second for at in await ledger.reach(f"{address} blocked by blocklist", count)]
        busy = time.process_time() - busy
        accepted, enforced = await asyncio.to_thread(_recorded, manager, address, median(fleet))
        found.append(Attack([at - second for at in pair], third - second, fleet, busy, accepted, enforced))
    for guard in guards:
        guard.leave()
    return found


def _recorded(manager: ManagerProcess, address: str, least: float) -> tuple[dict[str, float], dict[str, float]]:
    """Return the manager's own times to acceptance and to immunity; one below `least` covers two guards only."""

    def look() -> tuple[dict[str, float], dict[str, float]] | None:
        incidents = manager.get("/api/incidents", kind="source_ip")
        found = next(each for each in incidents if each["value"] == address)
        figures = found["timeToAcceptance"], found["timeToImmunity"]
        return figures if all((each["100"] or 0.0) >= least for each in figures) else None

    return eventually(look, PATIENCE, "the manager's figures")


def measure(broker: str, count: int, attackers: int) -> list[Attack]:
    """Return the results of all attackers, with a new manager, broker and fleet."""
    environment = {f"PANGUARD_{name}": value for name, value in _DEFAULTS.items()}
    with ExitStack() as stack:
        url = broker if broker == "embedded" else stack.enter_context(Mosquitto()).url
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        manager = stack.enter_context(ManagerProcess(home, url, environment))
        return asyncio.run(_attacks(manager, count, attackers))


def _figures(attacks: list[Attack], count: int) -> Iterator[tuple[str, list[float | None], str]]:
    """Yield each measurement: the seconds until 50 %, 95 %, 99 % and all were reached, and a note."""
    pairs = [at for attack in attacks for at in attack.pair]
    yield "2 guards, own policy, from the second report", _reached(pairs), "policy/applied is sent"
    late = [at - attack.third for attack in attacks for at in attack.fleet]
    own = f"{sum(attack.busy for attack in attacks) / len(attacks):.2f} s CPU of this process in it"
    yield f"{count:,} guards, blocklist, from the third report", _reached(late), own
    whole = [at for attack in attacks for at in attack.fleet]
    yield "the same, from the second report", _reached(whole), f"target: p95 {_TARGET:g} s, p99 {_ENFORCED:g} s"
    told = f"median; guards tell it within {WORD_WITHIN} s"
    accepted = _medians([attack.accepted for attack in attacks])
    yield "accepted, as the manager recorded it", accepted, told
    enforced = _medians([attack.enforced for attack in attacks])
    yield "enforced, as the manager recorded it", enforced, f"{told}; target: all {_ENFORCED:g} s"


def _medians(recorded: list[dict[str, float]]) -> list[float | None]:
    return [None if percent is None else median(each[str(percent)] for each in recorded) for percent in _RECORDED]


def _reached(moments: list[float]) -> list[float | None]:
    return [sorted(moments)[ceil(len(moments) * percent / 100) - 1] for percent in _PERCENTS]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    interpreter.announce()
    count, attackers = _QUICK if options.quick else _FULL
    names, lines = ("broker", "what", "p50", "p95", "p99", "max", "note"), []
    for broker in ["mosquitto"] * bool(mosquitto_path()) + ["embedded"]:
        for what, figures, note in _figures(measure(broker, count, attackers), count):
            lines.append((broker, what, *(None if figure is None else round(figure, 3) for figure in figures), note))
    if options.output == "json":
        sys.stdout.write(json.dumps([dict(zip(names, line, strict=True)) for line in lines], indent=2) + "\n")
        return 0
    table = Table(*names, title=f"Time to immunity in seconds, {attackers} attackers, {os.cpu_count()} cores for all")
    for line in lines:
        table.add_row(*("" if each is None else str(each) for each in line))
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
