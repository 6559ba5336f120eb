"""The schedule of a simulation: the time of every report and planted fault, derived from the seed.

Source addresses are in ranges reserved for tests and documentation: 198.18.0.0/16 for attackers that several
agents report, 198.19.0.0/16 for those of one agent, and a /64 of 2001:db8::/32 for every tenth attacker and for those
beyond the IPv4 ranges.
"""

import random
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from schemas.threats import Severity
from simulate.plan import Plan

REPORTS_OF_AN_ATTACKER = 5
"""The number of agents that report a shared attacker, at most all agents."""

_FEWEST_SHARED = 2
_PIECE = 20_000
"""The number of reports that are scheduled at a time; a multiple of every burst."""

_SHARED_FROM, _OWN_FROM = int(IPv4Address("198.18.0.0")), int(IPv4Address("198.19.0.0"))
_IPV4 = 65_534
_IPV6 = int(IPv6Address("2001:db8::"))
_IPV6_NETWORKS = 2**31
_EVERY_TENTH = 10
_SEVERITIES = (Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)
_WEIGHTS = (10, 60, 25, 5)
_USERS = ("root", "admin", "oracle", "postgres", "git", "deploy")
_MOST_ATTEMPTS = 50
_FEWEST_ATTEMPTS = 5


class Detection(NamedTuple):
    """One scheduled report.

    Attributes:
        at: Seconds after the start of sending.
        agent: The reporting agent's number, from 0.
        source_ip: The attacker.
        is_shared: Whether other agents report the same attacker.
        severity: The threat's severity.
        attempts: The number of failed logins.
        user: The attempted user name.
        is_vouched: Whether the report vouches for its source address.
        is_repeated: Whether the report is sent twice at once.
    """

    at: float
    agent: int
    source_ip: str
    is_shared: bool
    severity: Severity
    attempts: int
    user: str
    is_vouched: bool
    is_repeated: bool


class Cut(NamedTuple):
    """A planned cut of a connection: seconds after the start of sending, and the agent's number."""

    at: float
    agent: int


def hostname(seed: int, number: int) -> str:
    """Return an agent's hostname."""
    return f"sim-{seed}-{number:05d}"


def detections(plan: Plan) -> Iterator[Detection]:
    """Yield all reports in the order of their times; deterministic for a plan. A long schedule is made in pieces."""
    chance = _random(plan, "detections")
    addresses: _Addresses | None = None
    attackers = 0
    for start in range(0, plan.threats, _PIECE):
        order = range(start, min(start + _PIECE, plan.threats))
        shared = set(chance.sample(order, _shared_count(plan, len(order))))
        victims = _shared_victims(plan, len(shared), chance)
        addresses = addresses or _Addresses(chance)
        unvouched = set(chance.sample(order, round(plan.unvouched * len(order))))
        repeated = set(chance.sample(order, round(plan.repeats * len(order))))
        moment, together = 0.0, 0
        for number in order:
            agent, source = next(victims) if number in shared else (chance.randrange(plan.agents), None)
            moment_of_its_own = number + chance.random()
            if number % plan.burst == 0:
                moment, together = moment_of_its_own, agent
            elif source is None:
                agent = together
            yield Detection(
                at=moment / plan.rate,
                agent=agent,
                source_ip=addresses.own(number) if source is None else addresses.shared(attackers + source),
                is_shared=source is not None,
                severity=chance.choices(_SEVERITIES, _WEIGHTS)[0],
                attempts=chance.randint(_FEWEST_ATTEMPTS, _MOST_ATTEMPTS),
                user=chance.choice(_USERS),
                is_vouched=number not in unvouched,
                is_repeated=number in repeated,
            )
        attackers += len(shared)


def cuts(plan: Plan) -> list[Cut]:
    """Return the planted cuts of connections, in the order of their times."""
    chance = _random(plan, "cuts")
    span = plan.threats / plan.rate
    return sorted(Cut(chance.uniform(0, span), chance.randrange(plan.agents)) for _ in range(plan.cuts))


def _random(plan: Plan, purpose: str) -> random.Random:
    return random.Random(f"{plan.seed} {purpose}")  # noqa: S311 -- deterministic on purpose, no secret


def _shared_count(plan: Plan, threats: int) -> int:
    count = round(plan.shared_attackers * threats)
    return count if plan.agents >= _FEWEST_SHARED and count >= _FEWEST_SHARED else 0


def _shared_victims(plan: Plan, count: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    """Yield agent and attacker of each shared report, attacker by attacker, each with different agents.

    A last report whose attacker would have only one agent is assigned to the previous attacker.
    """
    size = min(REPORTS_OF_AN_ATTACKER, plan.agents)
    for attacker, start in enumerate(range(0, count, size)):
        group = min(size, count - start)
        for agent in chance.sample(range(plan.agents), group):
            yield agent, attacker if group >= _FEWEST_SHARED else attacker - 1


class _Addresses:
    """Assigns an address to each attacker, starting at an offset that the seed determines."""

    def __init__(self, chance: random.Random) -> None:
        self._ipv4 = chance.randrange(_IPV4)
        self._ipv6 = chance.randrange(_IPV6_NETWORKS)

    def shared(self, attacker: int) -> str:
        """Return the address of an attacker that several agents report."""
        return self._address(attacker, _SHARED_FROM, 1)

    def own(self, attacker: int) -> str:
        """Return the address of an attacker that one agent reports once."""
        return self._address(attacker, _OWN_FROM, 0)

    def _address(self, attacker: int, ipv4_from: int, half: int) -> str:
        if attacker < _IPV4 and attacker % _EVERY_TENTH != _EVERY_TENTH - 1:
            return str(IPv4Address(ipv4_from + 1 + (self._ipv4 + attacker) % _IPV4))
        network = half * _IPV6_NETWORKS + (self._ipv6 + attacker) % _IPV6_NETWORKS
        return str(IPv6Address(_IPV6 + (network << 64) + 1))
