"""The store is asked for the history of a batch's indicators together, so the waits for answers do not add up."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from peewee import OperationalError

from manager.domain.correlation import Indicator, Report
from manager.storage.absent_values import ONE_BY_ONE
from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.usefixtures("each_system")

MOST_ROUND_TRIPS = 20
"""The questions that are asked alone, those for the whole batch, and those of its commit."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def address(number: int) -> str:
    return f"198.51.{number // 250}.{number % 250 + 1}"


def restart_behind_reports(bench: Bench, addresses: int) -> SimulatedAgent:
    """Restart behind addresses with reports in the store, the odd ones with incidents, too; return another agent."""
    one, two, third = (bench.enroll(name) for name in ("web-1", "web-2", "web-3"))
    for pause in (3600, 120):
        for number in range(addresses):
            for agent in (one, two)[: 1 + number % 2]:
                bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp=address(number)))
        bench.engine.step(bench.now)
        bench.pass_time(pause, 60)
    bench.crash()
    return third


def restart_and_report_again(bench: Bench, addresses: int) -> SimulatedAgent:
    """Have a batch wait whose reports need the history of all addresses; return their agent."""
    third = restart_behind_reports(bench, addresses)
    for number in range(addresses):
        bench.put(topics.THREATS, third.agent_id, third.threat(bench.wall, sourceIp=address(number)))
    return third


def count_round_trips(bench: Bench, patch: pytest.MonkeyPatch) -> Counter[str]:
    """Count from now on the waits for an answer, by the first statement that is asked."""
    asked: Counter[str] = Counter()
    statements = bench.store.archive._statements
    inside = []

    def counted(ask: Callable[..., Any], questions: Any, *params: Any) -> Any:
        name = questions if isinstance(questions, str) else f"all of {questions[0][0]}"
        asked[name] += not inside
        inside.append(name)
        try:
            return ask(questions, *params)
        finally:
            inside.pop()

    for method in ("rows", "each", "rows_of_all"):
        patch.setattr(statements, method, partial(counted, getattr(statements, method)))
    return asked


def incidents(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows(
        "SELECT value, report_count, return_count, (SELECT count(*) FROM incident_member"
        " WHERE incident_id = incident.id) FROM incident WHERE kind = 'source_ip' AND closed_at IS NULL"
    )


@pytest.mark.parametrize("addresses", [20, 150])
def test_a_batch_of_known_addresses_asks_a_constant_number_of_times(
    bench: Bench, addresses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart, addresses with reports and incidents in the store cost no more round trips than few of them."""
    restart_and_report_again(bench, addresses)
    asked = count_round_trips(bench, monkeypatch)
    bench.engine.step(bench.now)
    assert asked["all of threats.techniques_of"] == 1
    assert max(asked.values()) <= ONE_BY_ONE
    assert sum(asked.values()) <= MOST_ROUND_TRIPS
    assert sorted(incidents(bench)) == sorted(
        (address(number), 2 + number % 2, number % 2, 2 + number % 2) for number in range(addresses)
    )
    indicator = Indicator("source_ip", address(addresses - 1), "default", None)
    (incident,) = bench.store.archive.incidents(indicator, bench.wall - 200, bench.wall)
    assert incident.report_count == 3  # and not what was read before the commit
    assert bench.failures() == {}


def test_a_store_that_fails_while_history_is_read_together_loses_no_report(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch waits, and decides as it would have when the store can be read again."""
    restart_and_report_again(bench, 20)
    with monkeypatch.context() as patch:
        patch.setattr(bench.store.archive._statements, "rows_of_all", Mock(side_effect=OperationalError("gone")))
        bench.engine.step(bench.now)
        assert not bench.engine.can_commit
    bench.pass_time(2)
    assert bench.engine.can_commit
    assert sorted(incidents(bench)) == sorted(
        (address(number), 2 + number % 2, number % 2, 2 + number % 2) for number in range(20)
    )


def test_a_report_on_which_the_rules_fail_keeps_no_other_from_its_history(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the history that a batch needs cannot be foreseen, each other report is correlated with its own."""
    third = restart_and_report_again(bench, 21)
    correlated = Report.correlated

    def fails_on_the_last(report: Report) -> tuple[Indicator, ...]:
        if report.agent_id == third.agent_id and report.source_ip == address(20):
            raise ValueError("a fault of the rules")
        return correlated(report)

    monkeypatch.setattr(Report, "correlated", fails_on_the_last)
    bench.engine.step(bench.now)
    assert len(incidents(bench)) == 20
    assert bench.fleet.counters["reports_not_correlated"] == 1
