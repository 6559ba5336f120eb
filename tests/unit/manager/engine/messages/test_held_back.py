"""Held-back reports: fleet event, line of history, and the record in the overview."""

import pytest

from manager.engine.commands.requests import RemoveAgent
from manager.engine.messages import held_back
from schemas import topics
from schemas.fleet import FleetEvent
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent


@pytest.fixture
def heard(bench: Bench) -> list[FleetEvent]:
    """The fleet events of held-back reports."""
    events: list[FleetEvent] = []
    about = (held_back.BEGUN, held_back.OVER)
    bench.engine.listeners.append(lambda row: events.append(row.event) if row.event.event in about else None)
    return events


def live(bench: Bench, agent: SimulatedAgent, minutes: int, waiting: int, report: bytes | None = None) -> None:
    """Let an agent send its heartbeats, and a report half a minute before each second one, for some time."""
    for _ in range(minutes):
        for _ in range(2):
            bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, outbox_size=waiting))
            bench.pass_time(30)
        if report is not None:
            bench.receive(topics.THREATS, agent.agent_id, report)


def test_withheld_reports_are_told_once_and_so_is_their_end(bench: Bench, heard: list[FleetEvent]) -> None:
    """After 90 s with waiting reports and none received there is one event, and another when the outbox is empty."""
    agent = bench.enroll("web-1")
    live(bench, agent, 1, waiting=2)
    assert (heard, held_back.records(bench.fleet)) == ([], [])
    live(bench, agent, 5, waiting=3)
    assert [(event.event, event.hostname, event.data["waiting"]) for event in heard] == [
        ("reports_held_back", "web-1", 3)
    ]
    (record,) = held_back.records(bench.fleet)
    assert (record["agentId"], record["hostname"], record["waiting"]) == (agent.agent_id, "web-1", 3)
    live(bench, agent, 1, waiting=0)
    assert [event.event for event in heard] == ["reports_held_back", "reports_arrive_again"]
    assert held_back.records(bench.fleet) == []
    history = bench.rows("SELECT event FROM agent_history WHERE event LIKE 'reports%' ORDER BY at")
    assert history == [("reports_held_back",), ("reports_arrive_again",)]


def test_withheld_receipts_are_told_too(bench: Bench, heard: list[FleetEvent]) -> None:
    """A repeated report does not count as progress, because its receipt did not arrive."""
    agent = bench.enroll("web-1")
    live(bench, agent, 5, waiting=1, report=agent.threat(bench.wall))
    assert [event.event for event in heard] == ["reports_held_back"]


def test_a_guard_that_always_has_something_to_report_is_not_held_back(bench: Bench, heard: list[FleetEvent]) -> None:
    """An outbox that is never empty is not held back while new reports are stored."""
    agent = bench.enroll("web-1")
    for _ in range(5):
        live(bench, agent, 1, waiting=5, report=agent.threat(bench.wall))
    assert heard == []


def test_a_stale_agent_and_a_removed_one_are_not_held_back(bench: Bench, heard: list[FleetEvent]) -> None:
    """A stale agent and a removed agent are not listed as held back."""
    silent, removed = bench.enroll("web-1"), bench.enroll("web-2")
    live(bench, silent, 1, waiting=2)
    live(bench, removed, 3, waiting=2)
    assert [event.hostname for event in heard] == ["web-2"]
    bench.ask(RemoveAgent(removed.agent_id, "test"))
    bench.pass_time(60)
    assert held_back.records(bench.fleet) == []


def test_a_guard_that_never_had_a_policy_is_sent_it_again(bench: Bench) -> None:
    """A heartbeat with version 0 means that no policy arrived, whatever the broker confirmed."""
    agent = bench.enroll("web-1")
    bench.pass_time(11)
    topic = topics.POLICY.address(agent.agent_id)
    assert len(bench.publisher.take(topic)) == 1
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, policy_version=0))
    bench.pass_time(1)
    assert len(bench.publisher.take(topic)) == 1
