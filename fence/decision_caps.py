"""Caps on the guard's own decisions: new targets in five minutes, with and without a witness; kept over restarts."""

import json

from fence.addresses import Network, covers, is_single, parse
from fence.config import Config
from fence.manifest import Manifest
from fence.nft import Kernel

WINDOW = 300.0
_LONGEST_UNWITNESSED = 86_400.0
_UNWITNESSED_PER_LIMIT = 10
"""Live targets without a witness, for each that five minutes allow."""

_WITNESSES_OF_A_SUBNET = 3
_KEY = "own_decisions"


class DecisionCaps:
    """Limits the guard's new targets to addresses that the kernel has seen, and to the caps.

    Args:
        config: the caps.
        kernel: records the addresses to which this host sent payload from a protected port.
        manifest: stores the recently allowed targets.
        boot_id: the id of this boot; times of another boot are invalid.
    """

    def __init__(self, config: Config, kernel: Kernel, manifest: Manifest, boot_id: str) -> None:
        self._config = config
        self._kernel = kernel
        self._manifest = manifest
        self._boot_id = boot_id
        kept = json.loads(manifest.state(_KEY) or "{}")
        self._allowed: list[tuple[float, bool]] = [tuple(each) for each in kept.get(boot_id, ())]

    def longest(self, port: int | None) -> float:
        """Return the seconds that an own decision may take: a day without a witness."""
        return self._config.longest if self._kernel.has_witness(port) else _LONGEST_UNWITNESSED

    def refusal(self, network: Network, port: int | None, now: float) -> str | None:
        """Return the reason why a new target is refused; None if it is allowed, which counts it."""
        self._allowed = [(at, witnessed) for at, witnessed in self._allowed if now - at < WINDOW]
        witnessed = port is not None and self._kernel.has_witness(port)
        if witnessed and port is not None and not self._is_witnessed(network, port):
            return f"this address never spoke to port {port} here; is a proxy in front?"
        if not witnessed and not is_single(network):
            return "a /64 needs three addresses that the kernel has seen, and there is no witness for this port"
        live = sum(
            1
            for entry in self._manifest.entries.values()
            if entry.origin == "own" and not self._kernel.has_witness(entry.port)
        )
        if not witnessed and live >= _UNWITNESSED_PER_LIMIT * self._config.own_limit:
            return f"{live} targets without a witness are in force: the cap of own decisions is reached"
        limit = self._config.witness_limit if witnessed else self._config.own_limit
        if sum(1 for _, by_witness in self._allowed if by_witness == witnessed) >= limit:
            beside = "" if witnessed else ", for which no witness can exist"
            return f"{limit} new targets in five minutes{beside}: the cap of own decisions is reached"
        self._allowed.append((now, witnessed))
        self._manifest.change([], [], {_KEY: json.dumps({self._boot_id: self._allowed})})
        return None

    def _is_witnessed(self, network: Network, port: int) -> bool:
        if is_single(network):
            return self._kernel.has_seen(port, network.network_address)
        seen = self._kernel.elements(f"seen6_{port}")
        within = sum(1 for element in seen if covers(network, parse(element.value)))
        return within >= _WITNESSES_OF_A_SUBNET
