"""The pipeline: converts the records of all sources into reports in the outbox, each record once, even after a kill."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from uuid_utils.compat import uuid7

from agent.accounts import HostAccounts
from agent.clock import TOLD_FOR, Clock, ClockSteps
from agent.detect.detection_chain import DetectionChain
from agent.detect.ssh_logins import LoggedIn
from agent.events import Verdict
from agent.host import local_zone
from agent.logs import EventLog
from agent.parse.record_parser import Witness
from agent.report.outbox import Outbox
from agent.report.threat_report import report_body
from agent.sources import cursors
from agent.sources.health import SourceHealth
from agent.sources.source import LOOK_BACK_RECORDS, Batch, Source, SourceError
from agent.storage.database import Database, add_to_counter, counter
from schemas.threats import ResponseTaken, Severity

_log = EventLog("pipeline")

_EVENTS = "events_total"
_RETRY_AFTER = 5.0
_BUDGET = 2_000
_NEVER = float("inf")

# Seconds by which the time stamp of a live record may differ from the host's clock.
_STAMP_OFF = 300.0

LOOK_BACK_SECONDS = 20.0
"""The maximum CPU time of a look back in seconds."""

Respond = Callable[[Verdict, bool], ResponseTaken | None]
"""Responds to a threat and returns the response to report; the second argument is True for a past threat."""


@dataclass(slots=True)
class _Reading:
    """One source and its reading state."""

    source: Source
    health: SourceHealth
    failed: bool = False
    suspect: bool = True  # a log that does not exist at the first check counts as missing at once
    stamps_off: bool = False
    gap: str = ""
    gap_until: float = float("-inf")
    back_records: int = 0
    back_seconds: float = 0.0


@dataclass(slots=True)
class _Pending:
    """An examined batch of records that is not committed yet."""

    reading: _Reading
    batch: Batch
    reports: list[tuple[str, bytes, Severity]] = field(default_factory=list)


class Pipeline:
    """Reads sources, detects, responds, and puts reports into the outbox.

    The results of a batch (reports, the detectors' events, the cursor, the count of events) are committed in one
    transaction. While that fails, nothing more is read, and the same batch is committed later.

    While `enabled` is False (the policy's `monitors.enabled`) records are counted and not examined.

    Args:
        sources: The logs to read; empty to read none.
        database: The guard's database.
        outbox: The queue of reports.
        respond: Responds to a threat.
        clock: The host's clocks.
        listed: Returns whether an address or prefix is on a list of attackers; None where there is no list.
        check_interval: Seconds between two checks of the sources.
        logged_in: Called with each ssh login whose record proves its writer, at a restart also with the stored ones.
        witness: Returns whether the kernel confirms that this host answered an address (see `agent.sources.trust`).
        make_room: Called with the error of a failed commit; returns whether it made room on a full disk.
    """

    def __init__(
        self,
        *,
        sources: Sequence[Source],
        database: Database,
        outbox: Outbox,
        respond: Respond,
        clock: Clock,
        listed: Callable[[str], bool] | None = None,
        check_interval: float = 5.0,
        logged_in: LoggedIn | None = None,
        witness: Witness | None = None,
        make_room: Callable[[sqlite3.Error], bool] = lambda _error: False,
    ) -> None:
        self._readings = [_Reading(source, SourceHealth(source.name)) for source in sources]
        self._database = database
        self._outbox = outbox
        self._respond = respond
        self._clock = clock
        self._chain = DetectionChain(HostAccounts(), local_zone(), witness, listed, logged_in)
        self._steps = ClockSteps(clock)
        self._chain.restore(database.connection)
        self._check_interval = check_interval
        self._make_room = make_room
        self._pending: _Pending | None = None
        self._not_before = 0.0
        self._check_due = 0.0 if sources else _NEVER
        self.enabled = True
        self.events_total = counter(database.connection, _EVENTS)

    @property
    def due(self) -> float:
        """The time of the next read, on the monotonic clock."""
        reads = min((reading.source.due for reading in self._readings), default=_NEVER)
        return max(self._not_before, min(reads, self._check_due))

    @property
    def health(self) -> list[SourceHealth]:
        """The health of each source."""
        return [reading.health for reading in self._readings]

    def tick(self, now: float) -> bool:
        """Read every source that is due; return whether there are new reports.

        Does not raise for an unreadable source or a full disk: it logs the error once and retries later.
        """
        if now < self._not_before:
            return False
        reported = False
        try:
            reported = self._commit()  # a batch that an earlier tick could not commit
            for reading in self._readings:
                if now >= reading.source.due:
                    self._read(reading, now)
                    reported = self._commit() or reported
        except sqlite3.Error as error:
            delay = 0.0 if self._make_room(error) else _RETRY_AFTER
            self._not_before = now + delay
            _log.error("batch_not_committed", reason=str(error), retry_in=delay)
        if now >= self._check_due:
            self._check(now)
        return reported

    def close(self) -> None:
        """Close all sources."""
        for reading in self._readings:
            reading.source.close()

    def _read(self, reading: _Reading, now: float) -> None:
        source, health = reading.source, reading.health
        looking_back, began = source.looking_back, self._clock.cpu()
        try:
            batch = source.read(_BUDGET, now)
        except SourceError as error:
            reading.failed = True
            self._judge(reading, error)
            return
        if reading.failed:
            reading.failed = False
            self._judge(reading, None)
        health.name = source.name
        for gap in batch.lost:
            _log.error("records_lost", source=source.name, reason=gap)
        if batch.lost and not looking_back:
            reading.gap, reading.gap_until = batch.lost[-1], now + TOLD_FOR
        if batch.records or batch.keep:
            self._pending = self._examine(reading, batch, past=looking_back)
        if looking_back or source.looking_back:
            self._look_back(reading, len(batch.records), self._clock.cpu() - began)

    def _examine(self, reading: _Reading, batch: Batch, *, past: bool) -> _Pending:
        pending, now = _Pending(reading, batch), self._clock.wall()
        understood: list[bool] = []
        for record in batch.records if self.enabled else ():
            examined = self._chain.examine(record, now)
            understood.append(examined.understood)
            if record.live and examined.stamp is not None:
                self._compare(reading, examined.stamp, now)
            for threat in examined.threats:
                report_id = str(uuid7())
                response = self._respond(threat, past)
                body = report_body(report_id, threat, response)
                pending.reports.append((report_id, body, Severity(threat.severity)))
                _log.warning(
                    "threat_detected",
                    id=report_id,
                    type=threat.type,
                    count=threat.count,
                    evidence=dict(threat.evidence),
                    action=None if response is None else response.action,
                    outcome=None if response is None else response.outcome,
                )
        reading.health.count(understood, now)
        return pending

    def _compare(self, reading: _Reading, stamp: float, now: float) -> None:
        """Log once that a source's time stamps are off, because of its clock or its time zone."""
        off = abs(stamp - now) > _STAMP_OFF
        if off and not reading.stamps_off:
            zone = datetime.fromtimestamp(now, local_zone()).tzname()
            advice = "live records count as happening now; a log that is read later is dated by its stamps"
            off_by = round(stamp - now)
            _log.warning("stamps_off", source=reading.source.name, seconds=off_by, zone=zone, advice=advice)
        reading.stamps_off = off

    def _look_back(self, reading: _Reading, records: int, seconds: float) -> None:
        """Count the records and CPU time of the look back; at its limits, end it and log its progress."""
        reading.back_records += records
        reading.back_seconds += seconds
        source = reading.source
        limited = reading.back_records >= LOOK_BACK_RECORDS or reading.back_seconds >= LOOK_BACK_SECONDS
        if source.looking_back and not limited:
            return
        complete = not source.looking_back
        if not complete:
            source.skip_to_end()
        _log.info(
            "looked_back",
            source=source.name,
            records=reading.back_records,
            cpu_seconds=round(reading.back_seconds, 1),
            complete=complete,
        )

    def _commit(self) -> bool:
        """Commit the pending batch; return whether it has reports."""
        pending = self._pending
        if pending is None:
            return False
        try:
            with self._database.transaction() as connection:
                for report_id, body, severity in pending.reports:
                    if not self._outbox.add(connection, report_id, body, self._clock.wall(), severity):
                        _log.error("report_not_kept", id=report_id, outbox=len(self._outbox))
                self._chain.save(connection)
                cursors.save(connection, pending.reading.source.name, pending.batch.cursor)
                add_to_counter(connection, _EVENTS, len(pending.batch.records))
        except sqlite3.Error:
            self._outbox.recount()
            raise
        self._chain.saved()
        self._pending = None
        self.events_total += len(pending.batch.records)
        return bool(pending.reports)

    def _check(self, now: float) -> None:
        """Ask each readable source for problems that reading does not show.

        A problem counts if two checks in a row find it, because a log may be missing during a rotation. A source is
        degraded, too, for `TOLD_FOR` after records were lost or after the host's clock stepped.
        """
        self._check_due = now + self._check_interval
        step = self._steps.recent(now)
        for reading in self._readings:
            if reading.failed:
                continue
            problem = reading.source.check(now)
            if problem is not None and not reading.suspect:
                reading.suspect = True
                continue
            reading.suspect = problem is not None
            if problem is None and now < reading.gap_until:
                problem = ("dropping", f"records were lost: {reading.gap}")
            if problem is None and step is not None:
                problem = ("clock", step)
            self._judge(reading, None if problem is None else SourceError(problem[1], problem[0]))

    def _judge(self, reading: _Reading, error: SourceError | None) -> None:
        """Update a source's health with its problem, if any, and log a change."""
        health = reading.health
        if not health.judge(None if error is None else (error.state, str(error))):
            return
        if health.state == "ok":
            _log.info("source_well_again", source=health.name)
        else:
            _log.error("source_degraded", source=health.name, state=health.state, reason=health.reason)
