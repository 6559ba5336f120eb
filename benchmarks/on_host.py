"""Measures the fence on a booted Debian: from the fifth failure to the first dropped packet, and without its table.

`python -m benchmarks.on_host`, with `--quick` for a few attackers, `-o json` for machines, `--part` for one part. Real
sshd, journald, guard and fence as installed units, attackers over real ssh, one after the other. The fifth failure is
when journald took it, the first dropped packet is that of a ping every 5 ms. Warm: the fence runs. Cold: it was
stopped, and the guard's request starts it through its socket. Without the table: how long pings of a blocked address
are answered. Two hosts: one address attacks both, the time is from the fifth failure on the second one. Needs root,
systemd-nspawn and debootstrap; elsewhere it says why it measures nothing.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import NamedTuple

from benchmarks import interpreter
from benchmarks.pings import Pings
from benchmarks.ssh_attack import attack, fifth_failures
from tests.support.booted_host.attacker import SERVER
from tests.support.booted_host.fleet import UNITS
from tests.support.booted_host.machine import BootedHost, unavailable
from tests.support.booted_host.scene import Scene, booted, two_booted
from tests.support.waiting import eventually

WARM, COLD, BACK = 0.25, 1.0, 1.0
"""Targets in seconds: p99 to the first dropped packet, warm and cold; the longest time without the table."""

_FULL, _QUICK = (100, 12, 5, 20), (5, 2, 1, 2)
"""Attackers warm and cold, rounds of each command that removes the table, and attackers of two hosts."""

_MANAGED_WITHIN = 30.0
_PARTS = ("latency", "table", "two-hosts")

_PERCENTS = (50, 95, 99, 100)
_BLOCKED, _OTHER = "203.0.113.230", "203.0.113.231"
_SOURCES = [f"203.0.113.{number}" for number in (*range(20, 60), *range(70, 230))]
_RULES = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 81 -j DROP\nCOMMIT\n"
_REMOVERS = {
    "nft flush ruleset": ("", "nft flush ruleset"),
    "restart of nftables": ("", "systemctl restart nftables"),
    "iptables-restore": ("", "iptables-restore /opt/rules"),
    "reload of ufw": ("ufw allow 22/tcp && ufw --force enable", "ufw reload"),
    "reload of firewalld": ("ufw --force disable; systemctl start firewalld", "firewall-cmd --reload"),
}
"""The commands that load others' rules, each with what goes before it."""


class Attack(NamedTuple):
    """Epoch seconds of one attack; `fence_started` is 0 where the fence ran before."""

    source: str
    dropped: float
    fence_started: float


class Line(NamedTuple):
    """One line of the table: seconds at 50, 95, 99 and 100 percent of the runs."""

    what: str
    count: int
    figures: Sequence[float]
    target: str
    reached: bool


@contextmanager
def _protected() -> Iterator[Scene]:
    """Boot a host with manager, guard and fence in mode protection."""
    with booted() as scene:
        scene.fleet.start_manager()
        scene.fleet.install(paced=False)
        yield scene


def _latency(warm: int, cold: int) -> Iterator[Line]:
    """Attack with a fence that runs, then each time with one that was stopped."""
    with _protected() as scene:
        host, attacks = scene.host, []
        for number, source in enumerate(_SOURCES[: warm + cold]):
            if number >= warm:
                host.run("systemctl", "stop", f"{UNITS[1]}.service")
            dropped = attack(scene.attacker, source)
            attacks.append(Attack(source, dropped, _started(host) if number >= warm else 0.0))
        fifth = fifth_failures(host)
        wrong = set(scene.fleet.blocked()) - {each.source for each in attacks}
        if wrong:
            raise RuntimeError(f"blocked, and no attacker: {wrong}")
    times = [each.dropped - fifth[each.source] for each in attacks if not each.fence_started]
    yield _line("fence running", times, WARM)
    # An earlier failure whose executable journald lost starts the fence as well: then it is not cold at the fifth.
    times = [each.dropped - fifth[each.source] for each in attacks if each.fence_started > fifth[each.source]]
    yield _line("fence started by the fifth failure", times, COLD)


