"""Agents of a database that another manager writes, kept in memory so that a take-over reads only what changed since.

A version of a row bears the number of the transaction that wrote it (`xmin`), and never changes. So the rows of all
transactions that had not ended when an earlier reading began are all that may differ from it
(docs/decisions/0025-a-stand-by-keeps-agents-warm.md). Rows are read some at a time, each time in a statement of its
own: no lock and no snapshot lasts longer than that.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from manager.domain.agents.agent import Agent
from manager.engine.agent_index import AgentIndex, index_of, indexed_values
from manager.storage.rows import AgentRows, SecretCipher, set_vitals
from manager.storage.statements import Statements

_ROWS = 2000
"""Rows that one statement reads; converting them holds up other threads for some milliseconds."""

_NUMBERS = 2**32
"""Transactions are numbered in a circle of so many; the first three numbers are none of a transaction."""

_FIRST_NUMBER = 3
_COMPARABLE = 2**31 - 2**20
"""Numbers of transactions further apart than half of the circle cannot be compared."""


class Position(NamedTuple):
    """A point in the history of a database, for readings of later changes.

    Attributes:
        server: The timeline and the start of the server: numbers of transactions mean nothing beyond either.
        since: Every transaction before this one has ended, and was durable if it was committed.
        next: The first transaction that had not begun.
    """

    server: tuple[str, str]
    since: int
    next: int

    def reaches(self, earlier: "Position") -> bool:
        """Return whether changes since an earlier position can be told by the numbers of transactions."""
        return self.server == earlier.server and self.next - earlier.since < _COMPARABLE


def position_of(row: tuple[Any, ...]) -> Position:
    """Return the position of a row of `warm_agents.position`.

    After a crash the server gives the numbers of transactions again that were aborted and not on its disk. Those of
    durable commits are not: the last one of the leader is such a commit, because it waits for the disk.
    """
    timeline, started_at, oldest, following, mark = row
    if mark is None or mark < _FIRST_NUMBER:
        return Position((timeline, started_at), 0, following)
    committed = following - following % _NUMBERS + mark
    return Position(
        (timeline, started_at), min(oldest, committed if committed < following else committed - _NUMBERS), following
    )


@dataclass(frozen=True, slots=True)
class TakenAgents:
    """The registered agents by number, and their indexes."""

    agents: list[Agent]
    index: AgentIndex


class WarmAgents:
    """The registered agents as of the last reading; used by one thread.

    Args:
        store_key: opens the secrets of agents.
    """

    def __init__(self, store_key: bytes) -> None:
        self._cipher = SecretCipher(store_key)
        self.clear()

    def __len__(self) -> int:
        """Return the number of agents in memory."""
        return len(self._agents)

    def clear(self) -> None:
        """Forget everything; the next reading reads every agent."""
        self._rows = AgentRows(self._cipher)
        self._agents: dict[int, Agent] = {}
        self._index: AgentIndex | None = None
        self._with_vitals: set[int] = set()
        self._position: Position | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read yet, so that the next reading reads every agent."""
        return self._position is None

    def refresh(self, statements: Statements, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Read what was written since the last reading.

        Args:
            statements: those of any connection to the database.
            goes_on: asked between two statements; after a False the next reading begins where this one did.

        Raises:
            InvalidTag: the store key does not open an agent's secret.
            peewee.DatabaseError, peewee.InterfaceError: the database cannot be read; what was read stays.
        """
        position, last = position_of(statements.rows("warm_agents.position")[0]), self._position
        if last is None or not position.reaches(last):
            self.clear()
        since = None if self._position is None or last is None else number_of(last.since)
        try:
            for *values, is_removed, has_vitals in _changed(statements, "warm_agents.agents", since, goes_on):
                self._follow_agent(tuple(values), is_removed=is_removed, has_vitals=has_vitals)
            if since is not None:
                for row in _changed(statements, "warm_agents.vitals", since, goes_on):
                    self._follow_vitals(row)
        except _InterruptedError:
            return
        self._position = position
        if self._index is None:
            self._index = index_of(self._in_order())

    def take(self, statements: Statements) -> TakenAgents | None:
        """Return the agents as they are stored, and forget them. Nobody may write agents meanwhile.

        Everything that is stored is in memory after a reading; so the two are the same if they are as many. None where
        they are not, because rows of registered agents were deleted by hand: then all must be read.

        Args:
            statements: those of the writer's connection.

        Raises:
            InvalidTag: the store key does not open an agent's secret.
            peewee.DatabaseError, peewee.InterfaceError: the database cannot be read.
        """
        self.refresh(statements)
        stored = statements.rows("warm_agents.counts")[0]
        agents, index = self._in_order(), self._index
        is_complete = stored == (len(agents), len(self._with_vitals))
        self.clear()
        return TakenAgents(agents, index) if is_complete and index is not None else None

    def _in_order(self) -> list[Agent]:
        return [agent for _, agent in sorted(self._agents.items())]

    def _follow_agent(self, row: tuple[Any, ...], *, is_removed: bool, has_vitals: bool) -> None:
        number, known = row[0], self._agents.get(row[0])
        if is_removed:
            if self._agents.pop(number, None) is not None:
                self._index = None
        else:
            agent = self._rows.to_agent(row)
            if known is not None and indexed_values(known) == indexed_values(agent):
                _copy(agent, known)  # the object that is in the index
            else:
                self._agents[number], self._index = agent, None
        if has_vitals:
            self._with_vitals.add(number)
        else:
            self._with_vitals.discard(number)

    def _follow_vitals(self, row: tuple[Any, ...]) -> None:
        self._with_vitals.add(row[0])
        agent = self._agents.get(row[0])
        if agent is not None:
            set_vitals(agent, row)


def _copy(source: Agent, target: Agent) -> None:
    for name in Agent.__struct_fields__:
        setattr(target, name, getattr(source, name))


class _InterruptedError(Exception):
    """A reading is not wanted any more."""


def _changed(
    statements: Statements, name: str, since: str | None, goes_on: Callable[[], bool]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a statement, some at a time.

    Raises:
        _InterruptedError: it does not go on.
    """
    after = -1
    while True:
        if not goes_on():
            raise _InterruptedError
        rows = statements.rows(name, {"since": since, "after": after, "limit": _ROWS})
        yield from rows
        if len(rows) < _ROWS:
            return
        after = rows[-1][0]


def number_of(transaction: int) -> str | None:
    """Return the number of a transaction in the circle of numbers, or of an earlier one that has one; None for none."""
    if transaction < _FIRST_NUMBER:
        return None
    number = transaction % _NUMBERS
    return str(number if number >= _FIRST_NUMBER else _NUMBERS - 1)
