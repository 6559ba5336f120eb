"""Values that are looked up together lead to the decisions of values that are looked up one by one."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.storage import absent_values
from schemas import topics
from tests.support.engine import Bench
from tests.support.examples import examples
from tests.support.migrated_store import forgo_durability

AGENTS = 3
NEVER = 10**9

_addresses = st.integers(1, 6).map(lambda number: f"203.0.113.{number}")
_hashes = st.sampled_from([None, "a" * 64, "b" * 64])
_delays = st.sampled_from([0.0, 0.0, 100.0, 299.0, 301.0, 2000.0])
_reports = st.lists(st.tuples(st.integers(0, AGENTS - 1), _addresses, _hashes, _delays), max_size=8)


def _incidents(
    one_by_one: int, before: list[Any], pause: float, step: float, batch: list[Any]
) -> list[tuple[Any, ...]]:
    """Return the incidents after some reports, a restart and one batch of others."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(absent_values, "ONE_BY_ONE", one_by_one)
        bench = Bench(Path(directory))
        forgo_durability(bench.database)
        token = bench.token()
        agents = [bench.enroll(f"host-{number}", token) for number in range(AGENTS)]
        for reports in (before, batch):
            for number, (agent, address, file_hash, delay) in enumerate(reports):
                evidence: dict[str, Any] = {"sourceIp": address} | ({"fileHash": file_hash} if file_hash else {})
                payload = agents[agent].threat(bench.wall - delay, f"r-{reports is batch}-{number}", **evidence)
                bench.put(topics.THREATS, agents[agent].agent_id, payload)
                if reports is before:
                    bench.pass_time(pause)
            bench.engine.step(bench.now)
            if reports is before:
                bench.began += step
                bench.engine.step(bench.now)
                bench.crash()
                forgo_durability(bench.database)
        bench.pass_time(1.0)
        rows = bench.database.execute_sql(
            "SELECT kind, value, first_seen_at, last_seen_at, late, report_count, return_count, closed_at,"
            " (SELECT group_concat(hostname || actionable) FROM (SELECT hostname, actionable FROM incident_member"
            " JOIN agent USING (agent_id) WHERE incident_id = incident.id ORDER BY hostname))"
            " FROM incident ORDER BY kind, value, first_seen_at, report_count"
        ).fetchall()
        assert bench.failures() == {}
        bench.database.close()
        return [tuple(row) for row in rows]


@settings(max_examples=examples(60), deadline=None)
@given(
    before=_reports,
    pause=st.sampled_from([0.0, 1.0, 150.0]),
    step=st.sampled_from([0.0, 0.0, -700.0, 350.0]),
    batch=_reports,
)
def test_a_look_up_for_the_batch_decides_like_one_for_each_value(
    before: list[Any], pause: float, step: float, batch: list[Any]
) -> None:
    """After a restart, incidents, members and counts are the same whether values are looked up together or not."""
    together = _incidents(0, before, pause, step, batch)
    assert together == _incidents(NEVER, before, pause, step, batch)
