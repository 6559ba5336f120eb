"""A store without free space, as SQLite reports it."""

from pathlib import Path

from structlog.testing import capture_logs

from schemas import topics
from tests.support.engine import Bench


def test_a_full_store_logs_the_reason_and_acknowledges_nothing(tmp_path: Path) -> None:
    """The log has SQLite's reason; the report is not acknowledged, and is stored once when there is space again."""
    bench = Bench(tmp_path)
    agent = bench.enroll("srv-01")
    (pages,) = bench.database.execute_sql("PRAGMA page_count").fetchone()
    bench.database.execute_sql(f"PRAGMA max_page_count = {pages}")
    report = agent.threat(bench.wall, "t-1", note="x" * 200_000)
    with capture_logs() as logs:
        handle = bench.receive(topics.THREATS, agent.agent_id, report)
        bench.pass_time(3)
    reasons = [entry["reason"] for entry in logs if entry["event"] == "store_unavailable"]
    assert reasons == ["the store cannot commit: database or disk is full"]
    assert handle not in bench.acknowledged
    bench.database.execute_sql("PRAGMA max_page_count = 1000000")
    bench.pass_time(10)
    assert handle in bench.acknowledged
    assert bench.rows("SELECT threat_id FROM threat") == [("t-1",)]
    bench.database.close()
