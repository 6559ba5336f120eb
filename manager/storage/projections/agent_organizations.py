"""The organizations of the agents in recently stored threats, kept from one piece of a projection to the next."""

import json
from collections.abc import Iterable, Mapping

from manager.domain.agents.agent import Agent
from manager.storage.statements import Statements

_MOST = 20_000
"""The number of agents above which the organizations are read anew."""


class AgentOrganizations:
    """The present organization of each agent, by number; read from the store once.

    Args:
        statements: the statements of the writer's database, in whose transaction agents move.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._known: dict[int, str] = {}

    def of(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """Return the organizations of these agents, and maybe of others."""
        missing = set(numbers) - self._known.keys()
        if missing:
            if len(self._known) > _MOST:
                return self._read(numbers)
            self._known.update(self._read(missing))
        return self._known

    def follow(self, agents: Iterable[Agent]) -> None:
        """Follow agents whose records are written, who may have moved."""
        for agent in agents:
            if agent.number in self._known:
                self._known[agent.number] = agent.organization_id

    def clear(self) -> None:
        """Forget all: a transaction was rolled back."""
        self._known.clear()

    def _read(self, numbers: Iterable[int]) -> dict[int, str]:
        return dict(self._statements.rows("agents.organizations", (json.dumps(list(numbers)),)))
