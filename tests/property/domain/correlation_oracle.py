"""Oracle of the correlator: a store that keeps everything, and the rule applied to all reports ever."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from manager.domain.correlation import (
    ChangeKind,
    Correlator,
    CorrelatorSettings,
    Incident,
    IncidentChange,
    Indicator,
    PastReport,
    Report,
)

START = 1_700_000_000.1
"""A time whose fraction no float holds exactly."""


class Found(NamedTuple):
    """An incident as the naive rule finds it; times in milliseconds, so that bounds are exact."""

    first: int
    last: int
    members: frozenset[str]
    actionable: frozenset[str]
    late: bool
    count: int


def milliseconds(time: float) -> int:
    """Return a time in whole milliseconds."""
    return round(time * 1000)


def keys_of(report: Report) -> Iterator[Indicator]:
    """Yield what a report counts as; the tests' addresses are private where they begin with 10."""
    if report.source_ip is not None:
        site = (report.site or "") if report.source_ip.startswith("10.") else None
        yield Indicator("source_ip", report.source_ip, report.organization_id, site)
    if report.technique is not None:
        yield Indicator("technique", report.technique, report.organization_id, None)
        if "." in report.technique:
            yield Indicator("technique", report.technique[:5], report.organization_id, None)


class Seen(NamedTuple):
    """A report as the naive rule sees it; times in milliseconds."""

    event: int
    received: int
    agent_id: str
    trusted: bool

    @property
    def late(self) -> bool:
        """Whether it came more than 300 s after its threat."""
        return self.received - self.event > 300_000


def complete_runs(reports: Iterable[Seen], threshold: int) -> list[list[Seen]]:
    """Return the runs in which enough agents report within 300 s of each other, by comparing all pairs."""
    runs: list[list[Seen]] = []
    for report in sorted(reports):
        if runs and report.event - runs[-1][-1].event <= 300_000:
            runs[-1].append(report)
        else:
            runs.append([report])
    return [
        run
        for run in runs
        if any(
            len({other.agent_id for other in run if 0 <= other.event - report.event <= 300_000}) >= threshold
            for report in run
        )
    ]


def expected(reports: list[Seen], threshold: int) -> list[Found]:
    """Return the incidents of one indicator's reports, earliest first."""
    prompt = complete_runs((each for each in reports if each.trusted and not each.late), threshold)
    found = []
    for run in complete_runs(reports, threshold):
        first, last = run[0].event, run[-1].event
        actionable = {each.agent_id for part in prompt if first <= part[0].event <= last for each in part}
        members = frozenset(each.agent_id for each in run)
        late = any(each.late for each in run)
        found.append(Found(first, last, members, frozenset(actionable), late, len(run)))
    return found


class Station:
    """A correlator with a store that sees reports and incidents only when they are committed."""

    def __init__(self, settings: CorrelatorSettings) -> None:
        self.settings = settings
        self.reports: list[Report] = []
        self.incidents: dict[str, Incident] = {}
        self.changes: list[IncidentChange] = []
        self.now = 0.0
        self._numbers = count(1)
        self._observed: list[Report] = []
        self._touched: dict[str, Incident] = {}
        self.correlator = self._new()

    def _new(self) -> Correlator:
        return Correlator(self.settings, lambda: f"incident-{next(self._numbers)}", Store(self))

    def observe(self, report: Report) -> list[IncidentChange]:
        """Take a report; the store does not know it yet."""
        self.now = max(self.now, report.received)
        self._observed.append(report)
        return self._noted(self.correlator.observe(report))

    def commit(self) -> None:
        """Store what was observed, and the incidents that changed."""
        self.reports += self._observed
        self.incidents.update({key: _copy(incident) for key, incident in self._touched.items()})
        self._observed, self._touched = [], {}

    def expire(self, now: float) -> list[IncidentChange]:
        """Commit, then let time pass."""
        self.commit()
        self.now = max(self.now, now)
        return self._noted(self.correlator.expire(self.now))

    def restart(self) -> None:
        """Stop, and rebuild the correlator from the store alone."""
        self.commit()
        self.correlator = self._new()
        since = self.now - 600.001
        self.correlator.rebuild(
            [
                _copy(each)
                for each in self.incidents.values()
                if each.merged_into is None and (each.closed_at is None or each.last_seen_at >= since)
            ],
            self.now,
        )

    def found(self) -> dict[Indicator, dict[str, Found]]:
        """Return the unmerged incidents as committed, by indicator and id, earliest first."""
        self.commit()
        by_indicator: dict[Indicator, dict[str, Found]] = {}
        for each in sorted(self.incidents.values(), key=lambda incident: incident.first_seen_at):
            if each.merged_into is None:
                by_indicator.setdefault(each.indicator, {})[each.id] = Found(
                    milliseconds(each.first_seen_at),
                    milliseconds(each.last_seen_at),
                    frozenset(each.agent_ids),
                    frozenset(each.actionable_agent_ids),
                    each.late,
                    each.report_count,
                )
        return by_indicator

    def expected(self) -> dict[Indicator, list[Found]]:
        """Return what the naive rule finds in all reports ever observed."""
        by_indicator: dict[Indicator, list[Seen]] = {}
        for report in (*self.reports, *self._observed):
            seen = Seen(
                milliseconds(report.event_time),
                milliseconds(report.received),
                report.agent_id,
                report.event_time_trusted,
            )
            for indicator in keys_of(report):
                by_indicator.setdefault(indicator, []).append(seen)
        thresholds = self.settings.thresholds
        found = {key: expected(reports, thresholds[key.kind]) for key, reports in by_indicator.items()}
        return {key: incidents for key, incidents in found.items() if incidents}

    def _noted(self, changes: list[IncidentChange]) -> list[IncidentChange]:
        self.changes += changes
        for change in changes:
            self._touched[change.incident.id] = change.incident
            if change.kind is ChangeKind.MERGED and change.absorbed is not None:
                self._touched[change.absorbed.id] = change.absorbed
        return changes

    def reports_of(self, indicator: Indicator) -> Iterator[Report]:
        """Yield the committed reports of an indicator."""
        return (report for report in self.reports if indicator in keys_of(report))

    def incidents_of(self, indicator: Indicator) -> Iterator[Incident]:
        """Yield the committed, unmerged incidents of an indicator."""
        return (each for each in self.incidents.values() if each.indicator == indicator and each.merged_into is None)


class Store:
    """The `History` port over a station's committed state."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterable[PastReport]:
        """Return the reports with start ≤ event time < end, the newest first."""
        found = [
            PastReport(each.event_time, each.agent_id, each.received, each.event_time_trusted)
            for each in self._station.reports_of(indicator)
            if start <= each.event_time < end
        ]
        return sorted(found, reverse=True)

    def incidents(self, indicator: Indicator, start: float, end: float, /) -> Iterable[Incident]:
        """Return copies of the incidents that touch start ≤ time < end."""
        return [
            _copy(each)
            for each in self._station.incidents_of(indicator)
            if each.last_seen_at >= start and each.first_seen_at < end
        ]

    def incident_count(self, indicator: Indicator, before: float, known: Collection[str], /) -> int:
        """Return how many incidents were last seen before a time, except the known ones."""
        incidents = self._station.incidents_of(indicator)
        return sum(each.last_seen_at < before and each.id not in known for each in incidents)


def _copy(incident: Incident) -> Incident:
    return replace(incident, members=dict(incident.members))
