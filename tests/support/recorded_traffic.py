"""Recorded ssh traffic of a fleet with planted friends, and its replay through hosts and a manager."""

import json
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from manager.domain.policies.fleet_policies import GLOBAL
from manager.domain.protection.forecast import COUNTS
from manager.engine.commands.requests import ChangeAllowlist
from manager.storage.queries import StoreQueries
from schemas import topics
from schemas.presence import Mode
from tests.support.attacks import trusted
from tests.support.engine import START, Bench
from tests.support.migrated_store import open_reading
from tests.support.protected_host import ProtectedHost

_MINUTE = 60.0
_SLOW_GUESSES = 10
_SLOWLY = 310.0
"""Seconds between slow guesses: just more than the window of a fast attack."""
ALLOWED = "198.18.255.0/24"
"""The network that is allowed after the traffic."""


class Line(NamedTuple):
    """One message of a host's sshd."""

    at: float
    host: int
    message: str


@dataclass
class Traffic:
    """Lines of an hour, and the counts that a forecast of them has, as they were planted."""

    hosts: int
    lines: list[Line] = field(default_factory=list)
    customers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    planted: dict[str, int] = field(default_factory=dict)


def record_traffic(hosts: int, seed: int) -> Traffic:
    """Return the traffic of a fleet: each host is attacked by members of a botnet and by an address of its own.

    Every 10th host has a friend that mistypes six times and logs in by key on the next host, every 20th a customer and
    an ally, and every 25th an attacker who guesses a password, and one who guesses slowly. Few failures and known
    users lead to no block.
    """
    chance, recorder = random.Random(seed), _Recorder(Traffic(hosts))  # noqa: S311 -- the same traffic each time
    botnet = [f"198.51.100.{number}" for number in range(1, 1 + min(200, hosts))]
    for host in range(hosts):
        begin = START + 60 + chance.uniform(0, 1800)
        for address in [*chance.sample(botnet, min(3, len(botnet))), _address(203, host)]:
            recorder.attack(host, begin + chance.uniform(0, 600), address, chance.randint(5, 12))
        recorder.fail(host, begin, _address(204, host), chance.randint(1, 4))
        recorder.log_in(host, begin - 30, _address(205, host), "carol")
        recorder.fail(host, begin, _address(205, host), 5, user="carol")
        if host % 10 == 0:
            recorder.befriend(host, begin)
        if host % 20 == 0:
            recorder.serve(host, begin)
        if host % 25 == 0:
            recorder.burgle(host, begin)
            recorder.creep(host, begin)
    return recorder.end()


class _Recorder:
    """Writes lines, and counts what a forecast of them counts."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._blocked: set[str] = set()
        self._counts: Counter[str] = Counter()

    def fail(self, host: int, at: float, address: str, failures: int, *, user: str = "root") -> None:
        """Write failures, one a second."""
        for number in range(failures):
            message = f"Failed password for {user} from {address} port {30_000 + number} ssh2"
            self._traffic.lines.append(Line(at + number, host, message))

    def log_in(self, host: int, at: float, address: str, user: str, *, method: str = "publickey") -> None:
        """Write a login."""
        message = f"Accepted {method} for {user} from {address} port 40000 ssh2"
        self._traffic.lines.append(Line(at, host, message))

    def attack(self, host: int, at: float, address: str, failures: int, *, user: str = "root") -> None:
        """Write failures that lead to a block at the fifth."""
        self.fail(host, at, address, failures, user=user)
        self._blocked.add(address)

    def befriend(self, host: int, begin: float) -> None:
        """Write a friend's failures, and a login by key on the next host."""
        friend = _address(206, host)
        self.attack(host, begin, friend, 6, user="bob")
        self.log_in((host + 1) % self._traffic.hosts, begin + 1200, friend, "bob")
        self._counts.update(("loggedIn", "friends"))

    def serve(self, host: int, begin: float) -> None:
        """Write the failures of a customer of the host's web server, and of an ally who is allowed later."""
        customer, ally = _address(207, host), f"198.18.255.{host // 20 + 1}"
        self._traffic.customers[host] = (customer,)
        self.attack(host, begin, customer, 7)
        self.attack(host, begin, ally, 7)
        self._counts.update(("connectionsCut", "allowlisted", "friends"))

    def burgle(self, host: int, begin: float) -> None:
        """Write an attack that ends in a login by password."""
        burglar = _address(208, host)
        self.attack(host, begin, burglar, 8, user="dave")
        self.log_in(host, begin + 60, burglar, "dave", method="password")
        self._counts["guessed"] += 1

    def creep(self, host: int, begin: float) -> None:
        """Write failures that are too slow to count within five minutes, and lead to a block at the tenth."""
        creeper = _address(209, host)
        for number in range(_SLOW_GUESSES):
            self.fail(host, begin + number * _SLOWLY, creeper, 1)
        self._blocked.add(creeper)
        self._counts["late"] += 1

    def end(self) -> Traffic:
        """Return the traffic in the order of time, with its counts."""
        self._traffic.lines.sort()
        blocked = len(self._blocked)
        every = {"addresses": blocked, "beforeSixthGuess": blocked - self._counts["late"]}
        self._traffic.planted = {name: every.get(name, self._counts[name]) for name in COUNTS if name != "taken"}
        return self._traffic


