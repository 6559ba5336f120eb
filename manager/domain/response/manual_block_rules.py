"""Never-block rules for manual blocks: which of them refuse an address or network, and which a person may override."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from manager.domain.correlation.indicators import Indicator, normal_address, parsed_address
from manager.domain.networks import Network, embedded_ipv4, network_of, overlap
from manager.domain.policies.scopes import GLOBAL, Scope
from manager.domain.response.never_block import OPERATOR_REASON, NeverBlock, unblockable

_Number = tuple[int, int]
"""IP version and number of an address."""

RECENT_LOGIN = "recent_login"
"""Name of the rule that a person may override: guards and fences of other hosts carry out such a block."""

EVERY_ORGANIZATION = ""
"""The id, which no organization has, under which only the rules of the whole fleet count."""


class Refusal(NamedTuple):
    """A never-block rule that refuses a manual block.

    Attributes:
        rule: its name.
        reason: one sentence part, such as "it is a loopback address".
    """

    rule: str
    reason: str

    @property
    def can_be_forced(self) -> bool:
        """Whether a person may override it; guards refuse what the other rules protect in any case."""
        return self.rule == RECENT_LOGIN


class ManualBlockRules:
    """The never-block rules for the manual blocks of one command.

    What one organization says of itself (its allowlist, its agents' addresses, people limited to it) keeps an address
    free on its own hosts only, so that no organization can end or prevent a block of the others: such a rule refuses a
    block if every organization concerned refuses it.

    Args:
        never_block: the rules' parts: networks of the configuration, addresses of the fleet, logins.
        organization_ids: the organizations whose hosts would block.
        allowlisted: returns whether the allowlist of a scope's own document shares an address with a network.
        operator_address: the address that the command came from.
        now: seconds since 1970.
    """

    def __init__(
        self,
        never_block: NeverBlock,
        organization_ids: Iterable[str],
        *,
        allowlisted: Callable[[Scope, Network], bool],
        operator_address: str | None,
        now: float,
    ) -> None:
        self._never_block = never_block
        self._organization_ids = tuple(organization_ids)
        self._allowlisted = allowlisted
        self._operator = network_of(operator_address) if operator_address else None
        self._now = now
        self._fleet_numbers: dict[str, Sequence[_Number]] = {}

    def refusal(self, network: Network) -> Refusal | None:
        """Return the rule that refuses a network; one that nobody can override before one that a person may."""
        return self.lasting_refusal(network) or self._login_refusal(network)

    def lasting_refusal(self, network: Network) -> Refusal | None:
        """Return the rule that nobody can override; a live block is withdrawn once one of them refuses it."""
        refusal, found = self._shared_refusal(network), None
        if refusal is not None:
            return refusal
        for organization_id in self._organization_ids:
            own = self._own_refusal(network, organization_id)
            if own is None:
                return None
            found = found or own
        if found is not None and len(self._organization_ids) > 1:
            return Refusal(found.rule, f"no organization blocks it; in {self._organization_ids[0]} {found.reason}")
        return found

    def exempt(self, network: Network) -> tuple[str, ...]:
        """Return the organizations whose own rules keep an address of a network free on their hosts."""
        return tuple(each for each in self._organization_ids if self._own_refusal(network, each) is not None)

    def _shared_refusal(self, network: Network) -> Refusal | None:
        """Return the rule of the whole fleet that refuses a network."""
        reason = unblockable(network)
        if reason is not None:
            return Refusal("special_address", reason)
        if self._operator is not None and overlap(network, self._operator):
            return Refusal("operator", "it is the address that you ask from")
        if self._never_block.operators.holds(network, EVERY_ORGANIZATION):
            return Refusal("operator", OPERATOR_REASON)
        for configured, said in self._never_block.configured:
            if overlap(network, configured):
                return Refusal("configured", said)
        if self._allowlisted(GLOBAL, network):
            return Refusal("allowlist", "it is on the global allowlist, which beats every block")
        return _of_embedded(network, self._shared_refusal)

    def _own_refusal(self, network: Network, organization_id: str) -> Refusal | None:
        """Return the rule of one organization that refuses a network."""
        if self._never_block.operators.holds(network, organization_id):
            return Refusal("operator", OPERATOR_REASON)
        if self._is_of_fleet(network, organization_id):
            return Refusal("fleet", "it is an address or a gateway of the fleet itself")
        if self._allowlisted(Scope("organization", organization_id), network):
            said = f"it is on the allowlist of organization {organization_id}, which beats every block"
            return Refusal("allowlist", said)
        return _of_embedded(network, lambda embedded: self._own_refusal(embedded, organization_id))

    def _is_of_fleet(self, network: Network, organization_id: str) -> bool:
        fleet = self._never_block.fleet
        if network.prefixlen == network.max_prefixlen:
            return organization_id in fleet.organizations_at(str(network.network_address))
        numbers = self._fleet_numbers.get(organization_id)
        if numbers is None:
            found = fleet.of_organization(organization_id)
            numbers = self._fleet_numbers[organization_id] = sorted(_number(parsed_address(value)) for value in found)
        return _first_within(numbers, network) is not None

    def _login_refusal(self, network: Network) -> Refusal | None:
        found = None
        if network.prefixlen == network.max_prefixlen and not _is_private(network):
            for organization_id in self._organization_ids:
                indicator = Indicator("source_ip", str(network.network_address), organization_id, None)
                found = found or self._never_block.evidence.login(indicator, self._now)
            agent_id = found[0] if found is not None else None
        else:
            index = _first_within(self._login_numbers, network)
            agent_id = self._logins[index][1] if index is not None else None
        if agent_id is None:
            return _of_embedded(network, self._login_refusal)
        return Refusal(RECENT_LOGIN, f"it logged in successfully on {agent_id} within 7 days")

    @cached_property
    def _logins(self) -> Sequence[tuple[_Number, str]]:
        wanted = set(self._organization_ids)
        logins = self._never_block.evidence.logins(self._now)
        return sorted(
            (_number(parsed_address(indicator.value)), agent_id)
            for indicator, agent_id in logins
            if indicator.organization_id in wanted
        )

    @cached_property
    def _login_numbers(self) -> Sequence[_Number]:
        return [number for number, _ in self._logins]


def _of_embedded(network: Network, refusal: Callable[[Network], Refusal | None]) -> Refusal | None:
    """Return the rule that refuses the IPv4 network inside an IPv6 network, with a reason that names it."""
    embedded = embedded_ipv4(network)
    found = refusal(embedded) if embedded is not None else None
    return found._replace(reason=f"it stands for {embedded}: {found.reason}") if found is not None else None


def _first_within(numbers: Sequence[_Number], network: Network) -> int | None:
    """Return the index of the first of some sorted addresses in a network."""
    index = bisect_left(numbers, (network.version, int(network.network_address)))
    within = index < len(numbers) and numbers[index] <= (network.version, int(network.broadcast_address))
    return index if within else None


def _number(address: IPv4Address | IPv6Address) -> _Number:
    return address.version, int(address)


def _is_private(network: Network) -> bool:
    address = normal_address(str(network.network_address))
    return address is not None and address.private
