"""A table in memory in place of the kernel's, for tests of the fence's protocol."""

from collections.abc import Iterable, Mapping
from typing import Any

from fence.addresses import Address, IntervalSet
from fence.nft import Element


class KernelTwin:
    """Keeps elements as `fence.nft.Kernel` sets them; every address was seen whose last bit is 1."""

    def __init__(self, ports: tuple[int, ...] = (22,)) -> None:
        self._ports = ports
        self.exact: dict[str, dict[Address, float]] = {"block": {}, "throttle": {}}
        self.ranges: dict[tuple[str, int], list[tuple[int, int, float]]] = {}

    def missing(self) -> str | None:
        return None

    def build(self, _never: IntervalSet) -> None:
        self.exact = {"block": {}, "throttle": {}}
        self.ranges = {}

    def set_never(self, never: IntervalSet) -> None:
        assert never.intervals(4) is not None

    def is_there(self) -> bool:
        return True

    def apply(
        self,
        exact: Mapping[str, Mapping[Address, float]],
        gone: Mapping[str, Iterable[Address]],
        ranges: Mapping[tuple[str, int], list[tuple[int, int, float]]],
        **_options: Any,
    ) -> None:
        for measure, kept in self.exact.items():
            for address in gone[measure]:
                kept.pop(address, None)
            kept.update(exact[measure])
        self.ranges.update(ranges)

    def elements(self, name: str) -> list[Element]:
        measure, version = name[:-1], int(name[-1]) if name[-1] in "46" else 4
        kept = self.exact.get(measure, {})
        return [Element(str(address), left, 0) for address, left in kept.items() if address.version == version]

    def has_witness(self, port: int | None) -> bool:
        return port in self._ports

    def has_seen(self, _port: int, address: Address) -> bool:
        return bool(int(address) & 1)

    def remove(self) -> None:
        self.build(IntervalSet())
