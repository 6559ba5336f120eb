"""Write-behind: writes agents' records, vitals and published policies some seconds after they changed, in steps."""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice

from manager.domain.agents.vitals_history import sample_of
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.engine.batch import Batch
from manager.engine.context import Context
from manager.engine.fleet import Fleet
from manager.engine.unwritten import HEARD, Unwritten

ROWS = 1000
"""The maximum number of rows that one step writes, so that no receipt waits long for the commit."""


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
        self._records: Iterator[tuple[int, int]] = iter(())
        self._stated: Iterator[tuple[int, int]] = iter(())
        self._vitals: Iterator[tuple[int, int]] = iter(())
        self._policies: Iterator[EffectivePolicy] = iter(())
        self.has_work = False
        """Whether a part of what was collected may not be in a batch yet."""

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
        """Take over what changed; in the order of the rows, so that rows beside each other are written together.

        A million agents may have changed, so nothing is done here for each of them.
        """
        unwritten = self.unwritten
        self._records, self._stated, self._vitals = (
            unwritten.records.take(), unwritten.stated.take(), unwritten.vitals.take(),
        )  # fmt: skip
        self._policies, self._unwritten_policies = iter(self._unwritten_policies.values()), {}
        self.has_work = True
        batch.changes.meta.update(self._fleet.retained_clearing.changed_value())
        if self._revision_changed:
            self._revision_changed = False
            batch.changes.fleet_revision = self._fleet.policies.revision

    def _write(self, batch: Batch, rows: int) -> None:
        """Add rows of agents and policies that are still in the fleet."""
        find, left = self._fleet.registry.find_by_number, rows
        for numbers, save in ((self._records, batch.save), (self._stated, batch.save_stated)):
            for number, _ in islice(numbers, left):
                left -= 1
                if (agent := find(number)) is not None:
                    save(agent)
        for number, mark in islice(self._vitals, left):
            left -= 1
            if (agent := find(number)) is not None:
                batch.save_vitals(agent)
                if mark == HEARD and (sample := sample_of(agent)) is not None:
                    batch.changes.vitals_history.append(sample)
        for policy in islice(self._policies, left):
            left -= 1
            if policy.agent_id in self._fleet.policies.effective:
                batch.save_policy(policy)
        self.has_work = left == 0
