"""The health of sources: states, counters, and reports that fit into a heartbeat."""

import pytest

from agent.sources import health
from agent.sources.health import UNPARSED_AFTER, SourceHealth
from schemas.presence import SourceReport


def test_a_quiet_log_is_well() -> None:
    """No records is no problem."""
    source = SourceHealth("journal")
    assert not source.judge(None)
    assert health.overall([source]) == "ok"


def test_twenty_unknown_records_in_a_row_are_unparsed() -> None:
    """One record of a known format among them is enough; one after them ends it."""
    source = SourceHealth("file:/x")
    source.count([False] * (UNPARSED_AFTER - 1), 1.0)
    source.judge(None)
    assert source.state == "ok"
    source.count([False], 2.0)
    assert source.judge(None)
    assert (source.state, source.records, source.understood, source.last_at) == ("unparsed", UNPARSED_AFTER, 0, 2.0)
    source.count([True], 3.0)
    assert source.judge(None)
    assert (source.state, source.reason) == ("ok", None)


def test_a_change_is_told_once() -> None:
    """`judge` says whether state or reason are others than before."""
    source = SourceHealth("file:/x")
    assert source.judge(("missing", "gone"))
    assert not source.judge(("missing", "gone"))
    assert source.judge(("unreadable", "no"))
    assert health.overall([source, SourceHealth("journal")]) == "degraded"


def test_nothing_watched_is_degraded() -> None:
    """A guard without sources is degraded and has one report that says why."""
    assert health.overall([]) == "degraded"
    (report,) = health.reports([])
    assert (report.name, report.state) == ("none", "missing")


@pytest.mark.parametrize("count", [1, 5, 40])
def test_reports_fit_into_a_heartbeat(count: int) -> None:
    """All reports together have at most 2 KiB; those with a problem come first."""
    sources = [SourceHealth(f"file:/{'x' * 200}{number}") for number in range(count)]
    sources[-1].judge(("missing", "y" * 1_000))
    reports = health.reports(sources)
    assert reports[0].state == "missing"
    text = b"[" + b",".join(report.body() for report in reports) + b"]"
    assert len(text) <= health.REPORT_BYTES
    assert all(SourceReport.model_validate_json(report.body()) for report in reports)
