"""Bitmaps over the threats of a slice: integers in memory, packed to bytes in the store."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

SLICE = 2048
"""The largest number of consecutive threats in a slice."""

_BYTES = SLICE // 8
_POSITION: Final = "H"
_AGENT: Final = "I"
"""Array types of stored positions (2 bytes) and agent numbers (4 bytes), in the machine's byte order."""


def packed(bits: int) -> bytes:
    """Return a packed bitmap: one bit for each threat of a slice, or the positions of the set bits if shorter."""
    if 2 * bits.bit_count() >= _BYTES:
        return bits.to_bytes(_BYTES, "little")
    return array(_POSITION, reversed(list(positions(bits)))).tobytes()


def unpacked(data: bytes) -> int:
    """Return the bitmap of bytes that `packed` returned."""
    if len(data) == _BYTES:
        return int.from_bytes(data, "little")
    return bits_at(memoryview(data).cast(_POSITION))


def packed_agents(numbers: Sequence[int]) -> tuple[bytes, bytes]:
    """Return the sorted agent numbers of a slice and their positions; `numbers` has the agent of each position."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return array(_AGENT, [numbers[position] for position in order]).tobytes(), array(_POSITION, order).tobytes()


def bits_of_agent(number: int, agents: bytes, places: bytes) -> int:
    """Return the bitmap of an agent's threats from the result of `packed_agents`."""
    numbers = memoryview(agents).cast(_AGENT)
    first = bisect_left(numbers, number)
    return bits_at(memoryview(places).cast(_POSITION)[first : bisect_right(numbers, number, first)])


def bits_at(places: Iterable[int]) -> int:
    """Return the bitmap with these bits set; each position occurs once."""
    return sum(1 << place for place in places)


def positions(bits: int) -> Iterator[int]:
    """Yield the positions of the set bits, the highest first."""
    while bits:
        highest = bits.bit_length() - 1
        yield highest
        bits ^= 1 << highest
