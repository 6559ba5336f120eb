"""Measures the restart of a manager over a large store: time until it serves, and memory.

Run as ``python -m benchmarks.restart [--quick] [-o json]``: the product's own process with its embedded broker, from
its start until both doors are open; 100,000 agents and 1,000,000 threats of a day; as many agents and 1,000,000 threats
of the last minutes; 16,000 agents that share a technique within minutes and have no incident. Then the first 500
reports: what they need of the older ones is read when they come.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import interpreter
from benchmarks.ingested import ingest
from benchmarks.large_store import LargeStore
from benchmarks.manager_process import running, shared_counter
from manager.data_directory import DataDirectory
from manager.storage.sealed_values import key_for
from schemas.keys import ManagerKeyring

_MIB = 1024 * 1024
_AGAIN = 3
_REPORTS = 500


@dataclass(frozen=True, slots=True)
class Figure:
    """One start: seconds until both doors are open, the manager's CPU seconds until then, and its memory in MiB.

    `first_reports` are the CPU seconds of an engine for the first 500 reports after the start; None if not measured.
    """

    agents: int
    threats: int
    span: str
    seconds: float
    cpu_seconds: float
    memory: float
    to_reach: str
    first_reports: float | None = None


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    interpreter.announce()
    less = 100 if options.quick else 1
    figures = [
        of_a_day(100_000 // less, 1_000_000 // less),
        of_the_window(100_000 // less, 1_000_000 // less),
        of_a_run(16_000 // less),
    ]
    if options.output == "json":
        sys.stdout.write(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    else:
        Console().print(table(figures))
    return 0


def of_a_day(agents: int, threats: int) -> Figure:
    """Return the figures of a manager that starts over the threats of a day."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        with DataDirectory(Path(name)) as directory:
            LargeStore(
                directory.store, ManagerKeyring(key_for(directory.key_file, directory.store)).store_key, agents, threats
            )
        return _fastest(Path(name), agents, threats, "a day", "5 s")


def of_the_window(agents: int, threats: int) -> Figure:
    """Return the figures of a manager that could correlate the next report with every stored threat."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        with DataDirectory(Path(name)) as directory:
            keyring = ManagerKeyring(key_for(directory.key_file, directory.store))
            large = LargeStore(directory.store, keyring.store_key, agents, 0)
            ingest(directory.store, keyring, large.senders, threats)
        figure = _fastest(Path(name), agents, threats, "minutes", "5 s, 500 MB")
        return replace(figure, first_reports=_first_reports(Path(name), large))


def of_a_run(agents: int) -> Figure:
    """Return the figures of a manager with a run of as many agents, of which no incident is stored."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        with DataDirectory(Path(name)) as directory:
            keyring = ManagerKeyring(key_for(directory.key_file, directory.store))
            large = LargeStore(directory.store, keyring.store_key, agents, 0, organizations=1)
            large.store_run()
        figure = _fastest(Path(name), agents, agents, "minutes, no incident", "5 s")
        return replace(figure, first_reports=_first_reports(Path(name), large))


def _first_reports(path: Path, large: LargeStore) -> float:
    with DataDirectory(path) as directory:
        return round(
            ingest(
                directory.store, ManagerKeyring(key_for(directory.key_file, directory.store)), large.senders, _REPORTS
            ),
            2,
        )


def _fastest(path: Path, agents: int, threats: int, span: str, to_reach: str) -> Figure:
    seconds, cpu_seconds, memory = min(_start(path) for _ in range(_AGAIN))
    return Figure(agents, threats, span, round(seconds, 1), round(cpu_seconds, 1), round(memory), to_reach)


def _start(path: Path) -> tuple[float, float, float]:
    began = time.perf_counter()
    with running(path, "embedded", shared_counter()) as manager:
        return time.perf_counter() - began, manager.cpu_seconds(), manager.resident_bytes() / _MIB


def table(figures: list[Figure]) -> Table:
    """Return the table of a run."""
    shown = Table("agents", "threats", "within", "s until serving", "CPU s", "MiB", "to reach", "first 500, s")
    for figure in figures:
        shown.add_row(
            f"{figure.agents:,}", f"{figure.threats:,}", figure.span, f"{figure.seconds}", f"{figure.cpu_seconds}",
            f"{figure.memory:.0f}", figure.to_reach,
            "" if figure.first_reports is None else f"{figure.first_reports}",
        )  # fmt: skip
    return shown


if __name__ == "__main__":
    sys.exit(main())
