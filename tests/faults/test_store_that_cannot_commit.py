"""A manager whose disk is full, or whose store is held: nothing is acknowledged, lost, or stored twice."""

import contextlib
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.processes import GuardProcess, ManagerProcess, spooled
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/unit/manager/engine/test_store_unavailable.py")

QUICK = {"PANGUARD_HEARTBEAT_INTERVAL": "0.25", "PANGUARD_RATE_LIMIT": "0"}
HOST = {"hostname": "other", "os": "linux", "arch": "x64", "version": "1.4.2"}
REPORT = {"id": "t-1", "threat": {"type": "scan", "confidence": 90, "evidence": {"sourceIp": "203.0.113.90"}}}
ADDRESSES = [f"203.0.113.{number}" for number in range(20, 30)]


@contextmanager
def full_disk(manager: ManagerProcess) -> Iterator[None]:
    """No file of the manager's can grow, its log neither: what the system says then is what it says of a full disk."""
    assert manager.running is not None
    pid = manager.running.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def held_store(manager: ManagerProcess) -> Iterator[None]:
    """Another process writes, and does not end."""
    with contextlib.closing(sqlite3.connect(manager.data / "panguard.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


@pytest.mark.parametrize("trouble", [full_disk, held_store])
def test_what_cannot_be_stored_is_refused_and_comes_again(
    tmp_path: Path, trouble: Callable[[ManagerProcess], Any]
) -> None:
    """503 to whoever reports; a guard keeps its threats; reads go on; once there is room, each is stored once."""
    with ManagerProcess(tmp_path, environment=QUICK) as manager, manager.client() as admin:
        told = admin.post("/api/agents/register", json=HOST).json()
        guard = GuardProcess(manager, "web-1", QUICK, url=manager.http)
        guard.start()
        try:
            with trouble(manager):
                guard.attacked_by(*ADDRESSES)
                refused = _report(manager, told)
                assert (refused.status_code, refused.json()["ok"]) == (503, False)
                assert int(refused.headers["Retry-After"]) > 0
                eventually(lambda: admin.get("/health/ready").status_code == 503, what="not ready")
                assert admin.get("/health/live").status_code == 200
                assert admin.get("/api/threats").json()["data"] == []
                eventually(lambda: spooled(guard) == len(ADDRESSES), what="all threats kept by the guard")
            eventually(lambda: _report(manager, told).status_code == 201, what="stored after all")
            eventually(lambda: spooled(guard) == 0, what="an empty outbox")
            assert _report(manager, told).status_code == 201
            assert _sources(manager) == sorted([*ADDRESSES, "203.0.113.90"])
        finally:
            guard.stop()


def _report(manager: ManagerProcess, told: dict[str, Any]) -> httpx2.Response:
    own = {"Authorization": f"Bearer {told['token']}"}
    return httpx2.post(
        f"{manager.http}/api/agents/{told['agentId']}/events",
        json=REPORT,
        headers=own,
        timeout=60,
        trust_env=False,
        verify=False,
    )


def _sources(manager: ManagerProcess) -> list[str]:
    return sorted(threat["threat"]["evidence"]["sourceIp"] for threat in manager.get("/api/threats", limit=200))
