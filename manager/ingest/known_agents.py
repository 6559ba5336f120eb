"""Cache of the agents that a worker has heard; the database's notifications keep it right."""

from collections import deque
from collections.abc import Callable, Collection, Iterable

from manager.domain.agents.agent import Agent

MOST = 200_000
"""The maximum number of agents in memory; the ones that were loaded first make room."""


class KnownAgents:
    """The agents that were asked for, as the database has them.

    Args:
        load: returns the registered agents with some ids.
        most: the maximum number of agents in memory.
    """

    def __init__(self, load: Callable[[Collection[str]], Iterable[Agent]], most: int = MOST) -> None:
        self._load = load
        self._most = most
        self._agents: dict[str, Agent] = {}
        self._outdated: deque[str | None] = deque()

    def __len__(self) -> int:
        """Return the number of agents in memory."""
        return len(self._agents)

    def find(self, agent_id: str) -> Agent | None:
        """Return an agent in memory; None for one that `complete` was not asked for, or that is not registered."""
        return self._agents.get(agent_id)

    def outdate(self, agent_id: str | None) -> None:
        """Have an agent, or with None every agent, loaded again when it is next heard; safe from any thread."""
        self._outdated.append(agent_id)

    def complete(self, agent_ids: Collection[str]) -> None:
        """Drop what is outdated, and load those of some agents that are not in memory.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        while self._outdated:
            agent_id = self._outdated.popleft()
            if agent_id is None:
                self._agents.clear()
            else:
                self._agents.pop(agent_id, None)
        missing = [agent_id for agent_id in agent_ids if agent_id not in self._agents]
        if not missing:
            return
        for agent in self._load(missing):
            self._agents[agent.agent_id] = agent
        for agent_id in list(self._agents)[: max(0, len(self._agents) - self._most)]:
            del self._agents[agent_id]
