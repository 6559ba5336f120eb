"""Measures the correlator: time and memory for each threat, for reports that share an indicator and for others.

`python benchmarks/correlator.py` takes some minutes, with `--quick` some seconds.
"""

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice

from benchmarks import interpreter
from manager.domain.correlation import Correlator, CorrelatorSettings, NoHistory, Report

START = 1_700_000_000.0
BLOCK = 1_000
REPEATS = 3
AGENTS = [f"ag-{number:016x}" for number in range(10_000)]

_floods = count()

SLOWEST = 10.0
"""Target: µs of CPU for a threat (design, section 5)."""

STEEPEST = 1.3
"""Target: cost of the last 1,000 threats divided by that of the first 1,000 (design, section 5)."""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only up to 10,000 threats: a few seconds")
    largest = 10_000 if parser.parse_args().quick else 1_000_000
    interpreter.announce()
    sizes = [size for size in (100, 1_000, 10_000, 100_000, 1_000_000) if size <= largest]

    print(f"to reach: at most {SLOWEST:.0f} µs, last / first at most {STEEPEST}; CPU time, the best of {REPEATS} runs")
    print("\nn threats that share one address, 500 agents, one each millisecond")
    _table(sizes, lambda n: _shared(n, agents=500, seconds_each=0.001))
    print("\nn threats that share one address, 500 agents, spread over a day")
    _table(sizes[2:], lambda n: _shared(n, agents=500, seconds_each=86_400 / n))
    print("\nn threats of one agent that share one address: watched, never an incident")
    _table(sizes[-1:], lambda n: _shared(n, agents=1, seconds_each=0.001))
    print("\nn threats in one incident of 10,000 agents")
    _table(sizes[-1:], lambda n: _shared(n, agents=10_000, seconds_each=0.001))
    print("\nn distinct addresses within 250 s, memory bounded to 100,000 of them")
    _table(sizes[-1:], lambda n: _distinct(n, seconds_each=250 / n))


def _shared(size: int, *, agents: int, seconds_each: float) -> Iterator[Report]:
    for number in range(size):
        yield _report(number, AGENTS[number % agents], "203.0.113.7", START + number * seconds_each)


def _distinct(size: int, *, seconds_each: float) -> Iterator[Report]:
    flood = next(_floods)  # other addresses each time: none has been parsed before
    for number in range(size):
        address = f"2001:db8:{flood:x}::{number >> 16:x}:{number & 0xFFFF:x}"
        yield _report(number, AGENTS[number % 500], address, START + number * seconds_each)


def _report(number: int, agent_id: str, address: str, now: float) -> Report:
    return Report(agent_id, "default", None, f"threat-{number}", now, now, source_ip=address)


def _table(sizes: Iterable[int], reports: Callable[[int], Iterator[Report]]) -> None:
    print(f"{'n':>10} {'first 1,000':>12} {'last 1,000':>12} {'ratio':>7} {'all':>9} {'memory':>11}   evicted")
    for size in sizes:
        runs = [_timed(reports(size)) for _ in range(REPEATS)]
        first, last = min(costs[0] for costs, _ in runs), min(costs[-1] for costs, _ in runs)
        mean = min(sum(costs) / len(costs) for costs, _ in runs)
        evicted = runs[-1][1]
        print(
            f"{size:>10,} {first:>9.2f} µs {last:>9.2f} µs {last / first:>7.2f} {mean:>6.2f} µs"
            f" {_memory(reports(size)) / 1024:>7,.0f} KiB   {evicted:,}"
        )


def _correlator() -> Correlator:
    numbers = count()
    return Correlator(CorrelatorSettings(), lambda: f"incident-{next(numbers)}", NoHistory())


def _timed(reports: Iterator[Report]) -> tuple[list[float], int]:
    """Return the microseconds per threat in blocks of 1,000, expiry included, and the number of evictions."""
    warm = _correlator()
    for report in _shared(BLOCK, agents=500, seconds_each=0.001):
        warm.observe(report)  # as the interpreter is in a manager, before the first block is measured
    correlator = _correlator()
    costs = []
    gc.collect()
    while block := list(islice(reports, BLOCK)):
        begun = time.process_time()
        for report in block:
            correlator.observe(report)
        correlator.expire(block[-1].received)
        costs.append((time.process_time() - begun) / len(block) * 1e6)
    return costs, correlator.evicted


def _memory(reports: Iterator[Report]) -> int:
    """Return the bytes that the correlator holds at the end, in a run of its own."""
    tracemalloc.start()
    correlator = _correlator()
    before = tracemalloc.get_traced_memory()[0]
    while block := list(islice(reports, BLOCK)):
        for report in block:
            correlator.observe(report)
        correlator.expire(block[-1].received)
    del block
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held


if __name__ == "__main__":
    main()
