"""A table in memory in place of the kernel's, for tests of the fence's protocol and bookkeeping."""

from collections.abc import Iterable, Mapping, Sequence

from fence.addresses import Address, IntervalSet, Network, address_of, single
from fence.nft import Element, Kernel, KernelError


class KernelTwin(Kernel):
    """Keeps the table's sets as text with the seconds left.

    Args:
        ports: The protected ports.
        stands: The table is there already.
        seen: The pairs of port and address that spoke; None counts every address whose last bit is 1.

    Attributes:
        refuses: Every change fails.
        contacted: The addresses that this host has connected to.
    """

    def __init__(
        self, ports: Sequence[int] = (22,), *, stands: bool = True, seen: set[tuple[int, str]] | None = None
    ) -> None:
        super().__init__(ports)
        self.refuses = False
        self.stands = stands
        self.sets: dict[str, dict[str, float]] = {}
        self.never = IntervalSet()
        self.seen = seen
        self.contacted: set[str] = set()

    def addresses(self, measure: str) -> list[str]:
        """Return the single addresses of a measure, of IPv4 before IPv6."""
        return [*self.sets.get(f"{measure}4", {}), *self.sets.get(f"{measure}6", {})]

    def missing(self) -> str | None:
        return None

    def build(self, never: IntervalSet) -> None:
        self._check()
        self.sets, self.never, self.stands = {}, never, True

    def set_never(self, never: IntervalSet) -> None:
        self._check()
        self.never = never

    def is_there(self) -> bool:
        return self.stands

    def remove(self) -> None:
        self.sets, self.stands = {}, False

    def apply(
        self,
        exact: Mapping[str, Mapping[Address, float]],
        gone: Mapping[str, Iterable[Address]],
        ranges: Mapping[tuple[str, int], list[tuple[int, int, float]]],
        *,
        anew: bool = False,
    ) -> None:
        self._check()
        if anew:
            self.sets = {}
        for measure in ("block", "throttle"):
            for address in gone.get(measure, ()):
                self.sets.get(f"{measure}{address.version}", {}).pop(str(address), None)
            for address, left in exact.get(measure, {}).items():
                self.sets.setdefault(f"{measure}{address.version}", {})[str(address)] = left
        for (measure, version), intervals in ranges.items():
            self.sets[f"{measure}range{version}"] = {
                f"{address_of(version, first)}-{address_of(version, last)}": left for first, last, left in intervals
            }

    def elements(self, name: str) -> list[Element]:
        return [Element(value, left) for value, left in self.sets.get(name, {}).items()]

    def has_seen(self, port: int, address: Address) -> bool:
        return bool(int(address) & 1) if self.seen is None else (port, str(address)) in self.seen

    def has_contacted(self, network: Network) -> bool:
        return any(single(each) in network for each in self.contacted)

    def _check(self) -> None:
        if self.refuses:
            raise KernelError("nft: refused")
