"""What a replay remembers in place of a store: every report and incident so far, found by indicator and time."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter

from manager.domain.correlation import Incident, Indicator, PastReport, Report
from manager.domain.correlation.indicators import indicators_of

_event_time = attrgetter("event_time")


class ReplayMemory:
    """The `History` of a replay's correlator."""

    def __init__(self) -> None:
        self._reports: dict[Indicator, list[PastReport]] = {}
        self._incidents: dict[str, Incident] = {}
        self._by_indicator: dict[Indicator, dict[str, None]] = {}

    def keep(self, report: Report) -> None:
        """Remember a report that was observed."""
        past = PastReport(report.event_time, report.agent_id, report.received, report.event_time_trusted)
        for indicator in indicators_of(
            report.organization_id, report.site, report.source_ip, report.file_hash, report.technique
        ):
            insort(self._reports.setdefault(indicator, []), past, key=_event_time)

    def note(self, incident: Incident) -> None:
        """Remember an incident as the object that the correlator keeps up to date."""
        self._incidents[incident.id] = incident
        self._by_indicator.setdefault(incident.indicator, {})[incident.id] = None

    def all_incidents(self) -> Iterable[Incident]:
        """Return every incident, in the order in which they opened."""
        return self._incidents.values()

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterable[PastReport]:
        """Return the reports with start ≤ event time < end."""
        known = self._reports.get(indicator, [])
        return known[bisect_left(known, start, key=_event_time) : bisect_left(known, end, key=_event_time)]

    def incidents(self, indicator: Indicator, start: float, end: float, /) -> Iterable[Incident]:
        """Return copies of the unmerged incidents whose event times touch start ≤ time < end."""
        return [
            replace(incident, members=dict(incident.members))
            for incident in self._of(indicator)
            if incident.last_seen_at >= start and incident.first_seen_at < end
        ]

    def incident_count(self, indicator: Indicator, before: float, /) -> int:
        """Return how many unmerged incidents were last seen before a time."""
        return sum(incident.last_seen_at < before for incident in self._of(indicator))

    def _of(self, indicator: Indicator) -> Iterator[Incident]:
        found = (self._incidents[incident_id] for incident_id in self._by_indicator.get(indicator, ()))
        return (incident for incident in found if incident.merged_into is None)
