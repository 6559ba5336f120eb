"""The detection chain: passes records through parser, detectors and analysis, and returns verdicts."""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import NamedTuple, Protocol

from agent.analyze.analyzer import Analyzer
from agent.analyze.known_login_sources import Accounts
from agent.detect import event_store
from agent.detect.login_detector import LoginDetector
from agent.detect.ssh_logins import LoggedIn
from agent.events import Event, Finding, Record, Verdict
from agent.parse.record_parser import NOTHING_FOUND, RecordParser, Witness


class Detector(Protocol):
    """A rule, or a family of rules, over the events of one host; without I/O or clock, with bounded state.

    State survives a restart by replay: the detection chain stores the events and passes them to `observe`
    again at the next start. The findings of a replay are dropped, because they were reported before.
    """

    def observe(self, event: Event) -> Sequence[Finding]:
        """Process one event; return the findings of the rules that it meets."""
        ...

    def finish(self) -> Sequence[Finding]:
        """Handle the end of all events; return the findings of connections that are still open."""
        ...


class DetectionResult(NamedTuple):
    """The result of one record.

    Attributes:
        understood: The parser knew the record's format.
        threats: The verdicts that the record completed.
        stamp: See `agent.parse.record_parser.ParsedRecord`.
    """

    understood: bool
    threats: Sequence[Verdict] = ()
    stamp: float | None = None


_NOTHING_FOUND = DetectionResult(understood=True)


class DetectionChain:
    """Runs parsers, detectors and analysis, and stores the events that detectors need again after a restart.

    Args:
        accounts: The accounts of the host.
        zone: The time zone of time stamps without one.
        witness: See `agent.parse.record_parser.RecordParser`.
        listed: Returns whether an address or prefix is on a list of attackers; None where there is no list.
        logged_in: Called with each ssh login from a proven event, at a restart also with the stored ones.
    """

    def __init__(
        self,
        accounts: Accounts,
        zone: tzinfo,
        witness: Witness | None = None,
        listed: Callable[[str], bool] | None = None,
        logged_in: LoggedIn | None = None,
    ) -> None:
        self._witness = witness
        self._zone = zone
        self._readers: dict[str, RecordParser] = {}
        self._detectors: Sequence[Detector] = (LoginDetector(accounts, logged_in),)
        self._analyzer = Analyzer() if listed is None else Analyzer(listed)
        self._unsaved: list[Event] = []

    def restore(self, connection: sqlite3.Connection) -> None:
        """Replay the events that `save` stored; their verdicts are dropped, because an earlier run reported them."""
        for event in event_store.load(connection):
            self._judge(event)

    def examine(self, record: Record, now: float) -> DetectionResult:
        """Examine one record.

        Args:
            record: The record.
            now: Epoch seconds.
        """
        reader = self._readers.get(record.origin.source)
        if reader is None:
            reader = self._readers[record.origin.source] = RecordParser(self._zone, self._witness)
        read = reader.read(record, now)
        if read is NOTHING_FOUND:
            return _NOTHING_FOUND
        if read.event is None:
            return DetectionResult(read.understood, stamp=read.stamp)
        self._unsaved.append(read.event)
        return DetectionResult(True, self._judge(read.event), read.stamp)

    def finish(self) -> list[Verdict]:
        """Return the verdicts at the end of a log: connections that are still open count as ended without a login."""
        return [self._analyzer.verdict(finding) for detector in self._detectors for finding in detector.finish()]

    def save(self, connection: sqlite3.Connection) -> None:
        """Store the events since the last `saved`, within the caller's transaction."""
        event_store.save(connection, self._unsaved)

    def saved(self) -> None:
        """Drop the unsaved events after the transaction of `save` is committed."""
        self._unsaved.clear()

    def _judge(self, event: Event) -> list[Verdict]:
        return [self._analyzer.verdict(finding) for detector in self._detectors for finding in detector.observe(event)]
