"""From a log's lines to reports: each line once, whatever happens in between."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.clock import Clock
from agent.pipeline import Pipeline
from agent.report.login_reports import LoginReports
from agent.report.outbox import Outbox
from agent.sources import cursors
from agent.sources.file_source import FileSource
from agent.storage.database import Database
from schemas.threats import ResponseTaken, ThreatReport

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()


class FailingDatabase(Database):
    """Refuses to commit while its disk is full."""

    full = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with super().transaction() as connection:
            yield connection
            if self.full:
                raise sqlite3.OperationalError("database or disk is full")


class GuardedLog:
    """A pipeline, its log, and a process that may end at any time."""

    def __init__(self, directory: Path, *, vouched: bool = False) -> None:
        self._vouched = vouched
        self.log = directory / "auth.log"
        self.log.touch()
        self._path = directory / "guard.db"
        self.now = 0.0
        self.open()

    def open(self) -> None:
        self.database = FailingDatabase.open(self._path)
        self.outbox = Outbox(self.database, 1_000, 10_000_000)
        cursor = cursors.load(self.database.connection, f"file:{self.log}")
        source = FileSource(
            self.log, cursor, interval=1.0, now=self.now, wall=lambda: START, look_back=0.0, vouched=self._vouched
        )
        self.logins = LoginReports()
        self.pipeline = Pipeline(
            sources=[source],
            database=self.database,
            outbox=self.outbox,
            respond=lambda threat, _past: ResponseTaken(action="notify", target=threat.evidence["sourceIp"]),
            clock=Clock(lambda: START, lambda: self.now),
            logged_in=self.logins.add,
        )

    def kill(self) -> None:
        """End without a word; what was not committed is lost."""
        self.pipeline.close()
        self.database.close()

    def fail(self, address: str, *ports: int, second: int = 0) -> None:
        with self.log.open("a") as log:
            for port in ports:
                stamp = f"2026-03-01T12:00:{second:02}.000+00:00"
                log.write(f"{stamp} h sshd[1]: Failed password for root from {address} port {port} ssh2\n")

    def look(self) -> bool:
        self.now += 10
        return self.pipeline.tick(self.now)

    def reports(self) -> list[ThreatReport]:
        bodies = [json.loads(entry.body) for entry in self.outbox.after(0, 1_000)]
        return [
            ThreatReport.model_validate_json(json.dumps(body | {"agentId": "ag-00000000000000aa"})) for body in bodies
        ]


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[GuardedLog]:
    made = GuardedLog(tmp_path)
    yield made
    made.kill()


def test_an_attack_becomes_one_report_with_all_that_is_known(guard: GuardedLog) -> None:
    """The report has the verdict's fields, the response, and the time of the event that met the rule."""
    guard.fail("203.0.113.7", 1, 2, 3, 4, 5, second=7)
    assert guard.look()
    (report,) = guard.reports()
    assert report.threat.evidence == {
        "sourceIp": "203.0.113.7",
        "targetService": "sshd",
        "user": "root",
        "userExists": True,
    }
    assert (report.threat.technique, report.threat.rule_id) == ("T1110", "sshd-brute-force")
    assert report.response == ResponseTaken(action="notify", target="203.0.113.7")
    assert report.timestamp.timestamp() == START + 7
    assert report.id[14] == "7"


def test_a_full_disk_loses_and_doubles_nothing(guard: GuardedLog) -> None:
    """While nothing can be committed nothing more is read; afterwards each line counts once."""
    guard.fail("203.0.113.7", 1, 2, 3)
    guard.database.full = True
    assert not guard.look()
    guard.fail("203.0.113.7", 4, 5)
    assert not guard.look()
    assert guard.pipeline.events_total == 0
    guard.database.full = False
    assert guard.look()
    assert [report.threat.count for report in guard.reports()] == [5]
    assert guard.pipeline.events_total == 5


def test_a_report_that_was_not_committed_takes_no_room_in_the_outbox(guard: GuardedLog) -> None:
    """After each failed commit the outbox counts stored reports alone, so that a full disk does not fill it."""
    guard.fail("203.0.113.7", 1, 2, 3, 4, 5)
    guard.database.full = True
    for _ in range(3):
        guard.look()
        assert len(guard.outbox) == 0
    guard.database.full = False
    guard.look()
    assert len(guard.outbox) == len(guard.reports()) == 1


@pytest.mark.parametrize("cut", range(6))
def test_a_kill_between_any_two_lines_changes_nothing(guard: GuardedLog, cut: int) -> None:
    """An attack that spans the end of one process and the start of the next is reported once, with its whole count."""
    guard.fail("203.0.113.7", *range(1, cut + 1))
    guard.look()
    guard.kill()
    guard.fail("203.0.113.7", *range(cut + 1, 7))
    guard.open()
    guard.look()
    assert [report.threat.first_seen is not None for report in guard.reports()] == [True]
    assert guard.pipeline.events_total == 6


def test_a_batch_that_was_not_committed_is_read_again_after_a_kill(guard: GuardedLog) -> None:
    """What a process read and could not commit is new for the next one."""
    guard.fail("203.0.113.7", 1, 2, 3, 4, 5)
    guard.database.full = True
    guard.look()
    guard.kill()
    guard.open()
    guard.look()
    assert len(guard.reports()) == 1


def test_a_friend_is_known_after_a_restart(guard: GuardedLog) -> None:
    """A successful login is remembered, and stands in the evidence of a later attack from there."""
    with guard.log.open("a") as log:
        log.write("2026-03-01T12:00:00.000+00:00 h sshd[1]: Accepted password for ann from 203.0.113.7 port 9 ssh2\n")
    guard.look()
    guard.kill()
    guard.open()
    guard.fail("203.0.113.7", 1, 2, 3, 4, 5, second=9)
    guard.look()
    assert guard.reports()[0].threat.evidence["lastLogin"] == "2026-03-01T12:00:00.000Z"


def test_a_log_that_cannot_be_read_is_tried_again(guard: GuardedLog) -> None:
    """A log replaced by something that is no file is an error in the guard's log, not its end."""
    guard.log.unlink()
    os.mkfifo(guard.log)
    assert not guard.look()
    guard.log.unlink()
    guard.fail("203.0.113.7", 1, 2, 3, 4, 5)
    assert guard.look()


def test_a_monitor_that_is_switched_off_counts_and_examines_nothing(guard: GuardedLog) -> None:
    """While the policy disables the log monitor its lines lead to nothing, then and later."""
    guard.pipeline.enabled = False
    guard.fail("203.0.113.7", 1, 2, 3, 4, 5)
    assert not guard.look()
    guard.pipeline.enabled = True
    guard.fail("203.0.113.7", 6)
    guard.look()
    assert guard.reports() == []
    assert guard.pipeline.events_total == 6


def test_a_restart_tells_the_stored_logins_again(tmp_path: Path) -> None:
    """A kill loses the queue of logins, and the stored events fill it again with the time of each."""
    guarded = GuardedLog(tmp_path, vouched=True)
    with guarded.log.open("a") as log:
        log.write("2026-03-01T12:00:00.000+00:00 h sshd[1]: Accepted publickey for bob from 203.0.113.7 port 1 ssh2\n")
    guarded.look()
    before = guarded.logins.take()
    guarded.kill()
    guarded.open()
    assert [(each.user, each.at.timestamp()) for each in before] == [("bob", START)]
    assert guarded.logins.take() == before
    guarded.kill()
