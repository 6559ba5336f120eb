"""The pipeline: from the records of all sources to reports in the outbox, each record once, whatever is killed."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from uuid_utils.compat import uuid7

from agent.accounts import HostAccounts
from agent.clock import Clock
from agent.detect.chain import DetectionChain
from agent.events import Verdict
from agent.host import local_zone
from agent.logs import EventLog
from agent.report.outbox import Outbox
from agent.report.threat_report import report_body
from agent.sources import cursors
from agent.sources.source import Batch, Source, SourceError
from agent.storage.database import Database, add_to_counter, counter
from schemas.threats import ResponseTaken

_log = EventLog("pipeline")

_EVENTS = "events_total"
_RETRY_AFTER = 5.0
_BUDGET = 1_000
_NEVER = float("inf")

Respond = Callable[[Verdict], ResponseTaken | None]


@dataclass(slots=True)
class _Pending:
    """A batch that was examined and is not committed yet."""

    source: Source
    batch: Batch
    reports: list[tuple[str, bytes]] = field(default_factory=list)


class Pipeline:
    """Reads sources, detects, responds, and puts reports into the outbox.

    What a batch of records leads to (reports, the detectors' events, the cursor, the count of events) is committed in
    one transaction. While that fails nothing more is read, and the same batch is committed later.

    While `enabled` is False (the policy's `monitors.enabled`) records are counted and not examined.

    Args:
        sources: The logs to read; empty to read none.
        database: The guard's database.
        outbox: The queue of reports.
        respond: Acts on a threat and returns the response to report.
        clock: The host's clocks.
    """

    def __init__(
        self, *, sources: Sequence[Source], database: Database, outbox: Outbox, respond: Respond, clock: Clock
    ) -> None:
        self._sources = sources
        self._database = database
        self._outbox = outbox
        self._respond = respond
        self._clock = clock
        self._chain = DetectionChain(HostAccounts(), local_zone())
        self._chain.restore(database.connection)
        self._pending: _Pending | None = None
        self._not_before = 0.0
        self._problems: dict[str, str] = {}
        self.enabled = True
        self.events_total = counter(database.connection, _EVENTS)

    @property
    def due(self) -> float:
        """The time of the next read, on the monotonic clock."""
        return max(self._not_before, min((source.due for source in self._sources), default=_NEVER))

    def tick(self, now: float) -> bool:
        """Read every source that is due; return whether there are new reports.

        Never raises for a source that cannot be read or a disk that is full: it logs the error once, and tries again.
        """
        if now < self._not_before:
            return False
        reported = False
        try:
            reported = self._commit()  # what an earlier tick could not
            for source in self._sources:
                if now >= source.due:
                    self._read(source, now)
                    reported = self._commit() or reported
        except sqlite3.Error as error:
            self._not_before = now + _RETRY_AFTER
            _log.error("batch_not_committed", reason=str(error), retry_in=_RETRY_AFTER)
        return reported

    def close(self) -> None:
        """Close all sources."""
        for source in self._sources:
            source.close()

    def _read(self, source: Source, now: float) -> None:
        try:
            batch = source.read(_BUDGET, now)
        except SourceError as error:
            self._tell(source.name, str(error))
            return
        self._tell(source.name, "")
        for gap in batch.lost:
            _log.error("records_lost", source=source.name, reason=gap)
        if batch.records:
            self._pending = self._examine(source, batch)

    def _examine(self, source: Source, batch: Batch) -> _Pending:
        pending, now = _Pending(source, batch), self._clock.wall()
        for record in batch.records if self.enabled else ():
            for threat in self._chain.examine(record, now).threats:
                report_id = str(uuid7())
                pending.reports.append((report_id, report_body(report_id, threat, self._respond(threat))))
                evidence = dict(threat.evidence)
                _log.warning("threat_detected", id=report_id, type=threat.type, count=threat.count, evidence=evidence)
        return pending

    def _commit(self) -> bool:
        """Commit the pending batch; return whether it has reports."""
        pending = self._pending
        if pending is None:
            return False
        try:
            with self._database.transaction() as connection:
                for report_id, body in pending.reports:
                    if not self._outbox.add(connection, report_id, body, self._clock.wall()):
                        _log.error("report_not_kept", id=report_id, outbox=len(self._outbox))
                self._chain.save(connection)
                cursors.save(connection, pending.source.name, pending.batch.cursor)
                add_to_counter(connection, _EVENTS, len(pending.batch.records))
        except sqlite3.Error:
            self._outbox.recount()
            raise
        self._chain.saved()
        self._pending = None
        self.events_total += len(pending.batch.records)
        return bool(pending.reports)

    def _tell(self, name: str, problem: str) -> None:
        """Log a problem when it changes, and its end."""
        before = self._problems.get(name, "")
        if problem and problem != before:
            _log.error("source_not_read", source=name, reason=problem)
        elif before and not problem:
            _log.info("source_read_again", source=name)
        self._problems[name] = problem
