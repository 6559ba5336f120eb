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
from agent.report.outbox import Outbox
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


class Desk:
    """A watch, its log, and a process that may end at any time."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "auth.log"
        self.log.touch()
        self._path = directory / "guard.db"
        self.now = 0.0
        self.open()

    def open(self) -> None:
        self.database = FailingDatabase.open(self._path)
        self.outbox = Outbox(self.database, 1_000, 10_000_000)
        self.watch = Pipeline(
            path=self.log,
            database=self.database,
            outbox=self.outbox,
            respond=lambda threat: ResponseTaken(action="notify", target=threat.evidence["sourceIp"]),
            clock=Clock(lambda: START, lambda: self.now),
            interval=1.0,
        )

    def kill(self) -> None:
        """End without a word; what was not committed is lost."""
        self.watch.close()
        self.database.close()

    def fail(self, address: str, *ports: int, second: int = 0) -> None:
        with self.log.open("a") as log:
            for port in ports:
                stamp = f"2026-03-01T12:00:{second:02}.000+00:00"
                log.write(f"{stamp} h sshd[1]: Failed password for root from {address} port {port} ssh2\n")

    def look(self) -> bool:
        self.now += 10
        return self.watch.tick(self.now)

    def reports(self) -> list[ThreatReport]:
        bodies = [json.loads(entry.body) for entry in self.outbox.after(0, 1_000)]
        return [
            ThreatReport.model_validate_json(json.dumps(body | {"agentId": "ag-00000000000000aa"})) for body in bodies
        ]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.kill()


def test_an_attack_becomes_one_report_with_all_that_is_known(desk: Desk) -> None:
    """The report has the verdict's fields, the response, and the time of the event that met the rule."""
    desk.fail("203.0.113.7", 1, 2, 3, 4, 5, second=7)
    assert desk.look()
    (report,) = desk.reports()
    assert report.threat.evidence == {"sourceIp": "203.0.113.7", "targetService": "sshd", "user": "root"}
    assert (report.threat.technique, report.threat.rule_id) == ("T1110", "sshd-brute-force")
    assert report.response == ResponseTaken(action="notify", target="203.0.113.7")
    assert report.timestamp.timestamp() == START + 7
    assert report.id[14] == "7"


def test_a_full_disk_loses_and_doubles_nothing(desk: Desk) -> None:
    """While nothing can be committed nothing more is read; afterwards each line counts once."""
    desk.fail("203.0.113.7", 1, 2, 3)
    desk.database.full = True
    assert not desk.look()
    desk.fail("203.0.113.7", 4, 5)
    assert not desk.look()
    assert desk.watch.events_total == 0
    desk.database.full = False
    desk.look()
    assert desk.look()
    assert [report.threat.count for report in desk.reports()] == [5]
    assert desk.watch.events_total == 5


@pytest.mark.parametrize("cut", range(6))
def test_a_kill_between_any_two_lines_changes_nothing(desk: Desk, cut: int) -> None:
    """An attack that spans the end of one process and the start of the next is reported once, with its whole count."""
    desk.fail("203.0.113.7", *range(1, cut + 1))
    desk.look()
    desk.kill()
    desk.fail("203.0.113.7", *range(cut + 1, 7))
    desk.open()
    desk.look()
    assert [report.threat.first_seen is not None for report in desk.reports()] == [True]
    assert desk.watch.events_total == 6


def test_a_batch_that_was_not_committed_is_read_again_after_a_kill(desk: Desk) -> None:
    """What a process read and could not commit is new for the next one."""
    desk.fail("203.0.113.7", 1, 2, 3, 4, 5)
    desk.database.full = True
    desk.look()
    desk.kill()
    desk.open()
    desk.look()
    assert len(desk.reports()) == 1


def test_a_friend_is_known_after_a_restart(desk: Desk) -> None:
    """A successful login is remembered, and stands in the evidence of a later attack from there."""
    with desk.log.open("a") as log:
        log.write("2026-03-01T12:00:00.000+00:00 h sshd[1]: Accepted password for ann from 203.0.113.7 port 9 ssh2\n")
    desk.look()
    desk.kill()
    desk.open()
    desk.fail("203.0.113.7", 1, 2, 3, 4, 5, second=9)
    desk.look()
    assert desk.reports()[0].threat.evidence["lastLogin"] == "2026-03-01T12:00:00.000Z"


def test_quiet_addresses_are_forgotten(desk: Desk) -> None:
    """The journal keeps an address only while its failures could still count."""
    desk.fail("203.0.113.7", 1, second=0)
    desk.look()
    with desk.log.open("a") as log:
        log.write("2026-03-01T12:10:01.000+00:00 h sshd[1]: Failed password for a from 198.51.100.1 port 9 ssh2\n")
    desk.look()
    rows = desk.database.connection.execute("SELECT address FROM failed_logins").fetchall()
    assert rows == [("198.51.100.1",)]


def test_a_log_that_cannot_be_read_is_tried_again(desk: Desk) -> None:
    """A log replaced by something that is no file is an error in the guard's log, not its end."""
    desk.log.unlink()
    os.mkfifo(desk.log)
    assert not desk.look()
    desk.log.unlink()
    desk.fail("203.0.113.7", 1, 2, 3, 4, 5)
    assert desk.look()


def test_a_monitor_that_is_switched_off_counts_and_examines_nothing(desk: Desk) -> None:
    """While the policy disables the log monitor its lines lead to nothing, then and later."""
    desk.watch.enabled = False
    desk.fail("203.0.113.7", 1, 2, 3, 4, 5)
    assert not desk.look()
    desk.watch.enabled = True
    desk.fail("203.0.113.7", 6)
    desk.look()
    assert desk.reports() == []
    assert desk.watch.events_total == 6