class Replay:
    """The traffic through a fleet of hosts in one mode, up to the manager's forecast.

    Args:
        directory: for the hosts and the manager's store.
        traffic: the traffic.
        mode: the mode of every host.
    """

    def __init__(self, directory: Path, traffic: Traffic, mode: Mode) -> None:
        self._directory = directory
        self._traffic = traffic
        self._stack = ExitStack()
        directory.mkdir()
        self._hosts = [
            ProtectedHost(directory / f"host-{number}", mode, traffic.customers.get(number, ()))
            for number in range(traffic.hosts)
        ]
        for host in self._hosts:
            self._stack.callback(host.close)
        self.bench = Bench(directory)
        self._stack.callback(self.bench.database.close)
        self._agents = trusted(self.bench, *(f"srv-{number}" for number in range(traffic.hosts)))
        self._offset = self.bench.wall - START

    def run(self) -> None:
        """Let every host read its log, minute by minute, and the manager take the reports and heartbeats."""
        bench = self.bench
        for minute, lines in groupby(self._traffic.lines, key=lambda line: (line.at - START) // _MINUTE):
            bench.elapsed = max(bench.elapsed, self._offset + (minute + 1) * _MINUTE)
            spoke = set()
            for line in lines:
                spoke.add(line.host)
                for body in self._hosts[line.host].read(self._offset + line.at, line.message):
                    self._send(line.host, body)
            for number in sorted(spoke):
                self._beat(number)
            self._settle()
        bench.elapsed += _MINUTE
        bench.ask(ChangeAllowlist(GLOBAL, "ip", ALLOWED, listed=True, author="admin"))

    def forecast(self) -> dict[str, Any]:
        """Return the manager's forecast of 30 days."""
        reader = open_reading(self._directory / "panguard.db")
        try:
            since = self.bench.wall - 30 * 86_400
            return StoreQueries(reader).protection_forecast(since=since, now=self.bench.wall)
        finally:
            reader.close()

    def close(self) -> None:
        """Close all databases."""
        self._stack.close()

    def _send(self, number: int, body: bytes) -> None:
        agent = self._agents[number]
        document = json.loads(body) | {"agentId": agent.agent_id}
        self.bench.put(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, json.dumps(document).encode()))

    def _beat(self, number: int) -> None:
        agent, logins = self._agents[number], self._hosts[number].logins()
        self.bench.put(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(self.bench.wall, logins=logins))

    def _settle(self) -> None:
        while len(self.bench.engine.inbox):
            self.bench.engine.step(self.bench.now)


def _address(kind: int, host: int) -> str:
    return f"{kind}.0.{host // 250}.{host % 250 + 1}"
