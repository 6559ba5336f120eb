"""Measures the restart of a manager over a large store: time until it serves, and memory.

Run as ``python -m benchmarks.restart [--quick] [-o json]``: the product's own process with its embedded broker, from
its start until both doors are open; 100,000 agents and 1,000,000 threats of a day, then 10,000 agents and 100,000
threats of the last minutes, all of which the correlator remembers.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.ingested import ingest
from benchmarks.large_store import LargeStore
from benchmarks.manager_process import running, shared_counter
from manager.data_directory import DataDirectory
from schemas.keys import ManagerKeyring

_MIB = 1024 * 1024
_AGAIN = 3


@dataclass(frozen=True, slots=True)
class Figure:
    """One start: seconds until both doors are open, the manager's CPU seconds until then, and its memory in MiB."""

    agents: int
    threats: int
    span: str
    seconds: float
    cpu_seconds: float
    memory: float
    to_reach: str


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    less = 100 if options.quick else 1
    figures = [of_a_day(100_000 // less, 1_000_000 // less), of_the_window(10_000 // less, 100_000 // less)]
    if options.output == "json":
        sys.stdout.write(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    else:
        Console().print(table(figures))
    return 0


def of_a_day(agents: int, threats: int) -> Figure:
    """Return the figures of a manager that starts over the threats of a day."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        with DataDirectory(Path(name)) as directory:
            LargeStore(directory.store, ManagerKeyring(directory.seed()).store_key, agents, threats)
        return _fastest(Path(name), agents, threats, "a day", "5 s")


def of_the_window(agents: int, threats: int) -> Figure:
    """Return the figures of a manager whose correlator remembers every threat."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        with DataDirectory(Path(name)) as directory:
            keyring = ManagerKeyring(directory.seed())
            large = LargeStore(directory.store, keyring.store_key, agents, 0)
            ingest(directory.store, keyring, large.senders, threats)
        return _fastest(Path(name), agents, threats, "minutes", "250 MB")


def _fastest(path: Path, agents: int, threats: int, span: str, to_reach: str) -> Figure:
    seconds, cpu_seconds, memory = min(_start(path) for _ in range(_AGAIN))
    return Figure(agents, threats, span, round(seconds, 1), round(cpu_seconds, 1), round(memory), to_reach)


def _start(path: Path) -> tuple[float, float, float]:
    began = time.perf_counter()
    with running(path, "embedded", shared_counter()) as manager:
        return time.perf_counter() - began, manager.cpu_seconds(), manager.resident_bytes() / _MIB


def table(figures: list[Figure]) -> Table:
    """Return the table of a run."""
    shown = Table("agents", "threats", "within", "s until serving", "CPU s", "MiB", "to reach")
    for figure in figures:
        shown.add_row(
            f"{figure.agents:,}", f"{figure.threats:,}", figure.span, f"{figure.seconds}", f"{figure.cpu_seconds}",
            f"{figure.memory:.0f}", figure.to_reach,
        )  # fmt: skip
    return shown


if __name__ == "__main__":
    sys.exit(main())
