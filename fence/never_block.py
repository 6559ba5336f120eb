"""Never-block rules: targets that the fence refuses for every requester, each with the reason."""

from collections.abc import Callable, Iterable
from ipaddress import ip_network

from fence.addresses import WIDEST, Address, IntervalSet, Network, embedded_ipv4, is_private, special_reason
from fence.config import Config
from fence.host import Host
from fence.manifest import Measure, Origin

_FACTS_FOR = 5.0
"""Seconds for which facts about the host are cached."""

EXEMPT_REASONS = (
    "it belongs to the fleet: an agent, the manager, the broker or somebody signed in there",
    "it is on the allowlist of the policy",
)
"""The reasons by which the blocklist's `never` and the policy's allowlist exempt a target."""

CONTACTED = "this host itself connected to it within 24 h; it can be throttled"
"""The reason why the guard's own decision does not block a target that the kernel's record names."""

_LOGIN_PROTECTS = 7 * 86_400.0
_GRACE = 120.0
"""sshd's default LoginGraceTime in seconds: an older connection has logged in."""


class NeverBlockRules:
    """Decides whether a target is refused.

    Args:
        config: the networks that root excludes.
        host: provides addresses, gateways, resolvers and logins.
        now: this boot's clock, in seconds.
        wall: seconds since 1970.
    """

    def __init__(self, config: Config, host: Host, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._config = config
        self._host = host
        self._now = now
        self._wall = wall
        self._read_at = float("-inf")
        self._peers_since: dict[Address, float] = {}
        self._configured = IntervalSet(config.never)
        self._fleet = IntervalSet()
        self._allowed = IntervalSet()
        self.fleet: tuple[Network, ...] = ()
        self.allowed: tuple[Network, ...] = ()
        self.unread: list[str] = []
        self._networks: dict[str, list[Network]] = {}
        self._facts: dict[str, IntervalSet] = {}
        self._sessions: IntervalSet = IntervalSet()
        self._logins: IntervalSet = IntervalSet()

    def set_fleet(self, networks: Iterable[Network]) -> None:
        """Set the networks that the organization's signed blocklist excludes from blocks."""
        self.fleet = tuple(networks)
        self._fleet = IntervalSet(self.fleet)

    def set_allowed(self, networks: Iterable[Network]) -> None:
        """Set the allowlist of the agent's signed policy."""
        self.allowed = tuple(networks)
        self._allowed = IntervalSet(self.allowed)

    def kernel_never(self) -> IntervalSet:
        """Return the networks that the kernel's table accepts before any measure."""
        needed = self.needed_by_host()
        return IntervalSet([*needed["own"], *needed["gateway"], *self._config.never, *self.fleet, *self.allowed])

    def needed_by_host(self) -> dict[str, list[Network]]:
        """Return what this host cannot do without: its addresses, gateways, name servers and the guard's peers."""
        self.refresh()
        return self._networks

    def host_refusal(self, network: Network) -> str | None:
        """Return the reason why this host cannot do without a network or a part of it; None if it can."""
        self.refresh()
        reasons = (
            ("own", "it is an address of this host"),
            ("gateway", "it is a gateway of this host"),
            ("resolver", "it is a name server of this host"),
            ("guard", "the guard is connected to it: it is the manager or the broker"),
        )
        found = next((reason for name, reason in reasons if self._facts[name].overlaps(network)), None)
        embedded = embedded_ipv4(network)
        return self.host_refusal(embedded) if found is None and embedded is not None else found

    def refusal(self, network: Network, measure: Measure, origin: Origin) -> str | None:
        """Return the reason why a target is refused; None if it may be blocked."""
        embedded = embedded_ipv4(network)
        if network.prefixlen < WIDEST[network.version]:
            return f"it is wider than a /{WIDEST[network.version]}"
        if embedded is not None and embedded.prefixlen < WIDEST[embedded.version]:
            return f"it stands for {embedded}, which is wider than a /{WIDEST[embedded.version]}"
        found = (
            special_reason(network)
            or self._listed_refusal(network)
            or self._private_refusal(network, measure)
            or self._login_refusal(network, measure, origin)
        )
        return self.refusal(embedded, measure, origin) if found is None and embedded is not None else found

    def is_lasting(self, network: Network) -> bool:
        """Return whether a managed block of a network is refused whatever happens, until fence.conf changes."""
        embedded = embedded_ipv4(network)
        return (
            network.prefixlen < WIDEST[network.version]
            or special_reason(network) is not None
            or self._private_refusal(network, "block") is not None
            or self._configured.overlaps(network)
            or (embedded is not None and self.is_lasting(embedded))
        )

    def _listed_refusal(self, network: Network) -> str | None:
        configured = "it is on this host's never list (fence.conf)" if self._configured.overlaps(network) else None
        return self.host_refusal(network) or configured or self.exempt_reason(network)

    def exempt_reason(self, network: Network) -> str | None:
        """Return the reason why the signed lists exempt a network; None if they do not."""
        listed = zip((self._fleet, self._allowed), EXEMPT_REASONS, strict=True)
        found = next((reason for networks, reason in listed if networks.overlaps(network)), None)
        embedded = embedded_ipv4(network)
        return self.exempt_reason(embedded) if found is None and embedded is not None else found

    def _private_refusal(self, network: Network, measure: Measure) -> str | None:
        allowed = self._config.private_targets
        if not is_private(network) or allowed == "block" or (allowed == "throttle" and measure == "throttle"):
            return None
        return f"it is a private address, and private_targets is {allowed} (fence.conf)"

    def _login_refusal(self, network: Network, measure: Measure, origin: Origin) -> str | None:
        if measure == "throttle":
            return None
        if self._sessions.overlaps(network):
            return "somebody is logged in from it now"
        if origin != "operator" and self._logins.overlaps(network):
            return "somebody logged in from it within 7 days; it can be throttled"
        return None

    def refresh(self, within: float = _FACTS_FOR) -> None:
        """Read the facts about the host again if they are older than some seconds.

        Before a measure is set they are read again in any case (`within` 0): a session that began a moment ago counts.
        """
        if self._now() - self._read_at < within:
            return
        is_first = self._read_at == float("-inf")
        self._read_at = self._now()
        host = self._host
        self._networks = {
            "own": _networks(host.own_addresses()),
            "gateway": _networks(host.gateways()),
            "resolver": _networks(host.resolvers()),
            "guard": _networks(host.peers_of_user(self._config.guard_uid) if self._config.guard_uid else ()),
        }
        self._facts = {name: IntervalSet(networks) for name, networks in self._networks.items()}
        sessions, unread = host.sessions()
        sessions |= self._long_connected(ages_unknown=is_first and len(unread) > 1)
        if len(unread) > 1:
            unread.append("connections to the protected ports older than 120 s alone count as sessions")
        logins, unread_logins = host.recent_logins(self._wall() - _LOGIN_PROTECTS)
        self._sessions, self._logins = IntervalSet(_networks(sessions)), IntervalSet(_networks(logins))
        self.unread = [*(unread if len(unread) > 1 else []), *unread_logins]

    def _long_connected(self, *, ages_unknown: bool) -> set[Address]:
        """Return the peers that root's services on the protected ports have kept longer than a login may take.

        Args:
            ages_unknown: Nothing else names sessions, and this fence has just started: who is connected may have been
                for hours, and counts as a session until the connection ends.
        """
        now = self._now()
        peers = self._host.peers_of_user(0, self._config.protected_ports)  # root's: sshd's, not a web server's
        since = float("-inf") if ages_unknown else now
        self._peers_since = {peer: self._peers_since.get(peer, since) for peer in peers}
        return {peer for peer, since in self._peers_since.items() if now - since >= _GRACE}


def _networks(addresses: Iterable[Address]) -> list[Network]:
    return [ip_network(address) for address in sorted(addresses, key=int)]
