"""The engine's promises on commits: kept after a crash, nothing acknowledged while the store is unavailable."""

import json

from schemas import message_codes, topics
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


def test_features_are_announced_with_the_keys_at_once_and_after_each_connection(bench: Bench) -> None:
    """A feature that one manager lacks is announced no more, and one that all have again is; both are signed."""
    topic = topics.MANAGER_KEYS.address()

    def announced() -> list[list[str]]:
        payloads = bench.publisher.take(topic)
        public = bench.keyring.sign_key.public_key()
        below = topics.MANAGER_KEYS.below_root()
        assert all(message_codes.has_signature(public, below, payload) for payload in payloads)
        return [json.loads(payload)["accepts"] for payload in payloads]

    assert announced() == [["threats.batch"]]
    bench.engine.use_features((), bench.now)
    assert announced() == [[]]
    bench.publisher.ready = False
    bench.engine.use_features(("threats.batch",), bench.now)
    assert announced() == []
    bench.publisher.ready = True
    bench.engine.connected(bench.now, fresh=False)
    assert announced() == [["threats.batch"]]
