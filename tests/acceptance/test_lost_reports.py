"""A store that lost its newest reports, with real managers and guards: the reports come back.

A SQLite file is restored from an older copy under one manager; a PostgreSQL server fails over under one and under two.
"""

import sqlite3
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import pytest

from agent.status import inspect_guard
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import GuardProcess, ManagerProcess, spooled
from tests.support.several_managers import DatabaseManagers, leads
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/unit/manager/engine/policies/test_lost_reports.py")

QUICK = {"PANGUARD_HEARTBEAT_INTERVAL": "0.5", "PANGUARD_RATE_LIMIT": "0", "PANGUARD_RECONNECT_CAP": "2"}


def _stored(manager: ManagerProcess) -> Counter[tuple[str, str]]:
    """Return how often each address was stored for each host."""
    threats = manager.get("/api/threats", limit=200)
    return Counter((threat["hostname"], threat["threat"]["evidence"]["sourceIp"]) for threat in threats)


def _back_up(manager: ManagerProcess, copy: Path) -> None:
    """Copy the store while the manager runs."""
    with (
        closing(sqlite3.connect(manager.data / "panguard.db")) as store,
        closing(sqlite3.connect(copy)) as destination,
    ):
        store.backup(destination)


def _restore(manager: ManagerProcess, copy: Path) -> None:
    """Put the copy in the place of the store, as docs/store.md says."""
    store = manager.data / "panguard.db"
    for suffix in ("-wal", "-shm"):
        store.with_name(store.name + suffix).unlink(missing_ok=True)
    store.write_bytes(copy.read_bytes())


def test_reports_come_back_after_a_restore(tmp_path: Path) -> None:
    """All reports that guards had receipts for are stored once again, with guards that were away or are new to it.

    One guard is at the broker, one at the HTTP door, one is not there at the restore, and one registered after the
    copy.
    """
    with ExitStack() as stack:
        manager = stack.enter_context(ManagerProcess(tmp_path, environment=QUICK))

        def guard_of(hostname: str, url: str | None = None) -> GuardProcess:
            guard = GuardProcess(manager, hostname, QUICK, url=url)
            guard.start()
            stack.callback(guard.stop)
            return guard

        guards = [guard_of("at-broker"), guard_of("at-http", manager.http), guard_of("away")]
        for number, guard in enumerate(guards):
            guard.attacked_by(f"203.0.113.{number + 1}")
        eventually(lambda: len(_stored(manager)) == 3, what="the reports before the copy")
        _back_up(manager, tmp_path / "copy.db")
        guards.append(guard_of("new"))
        for number, guard in enumerate(guards):
            guard.attacked_by(*(f"198.51.100.{10 * number + place}" for place in range(1, 6)))
        eventually(lambda: len(_stored(manager)) == 23, what="the reports after the copy")
        eventually(lambda: not any(map(spooled, guards)), what="their receipts")
        before = _stored(manager)
        guards[2].stop()
        manager.kill()
        _restore(manager, tmp_path / "copy.db")
        manager.start()
        present = {guard.hostname for guard in guards} - {"away"}
        expected = Counter({key: count for key, count in before.items() if key[0] in present or "203.0" in key[1]})
        eventually(lambda: _stored(manager) == expected, 120, "the reports of the guards that are there")
        guards[2].start()
        eventually(lambda: _stored(manager) == before, 120, "those of the guard that was away")
        eventually(lambda: not any(inspect_guard(guard.data)["resending"] for guard in guards), what="all receipts")
        assert set(before.values()) == {1}
        actions = [entry["action"] for entry in manager.get("/api/audit", limit=200)]
        assert actions.count("store.lost_reports") == 1
        assert any("lost reports" in sentence for sentence in manager.get("/api/overview")["warnings"])


@pytest.mark.postgresql
@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.mosquitto)])
def test_reports_come_back_after_a_fail_over_that_lost_commits(tmp_path: Path, number: int) -> None:
    """A PostgreSQL server that is promoted without the newest commits: who leads asks, and the reports are stored.

    Every leadership ends with the old server's history. Of two managers either may lead then.
    """
    with ExitStack() as stack:
        cluster = stack.enter_context(Postgresql())
        url = cluster.create_empty().url
        database = url.rsplit("/", 1)[1]
        managers = DatabaseManagers(tmp_path, url, stack.enter_context(Mosquitto()).url if number > 1 else "embedded")
        stack.callback(managers.stop)
        for _ in range(number):
            managers.add(**QUICK).start()
            leads(managers.all[0])
        asked = managers.all[-1]
        eventually(lambda: asked.not_ready() is None, what="it is ready, or another leads")
        guard = GuardProcess(asked, "web", QUICK)
        guard.start()
        stack.callback(guard.stop)
        guard.attacked_by("203.0.113.1")
        eventually(lambda: len(_stored(asked)) == 1, what="the report before the copy")
        copy = cluster.back_up()
        guard.attacked_by(*(f"198.51.100.{place}" for place in range(1, 6)))
        eventually(lambda: len(_stored(asked)) == 6, what="the reports after the copy")
        eventually(lambda: not spooled(guard), what="their receipts")
        before = _stored(asked)
        cluster.fail_over(copy)
        assert cluster.execute("SELECT count(*) FROM threat", database) == [(1,)]
        for manager in managers.all:
            eventually(lambda manager=manager: _has(manager, before), 120, "the lost reports")
        actions = [entry["action"] for entry in asked.get("/api/audit", limit=200)]
        assert actions.count("store.lost_reports") == 1


def _has(manager: ManagerProcess, stored: Counter[tuple[str, str]]) -> bool:
    """Return whether a manager is ready and shows these reports; nobody may lead just now."""
    try:
        return manager.not_ready() is None and _stored(manager) == stored
    except httpx2.HTTPError:
        return False
