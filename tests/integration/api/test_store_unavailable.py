"""Requests while the store cannot commit: 503 means that nothing was changed, and that nothing will be."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from manager.domain.policies.fleet_policies import GLOBAL
from manager.errors import StoreUnavailable
from tests.integration.api.served import HOST, Served
from tests.support.waiting import eventually

DOCUMENT = {"thresholds": {"autoRespond": 70}}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, reply_timeout=0.3) as served:
        with served.bench() as bench:
            bench.database.execute_sql("PRAGMA busy_timeout = 1")
        yield served


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the store's write lock, as another program would."""
    other = sqlite3.connect(path / "panguard.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def stepping(served: Served) -> Iterator[None]:
    """Let the engine step again and again, as the manager's loop does while the store is unavailable."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            served._woken.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_request_answered_503_is_not_carried_out_when_the_lock_ends(served: Served, tmp_path: Path) -> None:
    """A policy, a removal, a token, a registration and reports: refused during the lock, and never done afterwards."""
    agent = served.join("srv-01")
    with agent.client, served.client() as client, stepping(served):
        with locked(tmp_path):
            answers = [
                client.put("/api/policies/global", json=DOCUMENT),
                client.post("/api/tokens", json={}),
                client.post("/api/agents/register", json={**HOST, "hostname": "srv-02"}),
                client.delete(f"/api/agents/{agent.agent_id}", params={"purge": "true"}),
                agent.events({"events": [{"id": "e-1", "type": "x", "severity": "low", "details": {}}]}),
                agent.heartbeat(cpu=5),
            ]
            assert [answer.status_code for answer in answers] == [503] * len(answers)
            assert all("nothing was changed" in answer.json()["error"] for answer in answers)
            with served.bench() as bench:
                assert not bench.engine.step(bench.now)
                assert not bench.engine.can_commit
                assert len(bench.engine.inbox) == 0
        eventually(lambda: _available(served), what="a store that commits")
        assert client.get("/api/policies/global").json()["data"] == {}
        assert [each["hostname"] for each in client.get("/api/agents").json()["data"]] == ["srv-01"]
        with served.bench() as bench:
            assert bench.fleet.policies.document(GLOBAL) is None
            assert bench.rows("SELECT count(*) FROM enrollment_token") == [(0,)]
            assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
            assert bench.rows("SELECT count(*) FROM audit_entry WHERE action <> 'agent.register'") == [(0,)]
        assert client.put("/api/policies/global", json=DOCUMENT).status_code == 200


def test_a_change_that_waits_for_its_commit_is_said_to_wait(served: Served) -> None:
    """If the store fails only at the commit, the answer says that the change waits; later it is stored."""
    with served.client() as client, stepping(served):
        client.get("/api/agents")  # what the manager notes of its operator is written before
        with served.bench() as bench:
            bench.engine.step(bench.now)

            def full(_changes: object) -> None:
                raise StoreUnavailable("the disk is full")

            bench.store.commit = full  # type: ignore[method-assign]
        answer = client.put("/api/policies/global", json=DOCUMENT)
        assert (answer.status_code, "waits for its commit" in answer.json()["error"]) == (503, True)
        again = client.put("/api/policies/global", json={"thresholds": {"autoRespond": 80}})
        assert (again.status_code, "nothing was changed" in again.json()["error"]) == (503, True)
        with served.bench() as bench:
            del bench.store.commit
        eventually(lambda: _available(served), what="a store that commits")
        assert client.get("/api/policies/global").json()["data"]["thresholds"] == DOCUMENT["thresholds"]


def test_a_change_that_waited_is_lost_with_the_manager(served: Served, tmp_path: Path) -> None:
    """The answer promises no more than is true: a manager that ends before the commit has nothing of the change."""
    with served.client() as client, stepping(served):
        client.get("/api/agents")  # what the manager notes of its operator is written before
        with served.bench() as bench:
            bench.engine.step(bench.now)

            def full(_changes: object) -> None:
                raise StoreUnavailable("the disk is full")

            bench.store.commit = full  # type: ignore[method-assign]
        answer = client.put("/api/policies/global", json=DOCUMENT)
        assert "lost if the manager ends before" in answer.json()["error"]
    with sqlite3.connect(tmp_path / "panguard.db") as as_a_restart_finds_it:
        assert as_a_restart_finds_it.execute("SELECT count(*) FROM policy_revision").fetchone() == (0,)
    as_a_restart_finds_it.close()


def _available(served: Served) -> bool:
    with served.bench() as bench:
        return bench.engine.can_commit
