"""The policies that are not published yet, in the order in which they go out."""

from collections import OrderedDict
from collections.abc import Iterable


class PolicyQueue:
    """Agent ids, each at most once; a change of the whole fleet's policy goes out in slices between batches."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many agents wait for their policy."""
        return len(self._waiting)

    def add(self, agent_ids: Iterable[str]) -> None:
        """Let these agents' policies go out, behind those that wait."""
        for agent_id in agent_ids:
            self._waiting.setdefault(agent_id)

    def add_urgent(self, agent_ids: Iterable[str]) -> None:
        """Let these agents' policies go out before all others."""
        for agent_id in agent_ids:
            self._waiting[agent_id] = None
            self._waiting.move_to_end(agent_id, last=False)

    def take(self, limit: int) -> list[str]:
        """Return the next ones."""
        return [self._waiting.popitem(last=False)[0] for _ in range(min(limit, len(self._waiting)))]
