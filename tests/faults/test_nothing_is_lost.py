"""Whatever dies, every threat is stored, once."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.processes import GuardProcess, ManagerProcess, spooled
from tests.support.waiting import eventually

ADDRESSES = [f"203.0.113.{n}" for n in range(1, 201)]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path) as manager:
        yield manager


def sources(manager: ManagerProcess) -> list[str]:
    return sorted(threat["threat"]["evidence"]["sourceIp"] for threat in manager.get("/api/threats", limit=200))


def test_two_hundred_threats_outlive_the_death_of_everything(manager: ManagerProcess) -> None:
    """Manager (and with it the embedded broker) and guard are killed while 200 threats are reported: 200 rows."""
    guard = GuardProcess(manager, "web-1")
    first_id = guard.start()
    try:
        guard.attacked_by(*ADDRESSES[:60])
        eventually(lambda: len(sources(manager)) >= 10, what="the first threats stored")
        manager.kill()
        guard.attacked_by(*ADDRESSES[60:120])
        guard.kill()
        guard.attacked_by(*ADDRESSES[120:160])
        assert guard.start(wait=False) == ""
        manager.start()
        guard.attacked_by(*ADDRESSES[160:])
        assert guard.agent_id() == first_id
        eventually(lambda: len(sources(manager)) >= 200, what="all threats stored")
        assert sources(manager) == sorted(ADDRESSES)
    finally:
        guard.stop()


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_event_times_are_right_on_a_clock_that_is_an_hour_off(
    manager: ManagerProcess, skew: int, tmp_path: Path
) -> None:
    """Threats that were spooled while the manager was down have their true time; it is off by what a message takes."""
    wrong_clock = tmp_path / "wrong_clock"
    wrong_clock.mkdir()
    (wrong_clock / "sitecustomize.py").write_text(
        f"import time\n_right = time.time\ntime.time = lambda: _right() + {skew}\n"
    )
    guard = GuardProcess(manager, "web-1", {"PYTHONPATH": f"{wrong_clock}{os.pathsep}{Path.cwd()}"}, skew)
    guard.start()
    try:
        eventually(lambda: manager.agent("web-1").get("lastHeartbeat"), what="a heartbeat")
        manager.kill()
        guard.attacked_by(*ADDRESSES[:5])
        happened = datetime.now().astimezone()
        eventually(lambda: spooled(guard) >= 5, what="threats in the outbox")
        manager.start()
        threats = eventually(lambda: manager.get("/api/threats") if len(sources(manager)) == 5 else None)
        for threat in threats:
            off = (datetime.fromisoformat(threat["eventTime"]) - happened).total_seconds()
            assert abs(off) <= 60
    finally:
        guard.stop()


def test_a_manager_killed_between_receive_and_commit_loses_nothing(manager: ManagerProcess) -> None:
    """What was received and not committed is sent again by the guard, and stored once."""
    guard = GuardProcess(manager, "web-1")
    guard.start()
    try:
        guard.attacked_by(*ADDRESSES[:10])
        eventually(lambda: len(sources(manager)) == 10, what="the first threats stored")
        with contextlib.closing(sqlite3.connect(manager.data / "panguard.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # from here on the manager receives and cannot commit
            guard.attacked_by(*ADDRESSES[10:20])
            eventually(lambda: "store_unavailable" in (manager.home / "manager.log").read_text())
            assert spooled(guard) >= 10
            manager.kill()
            other.execute("ROLLBACK")
        manager.start()
        eventually(lambda: len(sources(manager)) >= 20, what="all threats stored")
        eventually(lambda: spooled(guard) == 0, what="the outbox empty")
        assert sources(manager) == sorted(ADDRESSES[:20])
    finally:
        guard.stop()
