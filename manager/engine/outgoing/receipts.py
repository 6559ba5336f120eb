"""The manager's word on reports, gathered: one receipt for an agent and second under load, at once when it is quiet."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.threats import Deferral, Receipt, Refusal

_IDS_IN_ONE = 150
"""Ids in one receipt: with the longest id and reason of each it stays below the size limit of a message."""

_REASONS_IN_ONE = 20


@dataclass(slots=True)
class _Pending:
    stored: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)


class Receipts:
    """What is to be said to each agent, and when each was last told something."""

    def __init__(self, interval: float, retry_after: float) -> None:
        self._interval = interval
        self._retry_after = retry_after
        self._pending: dict[str, _Pending] = {}
        self._told: dict[str, float] = {}

    def stored(self, agent_id: str, threat_id: str) -> None:
        """A report is committed, now or before."""
        self._of(agent_id).stored.append(threat_id)

    def refused(self, agent_id: str, threat_id: str, reason: str) -> None:
        """A report can never be stored."""
        self._of(agent_id).refused.append(Refusal(id=threat_id, reason=reason))

    def deferred(self, agent_id: str, threat_id: str) -> None:
        """A report came over its agent's budget."""
        self._of(agent_id).deferred.append(threat_id)

    def due(self, now: float) -> Iterator[tuple[str, Receipt]]:
        """Yield, once, the receipts of agents that were told nothing for the interval; `now` is monotonic."""
        ready = [agent_id for agent_id in self._pending if now - self._told.get(agent_id, -1e9) >= self._interval]
        for agent_id in ready:
            self._told[agent_id] = now
            for receipt in self._split(self._pending.pop(agent_id)):
                yield agent_id, receipt

    def forget_idle(self, now: float) -> None:
        """Drop what is remembered of agents that were told nothing for long."""
        self._told = {agent_id: at for agent_id, at in self._told.items() if now - at < self._interval}

    def _of(self, agent_id: str) -> _Pending:
        pending = self._pending.get(agent_id)
        if pending is None:
            pending = self._pending[agent_id] = _Pending()
        return pending

    def _split(self, pending: _Pending) -> Iterator[Receipt]:
        for start in range(0, len(pending.stored), _IDS_IN_ONE):
            yield Receipt(stored=pending.stored[start : start + _IDS_IN_ONE])
        for start in range(0, len(pending.refused), _REASONS_IN_ONE):
            yield Receipt(refused=pending.refused[start : start + _REASONS_IN_ONE])
        for start in range(0, len(pending.deferred), _IDS_IN_ONE):
            ids = pending.deferred[start : start + _IDS_IN_ONE]
            yield Receipt(deferred=[Deferral(ids=ids, retry_after=self._retry_after)])
