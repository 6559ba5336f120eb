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
        self._stated: list[Agent] = []
        self._vitals: list[Agent] = []
        self._heard: set[int] = set()
        self._policies: list[EffectivePolicy] = []

    @property
    def has_work(self) -> bool:
        """Whether a part of what was collected is not in a batch yet."""
        return bool(self._records or self._stated or self._vitals or self._policies)

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
        unwritten = self.unwritten
        self._records, self._stated = _in_order(unwritten.records), _in_order(unwritten.stated)
        self._vitals, self._heard, unwritten.heard = _in_order(unwritten.vitals), unwritten.heard, set()
        self._policies = list(self._unwritten_policies.values())
        self._unwritten_policies.clear()
        batch.changes.meta.update(self._fleet.retained_clearing.changed_value())
        if self._revision_changed:
            self._revision_changed = False
            batch.changes.fleet_revision = self._fleet.policies.revision

    def _write(self, batch: Batch, rows: int) -> None:
        """Add rows of agents and policies that are still in the fleet."""
        registered = self._fleet.registry.agents
        records = _take(self._records, rows)
        stated = _take(self._stated, rows - len(records))
        vitals = _take(self._vitals, rows - len(records) - len(stated))
        left = rows - len(records) - len(stated) - len(vitals)
        for agents, save in ((records, batch.save), (stated, batch.save_stated), (vitals, batch.save_vitals)):
            for agent in agents:
                if registered.get(agent.agent_id) is agent:
                    save(agent)
        samples = [sample_of(agent) for agent in vitals if agent.number in self._heard]
        batch.changes.vitals_history += [sample for sample in samples if sample is not None]
        for policy in _take(self._policies, left):
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
