"""Incident recorder: what is recorded does not depend on the store being readable at the first try."""

from typing import Any

import pytest

from manager.errors import StoreUnavailable
from schemas import topics
from tests.support.engine import Bench

pytestmark = pytest.mark.usefixtures("each_system")


def _run(bench: Bench) -> tuple[list[Any], list[Any], list[Any]]:
    """Let two agents report one address, one hash and one technique; return incidents, members and responses."""
    agents = [bench.enroll("web-1"), bench.enroll("web-2")]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    for agent in agents:
        payload = agent.threat(bench.wall, "t-1", sourceIp="203.0.113.9", fileHash="a" * 64)
        bench.receive(topics.THREATS, agent.agent_id, payload)
        bench.pass_time(2)
    assert bench.engine.can_commit
    incidents = bench.rows("SELECT kind, value, report_count FROM incident ORDER BY kind")
    members = bench.rows(
        "SELECT incident.kind, agent.hostname, member.actionable FROM incident_member AS member "
        "JOIN incident ON incident.id = member.incident_id JOIN agent ON agent.agent_id = member.agent_id ORDER BY 1, 2"
    )
    return (
        incidents,
        members,
        bench.rows("SELECT kind, value, count(*) FROM emergency_entry GROUP BY 1, 2 ORDER BY 1, 2"),
    )


@pytest.mark.parametrize("failing_call", range(1, 4))
def test_a_store_that_cannot_be_read_in_between_loses_no_incident(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    """Each of the questions to the store may fail once; incidents, members and entries are those of a smooth run."""
    count_incidents, calls = bench.store.archive.incident_count, 0

    def failing(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise StoreUnavailable("it cannot be read")
        return count_incidents(*arguments)

    monkeypatch.setattr(bench.store.archive, "incident_count", failing)
    incidents, members, entries = _run(bench)
    assert calls > failing_call
    assert incidents == [("file_hash", "a" * 64, 2), ("source_ip", "203.0.113.9", 2), ("technique", "T1110", 2)]
    kinds = ("file_hash", "source_ip", "technique")
    assert members == [(kind, host, 1) for kind in kinds for host in ("web-1", "web-2")]
    assert sum(count for *_, count in entries) == 6