def _started(host: BootedHost) -> float:
    """Return when the fence's present process was started, in epoch seconds."""
    words = ("systemctl", "show", "--property=ExecMainStartTimestampMonotonic", "--value", f"{UNITS[1]}.service")
    return int(host.run(*words)) / 1e6 + time.time() - time.monotonic()


def _without_table(rounds: int) -> Iterator[Line]:
    """Load others' rules, and measure for how long a blocked address is answered."""
    with _protected() as scene:
        host, network = scene.host, scene.attacker.network
        host.write("/opt/rules", _RULES)
        done = host.panguard("guard", "block", _BLOCKED, "--for", "1h")
        if done.returncode:
            raise RuntimeError(done.stderr)
        for name, (before, command) in _REMOVERS.items():
            times = []
            for _ in range(rounds):
                host.run("sh", "-c", before)
                with Pings(network, _BLOCKED, SERVER) as pings:
                    eventually(pings.is_dropped, 30, "the block before")
                with Pings(network, _BLOCKED, SERVER) as pings:
                    host.run("sh", "-c", command)
                    time.sleep(0.5)  # longer than the fence waits after a change
                    eventually(pings.is_dropped, 30, "the block back")
                with Pings(network, _OTHER, SERVER) as pings_of_other:
                    eventually(pings_of_other.seconds_answered, 5, f"an answer to another address after {command}")
                times.append(pings.seconds_answered())
            yield _line(f"without the block: {name}", times, BACK)


def _two_hosts(attackers: int) -> Iterator[Line]:
    """Attack the first of two hosts, then the second one, from each address.

    The first host blocks by itself before the second one is attacked; the manager's block is in a policy for both.
    """
    sources = _SOURCES[:attackers]
    # Each agent has a share of the limit: the default stops it after ten addresses in five minutes.
    with two_booted({"PANGUARD_BLOCK_LIMIT": "1000"}) as (first, second):
        dropped, managed = {}, {}
        for source in sources:
            dropped[source] = max(attack(scene.attacker, source) for scene in (first, second))
            managed[source] = max(_managed(scene, source) for scene in (first, second))
        fifth = fifth_failures(second.host)
    yield _line("two hosts: both kernels drop", [dropped[source] - fifth[source] for source in sources])
    yield _line("two hosts: the manager's block at both", [managed[source] - fifth[source] for source in sources])


def _managed(scene: Scene, source: str) -> float:
    """Wait for the manager's block at a host's fence; return when it was first seen, in epoch seconds."""
    deadline = time.monotonic() + _MANAGED_WITHIN
    while time.monotonic() < deadline:
        if any(each["origin"] == "policy" for each in scene.fleet.entries(source)):
            return time.time()
        time.sleep(0.01)
    raise RuntimeError(f"no block of {source} by the manager within {_MANAGED_WITHIN:.0f} s")


def _line(what: str, times: list[float], target: float | None = None) -> Line:
    if not times:
        return Line(what, 0, (), "", reached=True)
    figures = [sorted(times)[ceil(len(times) * percent / 100) - 1] for percent in _PERCENTS]
    if target is None:
        return Line(what, len(times), figures, "", reached=True)
    return Line(what, len(times), figures, f"p99 {target:g} s", figures[2] <= target)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few attackers")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--part", choices=_PARTS, help="only this part")
    options = parser.parse_args(arguments)
    interpreter.announce()
    reason = unavailable()
    if reason is not None:
        print(f"nothing is measured: {reason}")
        return 0
    warm, cold, rounds, twice = _QUICK if options.quick else _FULL
    load, lines = os.getloadavg()[0], []
    if options.part in {None, "latency"}:
        lines += _latency(warm, cold)
    if options.part in {None, "table"}:
        lines += _without_table(rounds)
    if options.part in {None, "two-hosts"}:
        lines += _two_hosts(twice)
    if options.output == "json":
        sys.stdout.write(json.dumps([line._asdict() for line in lines], indent=2) + "\n")
    else:
        print(f"seconds; {os.cpu_count()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after")
        print(f"{'':44}{'runs':>6}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}   to reach")
        for line in lines:
            figures = "".join(f"{figure:8.3f}" for figure in line.figures)
            print(f"{line.what:44}{line.count:6}{figures}   {line.target}")
    return 0 if all(line.reached for line in lines) else 1


if __name__ == "__main__":
    raise SystemExit(main())
