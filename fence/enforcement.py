"""Keeps the kernel's table equal to the manifest: sets and lifts measures, rebuilds a lost table, corrects timeouts."""

from collections.abc import Callable, Iterable
from typing import Any

from fence.addresses import Address, Network, is_single, pieces
from fence.manifest import Manifest, ManifestEntry
from fence.never_block import NeverBlockRules
from fence.nft import Kernel, KernelError, can_change_tables

_OFF_BY = 60.0
"""Seconds by which a timeout in the kernel may differ from the manifest's; a larger difference is corrected."""


class Enforcement:
    """Applies the measures of the manifest to the kernel.

    Args:
        manifest: the measures, loaded.
        kernel: the table.
        never: gives the networks that the table accepts before any measure.
        now: this boot's clock, in seconds.
        log: is given each event as a dict.
    """

    def __init__(
        self,
        manifest: Manifest,
        kernel: Kernel,
        never: NeverBlockRules,
        now: Callable[[], float],
        log: Callable[[dict[str, Any]], None],
    ) -> None:
        self._manifest = manifest
        self._kernel = kernel
        self._never = never
        self._now = now
        self._log = log
        self.times_lost = 0
        self.unset_because: str | None = None

    def missing(self) -> str | None:
        """Return the missing requirement for blocking on this host; None if blocking is possible."""
        return self._kernel.missing() or (
            None if can_change_tables() else "CAP_NET_ADMIN is needed: start the fence as root"
        )

    def build(self) -> None:
        """Rebuild the table and set all measures of the manifest.

        Raises:
            KernelError: the kernel refuses.
        """
        self._kernel.build(self._never.kernel_never())
        self.enforce(entry.network for entry in self._manifest.entries.values())

    def start(self) -> None:
        """Take over the table of an earlier fence, with its witness sets, or build one.

        Raises:
            KernelError: the kernel refuses.
        """
        if not self._kernel.is_there():
            self.build()
            return
        self.set_never()
        self.enforce((entry.network for entry in self._manifest.entries.values()), anew=True)

    def set_never(self) -> None:
        """Update the table's accepted networks from the signed lists."""
        self._kernel.set_never(self._never.kernel_never())

    def put(self, entry: ManifestEntry) -> None:
        """Write a measure to the manifest, then set it in the kernel; on failure remove it from the manifest.

        Raises:
            ManifestError, KernelError: nothing was changed.
        """
        before = self._manifest.entries.get(entry.id)
        self._manifest.change([entry], [])
        try:
            self.enforce([entry.network])
        except KernelError:
            self._manifest.change([before] if before else [], [] if before else [entry.id])
            raise

    def lift(self, entries: list[ManifestEntry]) -> None:
        """Remove measures from the manifest and the kernel."""
        self._manifest.change([], [entry.id for entry in entries])
        self.enforce(entry.network for entry in entries)

    def expire(self) -> list[ManifestEntry]:
        """Remove and return expired measures; the kernel has removed them by its own timeouts."""
        ended = [entry for entry in self._manifest.entries.values() if entry.ends_at <= self._now()]
        if ended:
            self.lift(ended)
        return ended

    def check(self) -> None:
        """Rebuild the table if it is lost."""
        if self.missing() is None and (self.unset_because is not None or not self._kernel.is_there()):
            self.times_lost += 1
            self._log({"event": "measures_lost", "measures": len(self._manifest.entries)})
            self.build()

    def verify(self) -> int:
        """Set addresses again that the kernel lacks or has with a wrong timeout; return their number."""
        now = self._now()
        left = {
            (measure, element.value): element.left or 0.0
            for measure in ("block", "throttle")
            for version in (4, 6)
            for element in self._kernel.elements(f"{measure}{version}")
        }
        latest: dict[tuple[str, Network], float] = {}
        for entry in self._manifest.entries.values():
            if is_single(entry.network):
                key = (entry.measure, entry.network)
                latest[key] = max(entry.ends_at - now, latest.get(key, 0.0))
        off = [
            network
            for (measure, network), due in latest.items()
            if abs(left.get((measure, str(network.network_address)), float("-inf")) - due) > _OFF_BY
        ]
        self.enforce(off)
        return len(off)

    def enforce(self, touched: Iterable[Network], *, anew: bool = False) -> None:
        """Bring the kernel to what the manifest holds for some networks; `anew` takes all other measures away.

        Raises:
            KernelError: nothing was changed in the kernel.
        """
        networks = set(touched)
        singles = {network for network in networks if is_single(network)}
        exact: dict[str, dict[Address, float]] = {"block": {}, "throttle": {}}
        for entry in self._manifest.entries.values():
            left = entry.ends_at - self._now()
            if entry.network in singles and left > 0:
                address = entry.network.network_address
                exact[entry.measure][address] = max(left, exact[entry.measure].get(address, 0.0))
        gone = {
            measure: [network.network_address for network in singles if network.network_address not in kept]
            for measure, kept in exact.items()
        }
        ranges: dict[tuple[str, int], list[tuple[int, int, float]]] = {
            (measure, version): self._intervals(measure, version)
            for version in {network.version for network in networks - singles}
            for measure in ("block", "throttle")
        }
        try:
            self._kernel.apply(exact, gone, ranges, anew=anew)
            self.unset_because = None
        except KernelError as error:
            self.unset_because = str(error)
            raise

    def _intervals(self, measure: str, version: int) -> list[tuple[int, int, float]]:
        now = self._now()
        return pieces(
            (entry.network, entry.ends_at - now)
            for entry in self._manifest.entries.values()
            if (entry.measure, entry.network.version) == (measure, version)
            and not is_single(entry.network)
            and entry.ends_at > now
        )
