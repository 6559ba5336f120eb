"""Write-behind: writes agents' records, vitals and published policies some seconds after they changed, in steps."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from manager.domain.agents.agent import Agent
from manager.domain.agents.vitals_history import sample_of
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.engine.batch import Batch
from manager.engine.context import Context, Unwritten
from manager.engine.fleet import Fleet

ROWS = 1000
"""The maximum number of rows that one step writes, so that no receipt waits long for the commit."""

_T = TypeVar("_T")


class WriteBehind:
    """Collects what changed for some seconds, then adds it to the following batches, at most `ROWS` rows to each.

    Args:
        fleet: the agents and policies that are written.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.unwritten = Unwritten()
        self._unwritten_policies: dict[str, EffectivePolicy] = {}
        self._revision_changed = False
        self._next = 0.0
        self._records: list[Agent] = []
        self._heartbeats: list[Agent] = []
        self._policies: list[EffectivePolicy] = []

    @property
    def has_work(self) -> bool:
        """Whether a part of what was collected is not in a batch yet."""
        return bool(self._records or self._heartbeats or self._policies)

    def add_policy(self, policy: EffectivePolicy) -> None:
        """Add a policy of which only `published` changed."""
        self._unwritten_policies[policy.agent_id] = policy

    def add_restored_policies(self, policies: Iterable[EffectivePolicy]) -> None:
        """Write effective policies that this release resolves differently, and the fleet's revision."""
        for policy in policies:
            self.add_policy(policy)
            self._revision_changed = True

    def tick(self, context: Context, now: Instant) -> None:
        """Add rows to the batch: the next of those that were collected; if there are none and it is due, collect."""
        if now.monotonic >= self._next and not self.has_work:
            self._next = now.monotonic + self._fleet.settings.write_behind
            self._collect(context.batch)
        if self.has_work:
            self._write(context.batch, ROWS)

    def write_all(self, context: Context, _now: Instant) -> None:
        """Add everything to the batch."""
        self._write(context.batch, sys.maxsize)
        self._collect(context.batch)
        self._write(context.batch, sys.maxsize)

    def _collect(self, batch: Batch) -> None:
        """Take over what changed; in the order of the rows, so that rows beside each other are written together."""
        self._records, self._heartbeats = _in_order(self.unwritten.records), _in_order(self.unwritten.heartbeats)
        self._policies = list(self._unwritten_policies.values())
        self._unwritten_policies.clear()
        batch.changes.meta.update(self._fleet.retained_clearing.changed_value())
        if self._revision_changed:
            self._revision_changed = False
            batch.changes.fleet_revision = self._fleet.policies.revision

    def _write(self, batch: Batch, rows: int) -> None:
        """Add rows of agents and policies that are still in the fleet."""
        agents = self._fleet.registry.agents
        records = _take(self._records, rows)
        heartbeats = _take(self._heartbeats, rows - len(records))
        for agent in records:
            if agents.get(agent.agent_id) is agent:
                batch.save(agent)
        for agent in heartbeats:
            if agents.get(agent.agent_id) is not agent:
                continue
            batch.save_vitals(agent)
            sample = sample_of(agent)
            if sample is not None:
                batch.changes.vitals_history.append(sample)
        for policy in _take(self._policies, rows - len(records) - len(heartbeats)):
            if policy.agent_id in self._fleet.policies.effective:
                batch.save_policy(policy)


def _in_order(agents: dict[int, Agent]) -> list[Agent]:
    """Empty a mapping by number, and return its agents with the lowest number last."""
    ordered = [agents[number] for number in sorted(agents, reverse=True)]
    agents.clear()
    return ordered


def _take(items: list[_T], most: int) -> list[_T]:
    """Remove and return the last items, the last one first."""
    start = max(0, len(items) - most)
    taken = items[start:]
    del items[start:]
    taken.reverse()
    return taken
