"""The health of a log after records were lost and after the host's clock was set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.clock import TOLD_FOR, Clock
from agent.pipeline import Pipeline
from agent.report.outbox import Outbox
from agent.sources import health
from agent.sources.file_source import FileSource
from agent.storage.database import Database

HOUR = 3600.0
DAY = 86_400.0
NOBODY = 65_534


class Host:
    """A pipeline on one file, checked every five seconds, on clocks that can be set."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "auth.log"
        self.log.touch()
        self.wall, self.monotonic = 1_790_000_000.0, 0.0
        self.database = Database.open(directory / "guard.db")
        self.outbox = Outbox(self.database, 1_000, 10_000_000)
        source = FileSource(self.log, None, interval=1.0, now=0.0, wall=lambda: self.wall)
        self.pipeline = Pipeline(
            sources=[source],
            database=self.database,
            outbox=self.outbox,
            respond=lambda _threat, _past: None,
            clock=Clock(lambda: self.wall, lambda: self.monotonic),
        )
        self.run(10)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.wall, self.monotonic = self.wall + 1, self.monotonic + 1
            self.pipeline.tick(self.monotonic)

    def fail(self, count: int, stamp: str = "Sep 21 14:13:20") -> None:
        with self.log.open("a") as log:
            for port in range(count):
                log.write(f"{stamp} h sshd[{port}]: Failed password for root from 203.0.113.7 port {port} ssh2\n")

    @property
    def state(self) -> tuple[str, str]:
        (source,) = self.pipeline.health
        return health.overall(self.pipeline.health), source.state

    @property
    def reason(self) -> str:
        return self.pipeline.health[0].reason or ""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.pipeline.close()
    made.database.close()


@pytest.mark.parametrize(
    ("step", "told"),
    [(-HOUR, "went back by 3600 s"), (2 * DAY, "went forward by 172800 s"), (-299.0, ""), (299.0, "")],
)
def test_a_clock_that_is_set_degrades_the_guard_for_five_minutes(host: Host, step: float, told: str) -> None:
    """A clock that goes an hour back or two days ahead is told within ten seconds, and is well again by itself."""
    assert host.state == ("ok", "ok")
    host.wall += step
    host.run(10)
    assert host.state == (("degraded", "clock") if told else ("ok", "ok"))
    assert told in host.reason
    host.run(int(TOLD_FOR))
    assert host.state == ("ok", "ok")


@pytest.mark.parametrize("step", [-HOUR, 2 * DAY])
def test_an_attack_is_found_after_the_clock_was_set(host: Host, step: float) -> None:
    """Failures before the step do not hide the five that come after it."""
    host.fail(4)
    host.run(2)
    host.wall += step
    host.run(2)
    host.fail(5)
    host.run(2)
    assert len(host.outbox) == 1


def test_lost_lines_degrade_the_guard_for_five_minutes(host: Host) -> None:
    """A log that is truncated with lines unread is a gap, told for five minutes, and well again by itself."""
    host.fail(3)
    host.run(2)
    host.pipeline._readings[0].source.read(0, host.monotonic)  # type: ignore[arg-type]
    host.fail(5_000)
    host.monotonic += 1
    host.pipeline.tick(host.monotonic)  # reads a part of it
    host.log.write_text("")
    host.run(10)
    assert host.state == ("degraded", "dropping")
    assert "truncated with" in host.reason
    host.run(int(TOLD_FOR))
    assert host.state == ("ok", "ok")


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Take the right to read a file away from this process."""
    mode, user = path.stat().st_mode, os.geteuid()
    path.chmod(0)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


def test_a_log_without_the_right_to_read_it_degrades_the_guard(host: Host) -> None:
    """The reason names the file and the group to join; with the right back the guard is well again by itself."""
    with unreadable(host.log):
        host.run(10)
        assert host.state == ("degraded", "unreadable")
        assert f"{host.log} cannot be read: add the guard's user to the file's group" in host.reason
    host.run(10)
    assert host.state == ("ok", "ok")
