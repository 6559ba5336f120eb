"""Policy queue: the agents whose effective policy must be published, in order."""

from collections import OrderedDict
from collections.abc import Iterable


class PolicyQueue:
    """Ordered set of agent ids; a change of the whole fleet's policy is published in slices between batches."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of queued agents."""
        return len(self._waiting)

    def add(self, agent_ids: Iterable[str]) -> None:
        """Add agents at the end of the queue."""
        for agent_id in agent_ids:
            self._waiting.setdefault(agent_id)

    def add_urgent(self, agent_ids: Iterable[str]) -> None:
        """Add agents at the front of the queue."""
        for agent_id in agent_ids:
            self._waiting[agent_id] = None
            self._waiting.move_to_end(agent_id, last=False)

    def take(self, limit: int) -> list[str]:
        """Remove and return the next agents, at most `limit`."""
        return [self._waiting.popitem(last=False)[0] for _ in range(min(limit, len(self._waiting)))]
