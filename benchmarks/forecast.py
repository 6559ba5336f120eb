"""Measures the forecast of automatic blocking: on recorded traffic of 1,000 hosts, and over a month of a busy fleet.

Run as ``python -m benchmarks.forecast [--quick]``; with `--quick` some seconds.
"""

import argparse
import io
import logging
import math
import tempfile
import time
from contextlib import closing
from pathlib import Path

import structlog

from agent.logs import log_to
from benchmarks import interpreter
from manager.domain.protection.forecast import Allowance, Followups, HostLogin, forecast
from manager.domain.protection.measures import ReportedMeasure, ScopedAddress
from manager.engine.batch import Changes
from manager.storage.connection import open_reader
from manager.storage.queries import StoreQueries
from schemas.presence import Mode
from tests.support.engine import Bench
from tests.support.recorded_traffic import Replay, record_traffic

TARGET = 10.0
"""Seconds for the forecast of recorded traffic on 1,000 hosts."""

DAY = 86_400.0
_BATCH = 10_000


def main() -> int:
    """Measure and print; return 1 where counts differ or the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 hosts and 20,000 measures: some seconds")
    quick = parser.parse_args().quick
    interpreter.announce()
    log_to(io.StringIO())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as directory:
        reached = _traffic(Path(directory), 50 if quick else 1_000)
        _month(Path(directory) / "month", 20_000 if quick else 1_000_000)
    _allowlist(2_000, 1_000)
    return 0 if reached else 1


def _traffic(directory: Path, hosts: int) -> bool:
    """Replay the traffic in both modes; print the times and whether the counts are the same."""
    traffic = record_traffic(hosts, seed=1)
    print(f"{hosts:,} hosts, {len(traffic.lines):,} lines of sshd, {traffic.planted['addresses']:,} addresses blocked")
    reached = True
    for mode in (Mode.LEARNING, Mode.PROTECTION):
        with closing(Replay(directory / mode, traffic, mode)) as replay:
            begun, used = time.monotonic(), time.process_time()
            replay.run()
            replayed, cpu = time.monotonic() - begun, time.process_time() - used
            begun, used = time.monotonic(), time.process_time()
            found = replay.forecast()
            asked, asked_cpu = time.monotonic() - begun, time.process_time() - used
        same = all(found[name] == count for name, count in traffic.planted.items())
        reached = reached and same and asked < TARGET
        through = f"traffic through guards and manager {replayed:.1f} s ({cpu:.1f} s of CPU)"
        answer = f"forecast {asked:.2f} s ({asked_cpu:.2f} s of CPU)"
        print(f"{mode:>10}: {through}, {answer}; counts {'as planted' if same else 'DIFFER'}", flush=True)
    print(f"to reach: the same counts, the forecast within {TARGET:.0f} s")
    return reached


def _month(directory: Path, measures: int) -> None:
    """Print the time of a forecast over a month of measures from a tenth as many addresses."""
    directory.mkdir()
    bench = Bench(directory)
    with closing(bench.database):
        for first in range(0, measures, _BATCH):
            numbers = range(first, min(first + _BATCH, measures))
            rows = {
                (number % 1_000, str(number)): (_measure(bench, number, measures), bench.wall) for number in numbers
            }
            bench.store.commit(Changes(measures=rows))
        logins = [
            HostLogin(_address(number), number % 1_000, "bob", bench.wall - 1, guessed=False)
            for number in range(0, measures // 10, 1_000)
        ]
        bench.store.commit(Changes(logins=logins))
        with closing(open_reader(directory / "panguard.db")) as reader:
            begun, used = time.monotonic(), time.process_time()
            found = StoreQueries(reader).protection_forecast(since=bench.wall - 30 * DAY, now=bench.wall)
            asked, cpu = time.monotonic() - begun, time.process_time() - used
    addresses, friends = found["addresses"], found["loggedIn"]
    counted = f"{measures:,} measures of {addresses:,} addresses, {friends:,} friends"
    print(f"{counted}: forecast {asked:.2f} s ({cpu:.2f} s of CPU)")


def _allowlist(addresses: int, entries: int) -> None:
    """Print the time of a forecast of so many addresses beside an allowlist with so many networks."""
    listed = [f"45.200.{number >> 8}.{number & 255}/31" for number in range(0, 2 * entries, 2)]
    allowed = [Allowance(value, "global", None, None, 0.0, math.inf) for value in listed]
    blocks = [ReportedMeasure(_address(each), 1, DAY, "rule", "block", 5, "taken", 0) for each in range(addresses)]
    used = time.process_time()
    found = forecast(blocks, Followups((), (), allowed, 2 * DAY))
    cpu = time.process_time() - used
    print(f"{found.counts['addresses']:,} addresses beside {entries:,} allowlist entries: {cpu:.2f} s of CPU")


def _measure(bench: Bench, number: int, measures: int) -> ReportedMeasure:
    at = bench.wall - 29 * DAY * (1 - number / measures)
    agent = number % 1_000
    address = _address(number % (measures // 10))
    return ReportedMeasure(address, agent, at, "sshd-brute-force", "block", 5, "would_be_taken", 0)


def _address(number: int) -> ScopedAddress:
    return ScopedAddress("default", "", f"45.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")


if __name__ == "__main__":
    raise SystemExit(main())
