"""Rebuilt correlators: what they read from the store, and what they make of reports that no incident has."""

from collections.abc import Collection, Iterator
from itertools import count

import pytest

from manager.domain.correlation import (
    ChangeKind,
    Correlator,
    CorrelatorSettings,
    Incident,
    Indicator,
    NoHistory,
    PastReport,
    Report,
)

NOW = 1_700_000_000.0
ATTACKER = "203.0.113.7"
INDICATOR = Indicator("source_ip", ATTACKER, "acme", None)


class Stored(NoHistory):
    """A store with reports of one indicator, newest first, and its incidents; it counts what is read."""

    def __init__(self, reports: list[PastReport], incidents: list[Incident] | None = None) -> None:
        self.stored = sorted(reports, reverse=True)
        self.known = incidents or []
        self.read = 0

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterator[PastReport]:
        for report in self.stored if indicator == INDICATOR else ():
            if start <= report.event_time < end:
                self.read += 1
                yield report

    def incidents(self, _indicator: Indicator, start: float, end: float, /) -> Iterator[Incident]:
        return (each for each in self.known if each.last_seen_at >= start and each.first_seen_at < end)

    def incident_count(self, _indicator: Indicator, before: float, known: Collection[str], /) -> int:
        return sum(each.last_seen_at < before and each.id not in known for each in self.known)


def _rebuilt(stored: Stored, incidents: list[Incident], threshold: int = 2) -> Correlator:
    numbers = count(1)
    settings = CorrelatorSettings(threshold, threshold, threshold)
    correlator = Correlator(settings, lambda: f"i-{next(numbers)}", stored)
    correlator.rebuild(incidents, NOW)
    return correlator


def _report(agent: str, after: float) -> Report:
    return Report(agent, "acme", None, "any", NOW + after, NOW + after, source_ip=ATTACKER)


def _ago(agent: str, seconds: float, *, late: bool = False) -> PastReport:
    return PastReport(NOW - seconds, agent, NOW - seconds + 301 * late, trusted=True)


def test_a_rebuild_reads_no_report() -> None:
    """A restart takes as long as its incidents, whatever the number of reports."""
    stored = Stored([_ago(f"a-{number}", 1 + number / 100) for number in range(1000)])
    correlator = _rebuilt(stored, [])
    assert (stored.read, correlator.history_loads, correlator.indicator_count) == (0, 0, 0)


def test_agents_of_a_run_without_an_incident_all_become_members() -> None:
    """As after a lower threshold: the run is complete, and no point of it is kept while it is read."""
    stored = Stored([_ago(f"a-{number:04}", 1 + number / 10) for number in range(1000)])
    correlator = _rebuilt(stored, [])
    (opened,) = correlator.observe(_report("b", 1))
    assert opened.kind is ChangeKind.OPENED
    assert len(opened.incident.members) == 1001
    assert opened.incident.report_count == 1001
    assert {"b", "a-0000", "a-0001"} <= set(opened.actionable)
    timeline = correlator._memory.get(INDICATOR)
    assert timeline is not None
    assert timeline.ontime is not None
    assert all(run.points is None and run.earlier is None for run in (*timeline.runs, *timeline.ontime.runs))


def test_of_the_reports_that_count_only_the_newest_are_read() -> None:
    """Once two agents are found within a window of a report, older ones decide nothing about it."""
    members = {f"a-{number}": True for number in range(1000)}
    incident = Incident("inc-1", INDICATOR, members, NOW - 290, NOW - 290, NOW - 1, report_count=1000)
    stored = Stored([_ago(f"a-{number}", 1 + number / 4) for number in range(1000)], [incident])
    correlator = _rebuilt(stored, [incident])
    (grew,) = correlator.observe(_report("b", 1))
    assert (grew.kind, grew.actionable, stored.read) == (ChangeKind.GREW, ("b",), 2)
    for turn in range(20):
        (change,) = correlator.observe(_report(f"c-{turn}", 2 + turn))
        assert (change.kind, change.actionable) == (ChangeKind.GREW, (f"c-{turn}",))
    assert stored.read == 2
    assert incident.report_count == 1021


@pytest.mark.parametrize("ago", [400, 301, 299])
def test_an_incident_from_before_the_restart_counts_once(ago: float) -> None:
    """Whether it is in memory, in the store or in both, and with one that only the store has: a return is one more."""
    live = Incident("inc-2", INDICATOR, {"a": True, "b": True}, NOW - ago, NOW - ago - 1, NOW - ago, report_count=2)
    old = Incident("inc-1", INDICATOR, {"a": True, "b": True}, NOW - 5000, NOW - 5000, NOW - 5000, report_count=2)
    correlator = _rebuilt(Stored([], [old, live]), [live])
    after = 301.5 - ago if ago < 301 else 0.0  # the first one that does not belong to the incident any more
    assert correlator.observe(_report("c", after)) == []
    (opened,) = correlator.observe(_report("d", after))
    assert (opened.kind, opened.incident.return_count) == (ChangeKind.RETURNED, 2)


@pytest.mark.parametrize("late", [False, True])
def test_a_report_that_counts_finds_only_those_that_count(*, late: bool) -> None:
    """A late report before the restart makes its agent a member, and nobody actionable."""
    stored = Stored([_ago("a", 10, late=late)])
    (opened,) = _rebuilt(stored, []).observe(_report("b", 1))
    assert set(opened.incident.members) == {"a", "b"}
    assert set(opened.actionable) == (set() if late else {"a", "b"})


def test_a_report_from_before_the_restart_still_vouches() -> None:
    """Its agent vouches in the incident that the next report opens; one that does not count vouches for nothing."""
    vouching = [_ago("a", 10)._replace(vouched=1), _ago("b", 20, late=True)._replace(vouched=1)]
    vouching.append(_ago("c", 30)._replace(vouched=2))
    (opened,) = _rebuilt(Stored(vouching), []).observe(_report("d", 1))
    assert opened.vouched == ("a",)
    assert opened.incident.vouched == {"a"}


def test_reports_older_than_a_complete_run_are_read_for_one_that_came_before_it() -> None:
    """Reading stops at a complete run only once the run reaches back to the report."""
    stored = Stored([_ago("a", 5), _ago("b", 10), _ago("c", 295), _ago("e", 299.5), _ago("f", 650)])
    correlator = _rebuilt(stored, [])
    old = Report("d", "acme", None, "any", NOW - 299, NOW, source_ip=ATTACKER)
    (opened,) = correlator.observe(old)
    assert set(opened.incident.members) == set(opened.actionable) == {"a", "b", "c", "d", "e"}
