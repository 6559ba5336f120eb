"""Forecast of automatic blocking: judges the measures on each address by what followed them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from ipaddress import IPv6Network
from itertools import groupby
from operator import attrgetter
from typing import Literal, NamedTuple

from manager.domain.networks import network_of
from manager.domain.protection.measures import MEASURES_KEPT_FOR, NETWORK_BITS, ReportedMeasure, ScopedAddress

CASES_NAMED = 50
"""The maximum number of addresses that a forecast names."""

EARLY_GUESSES = 5
"""An address is blocked early if it is blocked before its 6th guess."""

LiftKind = Literal["undo", "lift"]


class HostLogin(NamedTuple):
    """A successful login at a host. `guessed` is true if it looks like a guessed password."""

    subject: ScopedAddress
    agent_number: int
    user: str
    at: float
    guessed: bool


class Lift(NamedTuple):
    """A block of an address that a person lifted: the undo of an incident, or the removal of one block."""

    subject: ScopedAddress
    at: float
    kind: LiftKind
    author: str


class Allowance(NamedTuple):
    """One entry of an allowlist, from the time it was added until the time it was removed, if it was.

    Attributes:
        value: An address or CIDR.
        scope: The scope of its policy document, as tables show it.
        organization_id: The organization that it holds for; None for all.
        agents: The numbers of the agents that it holds for; None for all.
        since: When it was added.
        until: When it was removed; infinity for an entry in force.
    """

    value: str
    scope: str
    organization_id: str | None
    agents: frozenset[int] | None
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judgement of all measures on one address; later logins, lifts and allowances say that it is a friend's.

    Attributes:
        first: The first block; the first throttle if the address was only throttled.
        hosts: The number of agents that reported a measure.
        taken: Whether an agent took a measure.
        login: The newest login after a measure that does not look guessed; if all look guessed, the newest of them.
        lift: The newest lift after a measure.
        allowance: The newest allowlist entry that covers the address and was in force after a measure.
        connections: The sum of the connections that measures cut or would have cut; None if no report states any.
    """

    first: ReportedMeasure
    hosts: int
    taken: bool
    login: HostLogin | None
    lift: Lift | None
    allowance: Allowance | None
    connections: int | None

    @property
    def logged_in(self) -> bool:
        """Whether somebody logged in later, and not by a password that looks guessed."""
        return self.login is not None and not self.login.guessed

    @property
    def evidence_at(self) -> float | None:
        """The time of the newest evidence that the address is a friend's or its login was guessed; None without any."""
        times = [each.at for each in (self.login, self.lift) if each is not None]
        times += [] if self.allowance is None else [max(self.allowance.since, self.first.at)]
        times += [self.first.at] if self.connections else []
        return max(times, default=None)


class Followups:
    """Everything that may follow a measure, indexed by address.

    Args:
        logins: logins; of each agent, address, user and `guessed` at least the newest.
        lifts: lifts.
        allowances: entries of allowlists.
        now: the time of the judgement, in seconds since 1970.
    """

    def __init__(
        self, logins: Iterable[HostLogin], lifts: Iterable[Lift], allowances: Iterable[Allowance], now: float
    ) -> None:
        self.now = now
        self._logins: dict[ScopedAddress, list[HostLogin]] = {}
        self._by_network: dict[ScopedAddress, list[HostLogin]] = {}
        for login in logins:
            self._logins.setdefault(login.subject, []).append(login)
            prefix = _network_64(login.subject.value)
            if prefix is not None:
                self._by_network.setdefault(login.subject._replace(value=prefix), []).append(login)
        self._lifts: dict[ScopedAddress, list[Lift]] = {}
        for lift in lifts:
            self._lifts.setdefault(lift.subject, []).append(lift)
        self._allowances: dict[tuple[int, int], dict[int, list[Allowance]]] = {}
        """By IP version and prefix length, and by the first address as a number: a look-up for each prefix, no scan."""
        for each in allowances:
            network = network_of(each.value)
            if network is not None:
                of_prefix = self._allowances.setdefault((network.version, network.prefixlen), {})
                of_prefix.setdefault(int(network.network_address), []).append(each)

    def logins(self, subject: ScopedAddress) -> Sequence[HostLogin]:
        """Return the logins from an address, or from the addresses of an IPv6 /64."""
        return self._logins.get(subject) or self._by_network.get(subject) or ()

    def lifts(self, subject: ScopedAddress) -> Sequence[Lift]:
        """Return the lifts of an address."""
        return self._lifts.get(subject, ())

    def allowances(self, subject: ScopedAddress) -> list[Allowance]:
        """Return the allowlist entries that cover an address."""
        wanted = network_of(subject.value)
        if wanted is None:
            return []
        start, bits = int(wanted.network_address), wanted.max_prefixlen
        return [
            each
            for (version, prefix), of_prefix in self._allowances.items()
            if version == wanted.version and prefix <= wanted.prefixlen
            for each in of_prefix.get(start >> (bits - prefix) << (bits - prefix), ())
        ]


