"""Cache of the agents that a worker has heard; the database's notifications keep it right."""

from collections import deque
from collections.abc import Callable, Collection, Iterable

from manager.domain.agents.agent import Agent
from manager.domain.agents.agents_by_token import AgentsByToken

MOST = 200_000
"""The maximum number of agents in memory; the ones that were loaded first make room."""


class KnownAgents:
    """The agents that were asked for, as the database has them.

    One thread loads and finds them. The HTTP server's thread looks agents up by their token's digest, and does not
    find one of which a change was notified until it is loaded again.

    Args:
        load: returns the registered agents with some ids.
        most: the maximum number of agents in memory.
    """

    def __init__(self, load: Callable[[Collection[str]], Iterable[Agent]], most: int = MOST) -> None:
        self._load = load
        self._most = most
        self._agents: dict[str, Agent] = {}
        self._by_token = AgentsByToken()
        self._outdated: deque[str | None] = deque()
        self._changed: set[str | None] = set()
        """The content of `_outdated`, for other threads."""

    def __len__(self) -> int:
        """Return the number of agents in memory."""
        return len(self._agents)

    def find(self, agent_id: str) -> Agent | None:
        """Return an agent in memory; None for one that `complete` was not asked for, or that is not registered."""
        return self._agents.get(agent_id)

    def find_by_http_digest(self, digest: bytes) -> Agent | None:
        """Return the agent in memory whose HTTP token has this SHA-256, unless it is outdated; safe from any thread."""
        agent = self._by_token.find(digest)
        return None if agent is None or self._is_outdated(agent.agent_id) else agent

    def has(self, agent_id: str) -> bool:
        """Return whether an agent is in memory and not outdated; safe from any thread."""
        return agent_id in self._agents and not self._is_outdated(agent_id)

    def outdate(self, agent_id: str | None) -> None:
        """Have an agent, or with None every agent, loaded again when it is next heard; safe from any thread."""
        self._changed.add(agent_id)
        self._outdated.append(agent_id)

    def complete(self, agent_ids: Collection[str], renewed: Collection[str] = ()) -> None:
        """Drop what is outdated, and load those of some agents that are not in memory.

        Args:
            agent_ids: the agents that are asked for.
            renewed: those of them that are loaded in any case.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        while self._outdated:
            agent_id = self._outdated.popleft()
            if agent_id is None:
                self._agents.clear()
                self._by_token = AgentsByToken()
            else:
                self._drop(agent_id)
            self._changed.discard(agent_id)
        missing = [agent_id for agent_id in agent_ids if agent_id not in self._agents or agent_id in renewed]
        if not missing:
            return
        found = list(self._load(missing))
        for agent_id in missing:
            self._drop(agent_id)
        for agent in found:
            self._agents[agent.agent_id] = agent
            self._by_token.add(agent)
        for agent_id in list(self._agents)[: max(0, len(self._agents) - self._most)]:
            self._drop(agent_id)

    def _drop(self, agent_id: str) -> None:
        agent = self._agents.pop(agent_id, None)
        if agent is not None:
            self._by_token.discard(agent)

    def _is_outdated(self, agent_id: str) -> bool:
        return agent_id in self._changed or None in self._changed
