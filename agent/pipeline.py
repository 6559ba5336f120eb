"""Watches one log: from new lines to reports in the outbox, each line counted once whatever happens in between."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from uuid_utils.compat import uuid7

from agent.analyze.threat import DetectedThreat, brute_force_threat
from agent.clock import Clock
from agent.detect import login_history as journal
from agent.detect.brute_force import BruteForceDetector
from agent.host import local_zone
from agent.logs import EventLog
from agent.parse.sshd import FailedLogin, SuccessfulLogin, parse
from agent.report.outbox import Outbox
from agent.report.threat_report import report_body
from agent.sources.tail import Line, SourceError, Tail
from agent.storage.database import Database, add_to_counter, counter
from schemas.threats import ResponseTaken

_log = EventLog("watch")

_EVENTS = "events_total"
_AFTER_AN_ERROR = 5.0
_MANY = 50

Respond = Callable[[DetectedThreat], ResponseTaken | None]


@dataclass(slots=True)
class _Batch:
    """What was read and is not committed yet."""

    lines: int
    events: list[FailedLogin | SuccessfulLogin] = field(default_factory=list)
    reports: list[tuple[str, bytes]] = field(default_factory=list)


class Pipeline:
    """Follows one log file, or none.

    What a batch of lines leads to (reports, the detector's memory, the position, the count of events) is committed in
    one transaction. If that fails nothing more is read, and the same batch is committed later.

    While `enabled` is False (the policy's `monitors.enabled`) lines are counted and not examined.

    Args:
        path: The log; None to watch nothing.
        database: The guard's database.
        outbox: Where reports go.
        respond: Acts on a threat, and tells what it did.
        clock: The host's clocks.
        interval: Seconds between two looks.

    Raises:
        SourceError: the log cannot be followed.
    """

    def __init__(
        self,
        *,
        path: Path | None,
        database: Database,
        outbox: Outbox,
        respond: Respond,
        clock: Clock,
        interval: float,
    ) -> None:
        self._path = path
        self._database = database
        self._outbox = outbox
        self._respond = respond
        self._clock = clock
        self._interval = interval
        self._pending: _Batch | None = None
        self._complaint = ""
        self.enabled = True
        self.due = clock.monotonic() if path else float("inf")
        self.events_total = counter(database.connection, _EVENTS)
        self._detector = BruteForceDetector(logins=journal.load_logins(database.connection))
        for event in journal.load_failures(database.connection):
            self._detector.observe(event)  # what it detected then was reported then
        self._tail = None if path is None else self._open(path)

    def _open(self, path: Path) -> Tail:
        tail = Tail(path, journal.load_position(self._database.connection, str(path)))
        with self._database.transaction() as connection:
            journal.keep_position(connection, str(path), tail.position)
        return tail

    def tick(self, now: float) -> bool:
        """Look for new lines if it is time; return whether there are new reports.

        Never raises for a log that cannot be read or a disk that is full: it says so once, and tries again.
        """
        if self._tail is None or now < self.due:
            return False
        self.due = now + self._interval
        try:
            if self._pending is None:
                lines = self._tail.read()
                if not lines:
                    return False
                self._pending = self._examine(lines)
            self._commit(self._pending, self._tail)
        except (SourceError, sqlite3.Error) as error:
            self.due = now + _AFTER_AN_ERROR
            self._complain(str(error))
            return False
        self._complain("")
        batch, self._pending = self._pending, None
        if batch.lines >= _MANY:
            self.due = now  # there may be more
        return bool(batch.reports)

    def close(self) -> None:
        """Let the log go."""
        if self._tail is not None:
            self._tail.close()

    def _examine(self, lines: list[Line]) -> _Batch:
        batch, now, zone = _Batch(len(lines)), self._clock.wall(), local_zone()
        for line in lines:
            event = None if line.cut or not self.enabled else parse(line.text, now, zone)
            if event is None:
                continue
            batch.events.append(event)
            detection = self._detector.observe(event)
            if detection is not None:
                threat = brute_force_threat(detection)
                report_id = str(uuid7())
                batch.reports.append((report_id, report_body(report_id, threat, self._respond(threat))))
                _log.warning(
                    "threat_detected",
                    id=report_id,
                    type=threat.type,
                    count=threat.count,
                    evidence=dict(threat.evidence),
                )
        return batch

    def _commit(self, batch: _Batch, tail: Tail) -> None:
        try:
            with self._database.transaction() as connection:
                for report_id, body in batch.reports:
                    if not self._outbox.add(connection, report_id, body, self._clock.wall()):
                        _log.error("report_not_kept", id=report_id, outbox=len(self._outbox))
                journal.keep_events(connection, batch.events)
                journal.keep_position(connection, str(self._path), tail.position)
                add_to_counter(connection, _EVENTS, batch.lines)
        except sqlite3.Error:
            self._outbox.recount()
            raise
        self.events_total += batch.lines

    def _complain(self, complaint: str) -> None:
        """Log a complaint when it changes, not at every look."""
        if complaint and complaint != self._complaint:
            _log.error("log_not_followed", path=str(self._path), reason=complaint)
        elif self._complaint and not complaint:
            _log.info("log_followed_again", path=str(self._path))
        self._complaint = complaint