def judge(measures: Sequence[ReportedMeasure], followups: Followups) -> Judgement:
    """Judge the measures on one address.

    A login or a lift counts if it is later than a measure, by at most 30 days, and not after the time of the judgement.
    An allowlist entry counts if it holds for the agent of a measure and was in force at or after the measure. Throttles
    of an address that was blocked, too, are not judged.

    Args:
        measures: all of one subject, at least one, in the order of their time.
        followups: what may have followed.
    """
    judged = [each for each in measures if each.kind == "block"] or measures
    subject, now = judged[0].subject, followups.now
    logins = [each for each in followups.logins(subject) if _follows(each.at, judged, now)]
    lifts = [each for each in followups.lifts(subject) if _follows(each.at, judged, now)]
    allowances = [each for each in followups.allowances(subject) if _covers(each, judged, now)]
    stated = [each.connections for each in judged if each.connections is not None]
    return Judgement(
        first=judged[0],
        hosts=len({each.agent_number for each in judged}),
        taken=any(each.outcome == "taken" for each in judged),
        login=max(logins, key=lambda each: (not each.guessed, each.at, each.user), default=None),
        lift=max(lifts, key=lambda each: (each.at, each.author), default=None),
        allowance=max(allowances, key=lambda each: (each.since, each.value), default=None),
        connections=sum(stated) if stated else None,
    )


@dataclass(slots=True)
class Forecast:
    """Totals over judged addresses, and the newest cases by name.

    `counts` has the names in `COUNTS`, which count blocked addresses. `connectionsCut` are those with an established
    connection, `friends` those with a login, a lift or an allowance. `throttled` are addresses that were never blocked.
    """

    counts: Counter[str] = field(default_factory=Counter)
    _cases: list[tuple[float, ScopedAddress, Judgement]] = field(default_factory=list)

    def add(self, judgement: Judgement) -> None:
        """Count an address."""
        if judgement.first.kind == "throttle":
            self.counts["throttled"] += 1
            return
        counted = {
            "addresses": True,
            "taken": judgement.taken,
            "beforeSixthGuess": judgement.first.guesses <= EARLY_GUESSES,
            "loggedIn": judgement.logged_in,
            "guessed": judgement.login is not None and judgement.login.guessed,
            "lifted": judgement.lift is not None,
            "allowlisted": judgement.allowance is not None,
            "connectionsCut": bool(judgement.connections),
            "connectionsUnknown": judgement.connections is None,
            "friends": judgement.logged_in or judgement.lift is not None or judgement.allowance is not None,
        }
        self.counts.update(name for name, counts in counted.items() if counts)
        at = judgement.evidence_at
        if at is not None:
            case = (at, judgement.first.subject, judgement)
            if len(self._cases) < CASES_NAMED:
                heappush(self._cases, case)
            elif case[:2] > self._cases[0][:2]:
                heapreplace(self._cases, case)

    def cases(self) -> list[Judgement]:
        """Return the named cases, the one with the newest evidence first."""
        return [judgement for _, _, judgement in sorted(self._cases, key=lambda case: case[:2], reverse=True)]


def forecast(measures: Iterable[ReportedMeasure], followups: Followups) -> Forecast:
    """Judge measures and count the addresses.

    Args:
        measures: in the order of subject and time.
        followups: what may have followed them.
    """
    result = Forecast()
    for _, of_address in groupby(measures, key=attrgetter("subject")):
        result.add(judge(list(of_address), followups))
    return result


def totals(counts: Mapping[str, int]) -> dict[str, int]:
    """Return all counts of a forecast by name, zeros included."""
    return {name: counts.get(name, 0) for name in COUNTS}


COUNTS = (
    "addresses", "taken", "throttled", "beforeSixthGuess", "friends", "loggedIn", "guessed", "lifted", "allowlisted",
    "connectionsCut", "connectionsUnknown",
)  # fmt: skip
"""The names of the counts of a forecast."""


def _follows(at: float, measures: Sequence[ReportedMeasure], now: float) -> bool:
    return at <= now and any(each.at < at <= each.at + MEASURES_KEPT_FOR for each in measures)


def _covers(allowance: Allowance, measures: Sequence[ReportedMeasure], now: float) -> bool:
    organization_id, agents = allowance.organization_id, allowance.agents
    return allowance.since <= now and any(
        allowance.until > each.at
        and (organization_id is None or organization_id == each.subject.organization_id)
        and (agents is None or each.agent_number in agents)
        for each in measures
    )


def _network_64(value: str) -> str | None:
    """Return the /64 of an IPv6 address; None for any other value."""
    network = network_of(value)
    if not isinstance(network, IPv6Network) or network.prefixlen != network.max_prefixlen:
        return None
    return str(network.supernet(new_prefix=NETWORK_BITS))
