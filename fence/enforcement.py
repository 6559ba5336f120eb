"""Keeps the kernel's table equal to the manifest: sets and lifts measures, rebuilds a lost table, corrects timeouts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

from fence.addresses import Address, Network, is_single, parse, pieces, single, span
from fence.manifest import Manifest, ManifestEntry
from fence.never_block import NeverBlockRules
from fence.nft import Kernel, KernelError, can_change_tables

_OFF_BY = 60.0
"""Seconds by which a timeout in the kernel may differ from the manifest's; a larger difference is corrected."""

_NEVER = float("-inf")
_ALL: dict[int, Network] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


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
        self._needed: dict[str, list[Network]] | None = None
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
        with self._noted():
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
        """Update the table's accepted networks from the signed lists.

        Raises:
            KernelError: the kernel refuses; the next change sets everything anew.
        """
        with self._noted():
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
            if before is None:
                self._manifest.withdraw([entry.id])
            else:
                self._manifest.change([before], [])
            raise

    def lift(self, entries: list[ManifestEntry], state: dict[str, str] | None = None) -> None:
        """Remove measures from the manifest and the kernel, also where the manifest cannot be written.

        Raises:
            KernelError: the kernel refuses; the next change sets everything anew.
        """
        self._manifest.withdraw([entry.id for entry in entries], state)
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

    def to_spare(self) -> list[tuple[ManifestEntry, str]]:
        """Return the measures that this host cannot do without any more, each with the reason.

        They are looked for where its addresses, routes, name servers or manager have changed since the last call.

        Raises:
            KernelError: the table's accepted networks could not be changed; the next call tries again.
        """
        needed = self._never.needed_by_host()
        if needed == self._needed or self.missing() is not None:
            return []
        self.set_never()
        self._needed = needed
        reasons = ((entry, self._never.host_refusal(entry.network)) for entry in self._manifest.entries.values())
        return [(entry, reason) for entry, reason in reasons if reason is not None]

    def verify(self) -> int:
        """Mend sets that differ from the manifest by a measure or its timeout; return the number of differences."""
        off: set[Network] = set()
        for measure in ("block", "throttle"):
            for version in (4, 6):
                off |= self._wrong_addresses(measure, version)
                if self._has_wrong_ranges(measure, version):
                    off.add(_ALL[version])
        self.enforce(off)
        return len(off)

    def _wrong_addresses(self, measure: str, version: int) -> set[Network]:
        now = self._now()
        latest: dict[Network, float] = {}
        for entry in self._manifest.entries.values():
            if is_single(entry.network) and (entry.measure, entry.network.version) == (measure, version):
                latest[entry.network] = max(entry.ends_at - now, latest.get(entry.network, 0.0))
        left = {parse(element.value): element.left or 0.0 for element in self._kernel.elements(f"{measure}{version}")}
        return {
            network
            for network in latest.keys() | left.keys()
            if abs(left.get(network, _NEVER) - latest.get(network, _NEVER)) > _OFF_BY
        }

    def _has_wrong_ranges(self, measure: str, version: int) -> bool:
        due = self._intervals(measure, version)
        left = sorted(
            (*_bounds(element.value), element.left or 0.0)
            for element in self._kernel.elements(f"{measure}range{version}")
        )
        return [each[:2] for each in due] != [each[:2] for each in left] or any(
            abs(a[2] - b[2]) > _OFF_BY for a, b in zip(due, left, strict=True)
        )

    def enforce(self, touched: Iterable[Network], *, anew: bool = False) -> None:
        """Bring the kernel to what the manifest holds for some networks; `anew` takes all other measures away.

        After a failure everything is set anew, so that no later success hides what an earlier failure left.

        Raises:
            KernelError: nothing was changed in the kernel.
        """
        networks = set(touched)
        if self.unset_because is not None:
            anew = True
            networks |= {entry.network for entry in self._manifest.entries.values()}
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
        with self._noted():
            if self.unset_because is not None:
                self._kernel.set_never(self._never.kernel_never())
            self._kernel.apply(exact, gone, ranges, anew=anew)
            self.unset_because = None

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Keep the reason of a failed change."""
        try:
            yield
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


def _bounds(value: str) -> tuple[int, int]:
    """Return the first and last address of an element of an interval set."""
    first, dash, last = value.partition("-")
    return (int(single(first)), int(single(last))) if dash else span(parse(value))
