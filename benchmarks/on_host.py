"""Measures the fence on a booted Debian: from the fifth failure to the first dropped packet, and without its table.

`python -m benchmarks.on_host`, with `--quick` for a few attackers, `-o json` for machines. Real sshd, journald, guard
and fence as installed units, attackers over real ssh, one after the other. The fifth failure is when journald took it,
the first dropped packet is that of a ping every 5 ms. Warm: the fence runs. Cold: it was stopped, and the guard's
request starts it through its socket. Without the table: how long pings of a blocked address are answered. Needs root,
systemd-nspawn and debootstrap; elsewhere it says why it measures nothing.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import ceil
from typing import NamedTuple

from benchmarks.pings import Pings
from tests.support.booted_host.attacker import SERVER, WRONG, Attacker
from tests.support.booted_host.fleet import UNITS, HostFleet
from tests.support.booted_host.machine import BootedHost, unavailable
from tests.support.network import Network, NetworkHost
from tests.support.waiting import eventually

WARM, COLD, BACK = 0.25, 1.0, 1.0
"""Targets in seconds: p99 to the first dropped packet, warm and cold; the longest time without the table."""

_FULL, _QUICK = (100, 12, 5), (5, 2, 1)
"""Attackers warm and cold, and rounds of each command that removes the table."""

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
def protected_host() -> Iterator[tuple[BootedHost, NetworkHost, Attacker, HostFleet]]:
    """Boot a host with manager, guard and fence in mode protection, and a second network with the attackers."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        server = network.host(f"{SERVER}/24", "2001:db8::1/64")
        others = network.host(*(f"203.0.113.{number}/24" for number in range(20, 240)))
        host = stack.enter_context(BootedHost(server))
        attacker = Attacker(host, others)
        attacker.furnish()
        fleet = HostFleet(host)
        fleet.start_manager()
        fleet.install(paced=False)
        yield host, others, attacker, fleet


def attack(attacker: Attacker, network: NetworkHost, source: str) -> float:
    """Guess passwords from an address, three in each of two connections; return when the first packet was dropped."""
    with Pings(network, source, SERVER) as pings:
        clients = [attacker.start("root", source, WRONG, WRONG, WRONG) for _ in range(2)]
        try:
            eventually(pings.is_dropped, 30, f"a block of {source}", 0.02)
        finally:
            for client in clients:
                attacker.end(client)
        return pings.first_dropped()


def fifth_failures(host: BootedHost) -> dict[str, float]:
    """Return by address when journald took the fifth refused password, in epoch seconds."""
    found = defaultdict(list)
    for text in host.run("journalctl", "--identifier=sshd", "--output=json").splitlines():
        entry = json.loads(text)
        words = str(entry["MESSAGE"]).split()
        if words[:5] == ["Failed", "password", "for", "root", "from"]:
            found[words[5]].append(int(entry["__REALTIME_TIMESTAMP"]) / 1e6)
    return {source: sorted(times)[4] for source, times in found.items() if len(times) > 4}


def _latency(warm: int, cold: int) -> Iterator[Line]:
    """Attack with a fence that runs, then each time with one that was stopped."""
    with protected_host() as (host, network, attacker, fleet):
        attacks = []
        for number, source in enumerate(_SOURCES[: warm + cold]):
            if number >= warm:
                host.run("systemctl", "stop", f"{UNITS[1]}.service")
            dropped = attack(attacker, network, source)
            attacks.append(Attack(source, dropped, _started(host) if number >= warm else 0.0))
        fifth = fifth_failures(host)
        wrong = set(fleet.blocked()) - {each.source for each in attacks}
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
    with protected_host() as (host, network, _, _):
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


def _line(what: str, times: list[float], target: float) -> Line:
    if not times:
        return Line(what, 0, (), "", reached=True)
    figures = [sorted(times)[ceil(len(times) * percent / 100) - 1] for percent in _PERCENTS]
    return Line(what, len(times), figures, f"p99 {target:g} s", figures[2] <= target)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few attackers")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    reason = unavailable()
    if reason is not None:
        print(f"nothing is measured: {reason}")
        return 0
    warm, cold, rounds = _QUICK if options.quick else _FULL
    load = os.getloadavg()[0]
    lines = [*_latency(warm, cold), *_without_table(rounds)]
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
