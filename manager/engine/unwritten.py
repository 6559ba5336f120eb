"""Agents whose changes are written some seconds later, by their numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress, count

from manager.domain.agents.agent import Agent, lasting_values

CHANGED, HEARD = 1, 3
"""Marks of a number; an agent that sent a heartbeat has changed, too."""

_BLOCK = 256


class AgentNumbers:
    """A set of agents' numbers with marks, in blocks of consecutive numbers: in order without a large sort."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def add(self, number: int, mark: int = CHANGED) -> None:
        """Add a number; it has every mark that it was added with."""
        block = self._blocks.get(number // _BLOCK)
        if block is None:
            block = self._blocks[number // _BLOCK] = bytearray(_BLOCK)
        block[number % _BLOCK] |= mark

    def take(self) -> Iterator[tuple[int, int]]:
        """Empty the set; return its numbers in order, each with its marks. They are looked up only as they are read."""
        blocks, self._blocks = self._blocks, {}
        return _in_order(blocks)


def _in_order(blocks: dict[int, bytearray]) -> Iterator[tuple[int, int]]:
    for place in sorted(blocks):
        block = blocks.pop(place)
        yield from compress(zip(count(place * _BLOCK), block, strict=False), block)


@dataclass(slots=True)
class Unwritten:
    """Agents whose changes are written some seconds later."""

    records: AgentNumbers = field(default_factory=AgentNumbers)
    """Those of which any value may have changed."""
    stated: AgentNumbers = field(default_factory=AgentNumbers)
    """Those that stated something else than before."""
    vitals: AgentNumbers = field(default_factory=AgentNumbers)
    """Those whose vitals or counts changed; `HEARD` marks those that sent a heartbeat."""

    def record(self, agent: Agent) -> None:
        """Have an agent's whole record written."""
        self.records.add(agent.number)

    def heartbeat(self, agent: Agent, before: tuple[object, ...]) -> None:
        """Have a heartbeat's values written; of the `lasting_values` only what differs from those before it."""
        self.vitals.add(agent.number, HEARD)
        after = lasting_values(agent)
        if after != before:
            kind = self.stated if after[0] is before[0] else self.records  # the host is the first
            kind.add(agent.number)
