"""Never-block rules: reasons for which an address or hash is never blocked automatically."""

from collections.abc import Iterable
from hashlib import md5, sha1, sha256
from ipaddress import ip_network

from manager.domain.correlation import Allowed, Indicator
from manager.domain.correlation.indicators import normal_network
from manager.domain.networks import Network, embedded_ipv4, network_of, overlap
from manager.domain.response.evidence_index import EvidenceIndex
from manager.domain.response.fleet_addresses import FleetAddresses
from manager.domain.response.never_list import LiftedAddresses
from manager.domain.response.operator_addresses import OperatorAddresses

_RANGES: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(text), reason)
    for text, reason in (
        ("0.0.0.0/8", "it is the unspecified address"),
        ("::/128", "it is the unspecified address"),
        ("127.0.0.0/8", "it is a loopback address"),
        ("::1/128", "it is a loopback address"),
        ("169.254.0.0/16", "it is a link-local address"),
        ("fe80::/10", "it is a link-local address"),
        ("224.0.0.0/4", "it is a multicast address"),
        ("ff00::/8", "it is a multicast address"),
        ("255.255.255.255/32", "it is the broadcast address"),
        ("::ffff:0:0/96", "it contains the IPv4-mapped addresses"),
    )
)
_NAT64 = ip_network("64:ff9b::/96")
WIDEST = {4: 24, 6: 48}
"""The shortest prefix that may be blocked, by IP version."""

OPERATOR_REASON = "a person used the API from it within 12 hours"
"""The reason why the address of a person who uses the API is never blocked."""

_EMPTY_FILE = frozenset(
    algorithm(b"", usedforsecurity=False).hexdigest() for algorithm in (md5, sha1, sha256)
)  # fmt: skip


def unblockable(network: Network) -> str | None:
    """Return the reason why a network is never blocked in any fleet; None if it may be blocked."""
    if network.prefixlen < WIDEST[network.version]:
        return f"it is wider than /{WIDEST[network.version]}"
    for range_, reason in _RANGES:
        if overlap(network, range_):
            return reason
    if network.prefixlen < _NAT64.prefixlen and overlap(network, _NAT64):
        return "it contains every IPv4 address, as NAT64 writes them"
    embedded = embedded_ipv4(network)
    if embedded is None:
        return None
    inner = unblockable(embedded)
    return f"it stands for {embedded}: {inner}" if inner is not None else None


class NeverBlock:
    """All never-block rules together. The engine updates the parts; each block is checked against all of them.

    Args:
        allowed: allowlists of the organizations.
        fleet: the fleet's own addresses and gateways.
        evidence: logins and paths from reports.
        own_addresses: the manager's and the broker's addresses.
        admin_networks: addresses and CIDRs that people administer the fleet from.
        fleet_networks: addresses and CIDRs of the fleet's hosts.
        operators: the addresses of the people who use the API.

    Raises:
        ValueError: one of the configured ones is neither an address nor a CIDR.
    """

    def __init__(
        self,
        allowed: Allowed,
        fleet: FleetAddresses,
        evidence: EvidenceIndex,
        own_addresses: Iterable[str] = (),
        admin_networks: Iterable[str] = (),
        *,
        fleet_networks: Iterable[str] = (),
        operators: OperatorAddresses | None = None,
    ) -> None:
        self.allowed = allowed
        self.fleet = fleet
        self.evidence = evidence
        self.operators = operators or OperatorAddresses()
        self.lifted = LiftedAddresses()
        self.configured: tuple[tuple[Network, str], ...] = tuple(
            (ip_network(normal_network(text)), reason)
            for texts, reason in (
                (own_addresses, "it is the manager's or the broker's own address"),
                (admin_networks, "it is in an admin network"),
                (fleet_networks, "it is in a network of the fleet"),
            )
            for text in texts
        )

    def reason(self, indicator: Indicator, now: float) -> str | None:
        """Return the reason why an address, CIDR or file hash is never blocked; None if it may be blocked."""
        if self.allowed(indicator):
            return "it is on the allowlist"
        if indicator.kind == "file_hash":
            return "it is the hash of an empty file" if indicator.value in _EMPTY_FILE else None
        return self._address(indicator, now) if indicator.kind == "source_ip" else None

    def _address(self, indicator: Indicator, now: float) -> str | None:
        network = network_of(indicator.value)
        if network is None:
            return "it is no address"
        reason = unblockable(network)
        if reason is not None:
            return reason
        for configured, said in self.configured:
            if overlap(network, configured):
                return said
        if self.fleet.holds(indicator.value, indicator.organization_id, indicator.site):
            return "it is an address or a gateway of the fleet itself"
        return self._people_reason(network, indicator, now) or self._embedded_reason(network, indicator, now)

    def _people_reason(self, network: Network, indicator: Indicator, now: float) -> str | None:
        if self.lifted.holds(indicator.organization_id, network, now):
            return "somebody lifted its block a few minutes ago"
        if self.operators.holds(network, indicator.organization_id):
            return OPERATOR_REASON
        login = self.evidence.login(indicator, now)
        return f"it logged in successfully on {login[0]} within 7 days" if login is not None else None

    def _embedded_reason(self, network: Network, indicator: Indicator, now: float) -> str | None:
        """Return the reason why the IPv4 network inside an IPv6 network is never blocked."""
        embedded = embedded_ipv4(network)
        if embedded is None:
            return None
        reason = self.reason(indicator._replace(value=str(embedded).removesuffix("/32")), now)
        return f"it stands for {embedded}: {reason}" if reason is not None else None
