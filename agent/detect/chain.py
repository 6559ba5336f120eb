"""The detection chain: from a record to threats, through parser, detectors and verdict."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from agent.analyze.threat import DetectedThreat, brute_force_threat
from agent.detect import login_history
from agent.detect.brute_force import BruteForceDetector
from agent.detect.detector import Detector, Event
from agent.events import Record
from agent.host import local_zone
from agent.parse.sshd import parse


@dataclass(frozen=True, slots=True)
class Examined:
    """One record's result.

    Attributes:
        understood: The parser knew the record's format.
        threats: The threats that the record completed.
    """

    understood: bool
    threats: Sequence[DetectedThreat] = ()


class SshBruteForce:
    """The detector of addresses that keep failing to log in by ssh.

    Args:
        logins: Last successful logins (address to epoch seconds) of earlier runs.
    """

    def __init__(self, logins: dict[str, float]) -> None:
        self._detector = BruteForceDetector(logins=logins)

    def observe(self, event: Event) -> Sequence[DetectedThreat]:
        """Take a login; return the threat that a failed one completes."""
        detection = self._detector.observe(event)
        return () if detection is None else (brute_force_threat(detection),)


class DetectionChain:
    """Parser and detectors, with the events that detectors need again after a restart.

    Args:
        connection: The guard's database, to replay the stored events from.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._detectors: Sequence[Detector] = (SshBruteForce(login_history.load_logins(connection)),)
        self._unsaved: list[Event] = []
        for event in login_history.load_failures(connection):
            for detector in self._detectors:
                detector.observe(event)  # its threats were reported by the run that read it

    def examine(self, record: Record, now: float) -> Examined:
        """Take one record.

        Args:
            record: The record.
            now: Epoch seconds.
        """
        event = None if record.cut else parse(record.text, now, local_zone())
        if event is None:
            return Examined(understood=False)
        self._unsaved.append(event)
        return Examined(True, [threat for detector in self._detectors for threat in detector.observe(event)])

    def save(self, connection: sqlite3.Connection) -> None:
        """Store the events since the last `saved`, within the caller's transaction."""
        login_history.keep_events(connection, self._unsaved)

    def saved(self) -> None:
        """Forget the events that `save` stored, once its transaction is committed."""
        self._unsaved.clear()
