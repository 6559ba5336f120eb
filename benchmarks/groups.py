"""Measures policy groups: a change of one in a large fleet, and heartbeats of agents with and without groups.

`python -m benchmarks.groups` takes a minute, with `--quick` some seconds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import interpreter
from manager.domain.policies.fleet_policies import Policies, Scope
from manager.domain.policies.groups import Placement
from manager.domain.policies.preview import largest, preview
from manager.engine.commands.requests import ChangeAgent, SetPolicy
from manager.engine.policies.signed_policy import SECTIONS_LIMIT
from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

REPEATS = 3
GROUPS = 100
SENDERS = 20


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller fleets: some seconds")
    quick = parser.parse_args().quick
    interpreter.announce()
    print(f"a change of one of {GROUPS} groups, each of a tenth of the fleet, in ms of CPU, the best of {REPEATS} runs")
    print(f"{'agents':>8} {'dry run':>9} {'size':>9} {'set':>9} {'changed':>9}")
    for agents in (1_000,) if quick else (1_000, 10_000):
        _changes(agents)
    heartbeats = 4_000 if quick else 20_000
    print(f"\nµs of CPU for a heartbeat in the engine, {heartbeats:,} of {SENDERS} agents, the best of {REPEATS} runs")
    without, with_groups = _heartbeats(heartbeats, 0), _heartbeats(heartbeats, GROUPS)
    print(f"without groups {without:.1f}, in {GROUPS // 10} of {GROUPS} groups {with_groups:.1f}, ratio "
          f"{with_groups / without:.2f}")  # fmt: skip


def _group(number: int, threshold: float) -> dict[str, object]:
    policy = {"thresholds": {"autoRespond": threshold}, "blocklist": {"ips": [f"198.51.100.{number}"]}}
    return {"selector": {"tagsAll": [f"t{number % 10}"]}, "priority": number, "policy": policy}


def _changes(agents: int) -> None:
    policies = Policies()
    for number in range(GROUPS):
        policies.set(Scope("group", f"g{number}"), _group(number, 70.0), 0.0, "bench")
    for number in range(agents):
        placement = Placement(f"o{number % 5}", f"s{number % 7}", frozenset({f"t{number % 10}", f"x{number % 3}"}))
        policies.assign(f"ag-{number:016x}", placement, 0.0)
    scope = Scope("group", "g92")  # the last of those with its tag
    runs = []
    for number in range(REPEATS):
        document = _group(92, 71.0 + number)
        tried, _ = _timed(lambda document=document: preview(policies, scope, document))  # type: ignore[misc]
        sized, _ = _timed(lambda document=document: largest(policies, scope, document, SECTIONS_LIMIT))  # type: ignore[misc]
        policies.set(scope, document, 0.0, "bench")
        done, changed = _timed(lambda: policies.recompute(policies.affected_by(scope), 0.0))
        runs.append((tried, sized, done, len(changed)))
    tried, sized, done = (min(run[index] for run in runs) * 1e3 for index in range(3))
    print(f"{agents:>8,} {tried:>9.1f} {sized:>9.1f} {done:>9.1f} {runs[0][3]:>9,}")


def _heartbeats(count: int, groups: int) -> float:
    """Return the µs of CPU for a heartbeat of agents that are in a tenth of so many groups."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        token = bench.token()
        agents = [bench.enroll(f"srv-{number}", token) for number in range(SENDERS)]
        for agent in agents if groups else ():
            bench.ask(ChangeAgent(agent.agent_id, "bench", tags=("t1",)))
        for number in range(groups):
            bench.ask(SetPolicy(Scope("group", f"g{number}"), _group(number, 70.0), "bench"))
        best = min(_run(bench, agents, count) for _ in range(REPEATS))
        bench.database.close()
    return best / count * 1e6


def _run(bench: Bench, agents: list[SimulatedAgent], count: int) -> float:
    payloads = []
    for number in range(count):
        agent = agents[number % len(agents)]
        payloads.append((agent.agent_id, agent.heartbeat(bench.wall)))
    used, at_once = 0.0, 200
    for start in range(0, count, at_once):
        for agent_id, payload in payloads[start : start + at_once]:
            bench.put(topics.HEARTBEAT, agent_id, payload)
        before = time.process_time()
        bench.pass_time(5.0, step=5.0)  # the budget of the agents grows, and the records are written
        used += time.process_time() - before
    return used


def _timed(call: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    before = time.process_time()
    result = call()
    return time.process_time() - before, result


if __name__ == "__main__":
    main()
