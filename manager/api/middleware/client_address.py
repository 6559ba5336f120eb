"""Client address of a request: the peer's address, or the one that a trusted proxy forwards."""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Network

from manager.domain.networks import NetworkSet, network_of

Headers = Mapping[bytes, bytes]
"""A request's headers by lower-case name; of a repeated header the last value."""

_IPV6_SITE = 64


class ClientAddresses:
    """Resolves client addresses and matches them with the trusted networks.

    Args:
        trusted: networks whose hosts may register without a token.
        proxies: networks of the proxies whose `X-Forwarded-For` is trusted.
        forwarded: returns the client's address of a request that another manager has passed on; None of any other.
    """

    def __init__(
        self,
        trusted: Iterable[str] = (),
        proxies: Iterable[str] = (),
        forwarded: Callable[[Headers], str | None] | None = None,
    ) -> None:
        self._trusted = NetworkSet(trusted)
        self._proxies = NetworkSet(proxies)
        self._forwarded = forwarded

    def address(self, client: tuple[str, int] | None, headers: Headers) -> str:
        """Return the client's address in normal form: the nearest hop that is not a trusted proxy; empty if unknown."""
        if self._forwarded is not None:
            passed_on = self._forwarded(headers)
            if passed_on is not None:
                return passed_on
        peer = client[0] if client else ""
        if not self._proxies or not self._is_in(self._proxies, peer):
            return peer
        forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1")
        for hop in reversed([hop.strip() for hop in forwarded.split(",") if hop.strip()]):
            if network_of(hop) is None:
                return peer
            if not self._is_in(self._proxies, hop):
                return hop
            peer = hop
        return peer

    def is_proxy(self, client: tuple[str, int] | None) -> bool:
        """Return whether a peer is a trusted proxy."""
        return bool(self._proxies) and client is not None and self._is_in(self._proxies, client[0])

    def is_trusted(self, address: str) -> bool:
        """Return whether hosts at this address may register without a token."""
        return self._is_in(self._trusted, address)

    @staticmethod
    def rate_limit_key(address: str) -> str:
        """Return the key under which an address is rate-limited: an IPv6 address counts as its /64."""
        network = network_of(address)
        if isinstance(network, IPv6Network):
            return str(network.supernet(new_prefix=_IPV6_SITE))
        return address if network is None else str(network.network_address)

    @staticmethod
    def _is_in(networks: NetworkSet, address: str) -> bool:
        network = network_of(address)
        return network is not None and networks.covers(network)
