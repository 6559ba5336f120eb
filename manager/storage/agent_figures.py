"""Running counts of the registered agents, kept by the writer from one commit to the next for the overview.

To group all agents for each overview was a quarter of its time. A commit that writes agents or their policies counts
these before and after, and adds the difference.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from manager.engine.batch import Changes
from manager.storage.statements import Statements

ALL_AGENTS = ("agents.count_by_state", "agents.count_by_os", "policies.count_current")
"""The statements that count all agents; `AgentCounts.of_values` takes their values."""


class AgentCounts(NamedTuple):
    """Registered agents by state and by operating system, and the number of those that applied their policy."""

    by_state: Mapping[str, int]
    by_system: Mapping[str, int]
    with_current_policy: int

    @classmethod
    def of_values(cls, by_state: str, by_system: str, with_current_policy: int) -> "AgentCounts":
        """Return the counts from the values of the statements `ALL_AGENTS`."""
        return cls(json.loads(by_state), json.loads(by_system), with_current_policy)

    def changed(self, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]) -> "AgentCounts":
        """Return the counts after some agents changed, of which the rows of `agents.count_some` are given."""
        states, systems, current = Counter(self.by_state), Counter(self.by_system), self.with_current_policy
        for sign, rows in ((-1, before), (1, after)):
            for state, system, is_current, number in rows:
                states[state] += sign * number
                systems[system] += sign * number
                current += sign * number * bool(is_current)
        return AgentCounts(dict(+states), dict(+systems), current)


class AgentFigures:
    """The counts of the registered agents as of the last commit.

    The writer's thread keeps them; any thread may read `known`. It is None while a commit that changes the counts is
    made durable, and after one whose end is unknown until the next: then a reader counts by itself. So what is known is
    never older than what a reader has found in the store before.

    Args:
        statements: the statements of the writer's database.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._committed: AgentCounts | None = None
        self._written: AgentCounts | None = None
        self.known: AgentCounts | None = None
        """The counts; None if they are not known just now."""

    def load(self) -> None:
        """Count all agents; without it, the first commit does."""
        self._committed = self.known = self._all()

    @contextmanager
    def follow(self, changes: Changes) -> Iterator[None]:
        """Follow the changes that are written meanwhile."""
        chosen = _changed(changes) if self._committed is not None else None
        if self._committed is None or chosen is None:
            yield
            return
        before = self._some(chosen)
        yield
        after = self._some(chosen)
        if after != before:
            self._written = self._committed.changed(before, after)

    def before_commit(self) -> None:
        """Let nobody read the counts from now to the commit's end if it changes them; called in its transaction."""
        if self._committed is None:
            self._written = self._all()
        if self._written is not None:
            self.known = None

    def after_commit(self) -> None:
        """Take the written counts over."""
        written, self._written = self._written, None
        if written is not None:
            self._committed = self.known = written

    def after_failure(self, *, is_rolled_back: bool) -> None:
        """Drop the written counts; forget all where it is unknown whether they were committed."""
        self._written = None
        if not is_rolled_back:
            self._committed = None
        self.known = self._committed

    def _all(self) -> AgentCounts:
        return AgentCounts.of_values(*self._statements.values(ALL_AGENTS))

    def _some(self, chosen: tuple[str, str]) -> list[tuple[Any, ...]]:
        return sorted(self._statements.rows("agents.count_some", chosen))


def _changed(changes: Changes) -> tuple[str, str] | None:
    """Return the agents that changes write, as JSON lists of numbers and of ids, or None without any.

    Ids are those of agents of which only a policy is written: that saves a question for their numbers.
    """
    numbers = {agent.number for agent in (*changes.agents.values(), *changes.stated.values(), *changes.removed)}
    ids = changes.policies.keys() - changes.agents.keys()
    return (json.dumps(list(numbers)), json.dumps(list(ids))) if numbers or ids else None
