"""The engine's promises on commits: kept after a crash, nothing acknowledged while the store is unavailable."""

from schemas import topics
from tests.support.engine import Bench


def test_what_is_committed_outlives_a_crash_and_what_is_not_is_not_acknowledged(bench: Bench) -> None:
    """Agents, states, policies and reports survive a crash; unprocessed messages have no acknowledgement."""
    agent = bench.enroll("web-1")
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1"))
    waiting = bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-2"))
    bench.crash()
    assert waiting not in bench.acknowledged
    assert bench.rows("SELECT threat_id FROM threat") == [("t-1",)]
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-3"))
    assert bench.state(agent) == "online"


def test_a_store_that_cannot_commit_acknowledges_nothing_and_loses_nothing(bench: Bench) -> None:
    """While the store is locked no agent ages and nothing is acknowledged; afterwards everything is stored once."""
    agent = bench.enroll("web-1")
    bench.database.execute_sql("PRAGMA busy_timeout = 1")
    import sqlite3  # noqa: PLC0415 -- the other side of the lock

    other = sqlite3.connect(bench.directory / "panguard.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    handle = bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1"))
    bench.pass_time(300, step=5)
    assert not bench.engine.can_commit
    assert handle not in bench.acknowledged
    assert bench.receipts(agent)["stored"] == []
    other.execute("ROLLBACK")
    other.close()
    bench.pass_time(60, step=5)
    assert bench.state(agent) == "online"
    assert handle in bench.acknowledged
    assert bench.receipts(agent)["stored"] == ["t-1"]
    assert bench.rows("SELECT count(*) FROM threat") == [(1,)]
