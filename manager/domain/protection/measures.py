"""Reported measures: the blocks and throttles that guards decided by themselves, as their reports state them."""

from ipaddress import IPv6Network
from typing import Literal, NamedTuple, cast

from manager.domain.correlation.indicators import SITELESS, Address, normal_address
from manager.domain.networks import network_of
from schemas.fast_threats import AnyReport

MEASURES_KEPT_FOR = 30 * 86_400.0
"""Seconds for which reported measures, and what followed them, are kept."""

MeasureKind = Literal["block", "throttle"]
MeasureOutcome = Literal["taken", "would_be_taken"]

NETWORK_BITS = 64
"""The prefix length of the IPv6 networks that guards decide on: hosters give each customer one."""

_KINDS: dict[str, MeasureKind] = {"block_ip": "block", "throttle_ip": "throttle"}
_LONGEST = 64
_OUTCOMES = frozenset({"taken", "would_be_taken"})


class ScopedAddress(NamedTuple):
    """An address, or an IPv6 /64, in normal form, and the scope within which it means the same host.

    Args:
        organization_id: organizations never mix.
        site: the site of a private address; `SITELESS` for a public address, and for agents without a site.
        value: the address; the /64 where a guard decided on one.
    """

    organization_id: str
    site: str
    value: str


class ReportedMeasure(NamedTuple):
    """One measure that a guard took, or would have taken in mode learning.

    Attributes:
        subject: The address.
        agent_number: The agent.
        at: The event time of the report, in seconds since 1970.
        rule_id: The rule that the guard applied; empty if the report names none.
        kind: The measure.
        guesses: The count of the threat at the decision: the address's guesses up to then.
        outcome: Whether the guard took it.
        connections: The established connections that the measure cut, or would have cut; None if it is not known.
    """

    subject: ScopedAddress
    agent_number: int
    at: float
    rule_id: str
    kind: MeasureKind
    guesses: int
    outcome: MeasureOutcome
    connections: int | None


def scoped_address(organization_id: str, site: str | None, text: str) -> ScopedAddress | None:
    """Return an address or IPv6 /64 with the scope of an agent; None if the text is neither."""
    found = normal_address(text) or _prefix(text)
    if found is None:
        return None
    return ScopedAddress(organization_id, (site or SITELESS) if found.private else SITELESS, found.value)


def _prefix(text: str) -> Address | None:
    """Return an IPv6 /64 in normal form, private if its first address is; None for any other text."""
    network = network_of(text) if len(text) <= _LONGEST and "/" in text else None
    if not isinstance(network, IPv6Network) or network.prefixlen != NETWORK_BITS:
        return None
    first = normal_address(str(network.network_address))
    return None if first is None else Address(str(network), first.private)


def reported_measure(
    report: AnyReport, *, agent_number: int, organization_id: str, site: str | None, at: float
) -> ReportedMeasure | None:
    """Return the measure that a report states as taken, or as one that would be taken; None for any other report.

    Args:
        report: the report.
        agent_number: the reporting agent.
        organization_id: its organization.
        site: its site, if it has one.
        at: the report's event time, in seconds since 1970.
    """
    response = report.response
    if response is None or isinstance(response, str) or response.target is None:
        return None
    kind, outcome = _KINDS.get(response.action), (response.outcome or "").partition(":")[0]
    if kind is None or outcome not in _OUTCOMES:
        return None
    subject = scoped_address(organization_id, site, response.target)
    if subject is None:
        return None
    threat = report.threat
    return ReportedMeasure(
        subject,
        agent_number,
        at,
        threat.rule_id or "",
        kind,
        threat.count,
        cast("MeasureOutcome", outcome),
        response.connections,
    )
