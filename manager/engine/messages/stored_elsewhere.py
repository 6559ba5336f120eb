"""Reports that ingest workers stored: the leader decides on them in the order of storing, as on those it stores itself.

That they are decided stands in the transaction of the decisions, so each is decided once, whichever side ends when.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import structlog

from manager.domain.agents.agent import Agent
from manager.domain.correlation.reports import RESENT
from manager.domain.instant import Instant
from manager.engine.batch import ThreatRow
from manager.engine.context import Context, ReceivedReport
from manager.engine.ports import Store
from manager.errors import StoreUnavailable
from schemas.decoding import DecodeError, decode
from schemas.fast_threats import fast_report
from schemas.threats import ThreatReport
from schemas.topics import THREATS

log = structlog.get_logger(__name__)

POLL = 1.0
"""Seconds between two looks for stored reports without a notification."""

LIMIT = 2000
"""The maximum number of reports that are read for one batch."""

HOLD = 3.0
"""Seconds for which a report waits for its agent's first sign of life, which tells its clock offset."""

_MOST_HELD = 500


class _Waiting(NamedTuple):
    sequence: int
    agent: Agent
    row: ThreatRow


class StoredElsewhere:
    """Takes the reports that workers stored into the leader's batches.

    Args:
        store: has them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = 0.0
        self._held: dict[int, float] = {}
        self.notified = False
        """Whether a worker may have stored something since the last look; any thread sets it."""
        self.is_behind = False
        """Whether the last look has left reports."""

    @property
    def has_work(self) -> bool:
        """Whether the next batch should look for reports."""
        return self.notified or self.is_behind

    def take(self, context: Context, now: Instant) -> None:
        """Take waiting reports into the batch, if a worker has notified of some, or a second has passed.

        A report of an agent whose clock offset is not known is held: those behind it are decided before it.
        """
        if not self.has_work and now.monotonic < self._next:
            return
        self.notified = self.is_behind = False
        self._next = now.monotonic + POLL
        try:
            waiting = self._store.waiting_reports(LIMIT)
        except StoreUnavailable as error:
            log.warning("stored_reports_not_read", reason=str(error))
            return
        self.is_behind = len(waiting.rows) >= LIMIT
        held: dict[int, float] = {}
        for sequence, row in waiting.rows:
            agent = context.fleet.registry.find_by_number(row.agent_number)
            if agent is None:
                context.fleet.counters["reports_of_removed_agents"] += 1
                context.dead_letter("agents/?/threats", "its agent was removed", row.document.encode())
            elif self._is_held(sequence, agent, row, now, len(held)):
                held[sequence] = self._held.get(sequence, now.monotonic)
            else:
                self._take_one(context, _Waiting(sequence, agent, row))
        self._held = held
        context.batch.changes.decided += _without(waiting.ranges, held)

    def _is_held(self, sequence: int, agent: Agent, row: ThreatRow, now: Instant, held: int) -> bool:
        if row.time_known or agent.clock.seconds is not None or held >= _MOST_HELD:
            return False
        return now.monotonic - self._held.get(sequence, now.monotonic) < HOLD

    def _take_one(self, context: Context, waiting: _Waiting) -> None:
        sequence, agent, row = waiting
        body = row.document.encode()
        try:
            report = fast_report(body, agent.agent_id) or decode(ThreatReport, body, THREATS.limit)
        except DecodeError as error:
            context.fleet.counters["reports_failed"] += 1
            context.dead_letter(THREATS.below_root(agent.agent_id), str(error), body)
            return
        received = ReceivedReport(agent, report, row.digest, row.document, resent=bool(row.ignored & RESENT))
        context.stored_elsewhere.append((sequence, received, row))


def _without(ranges: Iterable[tuple[int, int]], held: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges without some sequences in them; both are in order."""
    left_out = iter([*held, 2**63])
    without = next(left_out)
    for first, last in ranges:
        begin = first
        while without <= last:
            if begin < without:
                yield begin, without - 1
            begin = without + 1
            without = next(left_out)
        if begin <= last:
            yield begin, last
