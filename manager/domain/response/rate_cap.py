"""Rate cap: number of new blocks in a window, and the share of them that one agent or one token may cause."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from manager.domain.response.settings import ResponderSettings

SUPPORTERS = 2
"""The number of agents with room in their shares that a block needs."""


class Grant(NamedTuple):
    """The grant of one new block: its time, and the agents whose shares it is counted in."""

    at: float
    agent_ids: tuple[str, ...]
    token_ids: tuple[str | None, ...]


class RateCap:
    """Grants new blocks within a sliding window.

    A block takes its place in the shares of two agents that reported it, those that did so first and have room. So
    agents that made up their share alone can neither fill the window nor keep honest ones from blocking what they see.

    Args:
        settings: the cap, the window and the shares.
    """

    def __init__(self, settings: ResponderSettings) -> None:
        self._settings = settings
        self._agent_room = max(1, int(settings.blocks * settings.agent_share))
        self._token_room = max(1, int(settings.blocks * settings.token_share))
        self._grants: deque[Grant] = deque()
        self._by_agent: Counter[str] = Counter()
        self._by_token: Counter[str | None] = Counter()

    def load(self, grants: Iterable[Grant]) -> None:
        """Load the grants from before a restart."""
        for grant in sorted(grants, key=lambda each: each.at):
            self._take(grant)

    def shift(self, seconds: float) -> None:
        """Shift all grants by a step of the manager's clock, so that each keeps its age."""
        self._grants = deque(grant._replace(at=grant.at + seconds) for grant in self._grants)

    def request(
        self, agent_ids: Iterable[str], token_of: Callable[[str], str | None], now: float, *, several_tokens: bool
    ) -> Grant | str:
        """Grant a new block and return the grant, or return the reason why it must wait.

        Args:
            agent_ids: the agents that report it, in the order in which they joined.
            token_of: returns the enrollment token of an agent.
            now: the time, in seconds since 1970.
            several_tokens: whether the agents registered with more than one token.
        """
        self._slide(now)
        if len(self._grants) >= self._settings.blocks:
            return (
                f"{self._settings.blocks} new blocks in {self._settings.window:.0f} s are the most that are automatic"
            )
        supporters: dict[str, str | None] = {}
        for agent_id in agent_ids:
            token_id = token_of(agent_id)
            has_token_room = not several_tokens or self._by_token[token_id] < self._token_room
            if has_token_room and self._by_agent[agent_id] < self._agent_room:
                supporters[agent_id] = token_id
                if len(supporters) == SUPPORTERS:
                    grant = Grant(now, tuple(supporters), tuple(dict.fromkeys(supporters.values())))
                    self._take(grant)
                    return grant
        return "the agents that report it have made their share of new blocks"

    def _take(self, grant: Grant) -> None:
        self._grants.append(grant)
        self._by_agent.update(grant.agent_ids)
        self._by_token.update(grant.token_ids)

    def _slide(self, now: float) -> None:
        while self._grants and now - self._grants[0].at >= self._settings.window:
            gone = self._grants.popleft()
            self._by_agent.subtract(gone.agent_ids)
            self._by_token.subtract(gone.token_ids)
        if not self._grants:
            self._by_agent.clear()
            self._by_token.clear()
