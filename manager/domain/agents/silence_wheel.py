"""Silence wheel: agents by the second in which they are looked at next."""

from manager.domain.agents.agent import Agent

_ROUNDING = 1e-6


class SilenceWheel:
    """Timer wheel with slots of a second. Times are monotonic.

    A sign of life moves nothing: an agent is looked at once its slot is due, and put into that of its new time then.
    """

    def __init__(self) -> None:
        self._slots: dict[int, list[Agent]] = {}

    def add(self, agent: Agent, at: float) -> None:
        """Have an agent looked at once this time has come, or up to a second before."""
        self._slots.setdefault(int(at - _ROUNDING), []).append(agent)

    def spread(self, agents: list[Agent], first: float, last: float) -> None:
        """Have agents looked at between two times, about as many in each second."""
        seconds = max(1, int(last - first))
        for second in range(seconds):
            self._slots.setdefault(int(first) + second, []).extend(agents[second::seconds])

    def take(self, now: float) -> list[Agent]:
        """Remove and return the agents whose slots have come."""
        due = sorted(slot for slot in self._slots if slot <= now)
        return [agent for slot in due for agent in self._slots.pop(slot)]
