"""Which threats of a slice have a value: as a number whose bits stand for them, and as the bytes that are stored."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

SLICE = 2048
"""How many threats, in the order of their storing, make a slice at most."""

_BYTES = SLICE // 8
_POSITION: Final = "H"
_AGENT: Final = "I"
"""How positions and agent numbers are stored: 2 and 4 bytes, in the machine's own order."""


def packed(bits: int) -> bytes:
    """Return the bytes of a mark: one bit for each threat of a slice, or the positions of the bits if that is less."""
    if 2 * bits.bit_count() >= _BYTES:
        return bits.to_bytes(_BYTES, "little")
    return array(_POSITION, reversed(list(positions(bits)))).tobytes()


def unpacked(mark: bytes) -> int:
    """Return the bits that `packed` made the bytes of."""
    if len(mark) == _BYTES:
        return int.from_bytes(mark, "little")
    return bits_at(memoryview(mark).cast(_POSITION))


def packed_agents(numbers: Sequence[int]) -> tuple[bytes, bytes]:
    """Return the agents of a slice in the order of their numbers, and the position of each; `numbers` by position."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return array(_AGENT, [numbers[position] for position in order]).tobytes(), array(_POSITION, order).tobytes()


def bits_of_agent(number: int, agents: bytes, places: bytes) -> int:
    """Return the bits of an agent's threats in what `packed_agents` returned."""
    numbers = memoryview(agents).cast(_AGENT)
    first = bisect_left(numbers, number)
    return bits_at(memoryview(places).cast(_POSITION)[first : bisect_right(numbers, number, first)])


def bits_at(places: Iterable[int]) -> int:
    """Return the number that has these bits, each named once."""
    return sum(1 << place for place in places)


def positions(bits: int) -> Iterator[int]:
    """Yield the positions of a number's bits, the highest first."""
    while bits:
        highest = bits.bit_length() - 1
        yield highest
        bits ^= 1 << highest
