"""Loads older reports and incidents of an indicator from the store, for reports older than memory."""

from collections.abc import Callable

from manager.domain.correlation.incidents import Incident
from manager.domain.correlation.indicators import Indicator
from manager.domain.correlation.reports import WINDOW, History, PastReport, is_late
from manager.domain.correlation.run import Run
from manager.domain.correlation.timeline import Timeline

_ANY_OTHER_AGENT = 2


class HistoryLoader:
    """Completes timelines from the store. Loaded reports change no incident: that was decided when they were received.

    Args:
        history: the store.
        found_open: called for each incident that the store still has as open.
        found_counting: called for each loaded report that counts for the responder.
    """

    def __init__(
        self,
        history: History,
        found_open: Callable[[Incident, Timeline], None],
        found_counting: Callable[[Indicator, PastReport], None],
    ) -> None:
        self._history = history
        self._found_open = found_open
        self._found_counting = found_counting
        self.count = 0

    def load_around(self, timeline: Timeline, time: float) -> None:
        """Load all reports and incidents from one window before `time` on."""
        self._load(timeline, time - WINDOW, time)

    def load_run_start(self, timeline: Timeline, time: float) -> set[str]:
        """Load until the beginning of the run at `time` is known; return the agents found in it."""
        agents: set[str] = set()
        reach = WINDOW
        while (run := timeline.run_at(time)) is not None and not timeline.is_whole(run):
            agents |= self._load(timeline, run.first - reach, time)
            reach *= 2  # a long run takes few queries
        return agents

    def load_until_complete(self, ontime: Timeline, time: float) -> None:
        """Load until it is known whether the run of on-time reports at `time` was complete before.

        Incidents are stored with their actionable agents, but not with the runs of on-time reports that made them so.
        With a threshold of two nothing has to be loaded: an incomplete run then has one agent, which is actionable
        already or becomes so with the next one.
        """
        if ontime.threshold == _ANY_OTHER_AGENT:
            return
        reach = WINDOW
        while (run := ontime.run_at(time)) is not None and not run.complete and not ontime.is_whole(run):
            self._load(ontime, run.first - reach, time)
            reach *= 2

    def _load(self, timeline: Timeline, start: float, near: float) -> set[str]:
        """Load everything from `start` on; return the agents that are in a complete run by it.

        Of the reports that count, only as many are loaded as decide about a report at `near`: once its run is complete,
        older reports change nothing.
        """
        self.count += 1
        if not timeline.counts_only:
            self._load_incidents(timeline, start)
        before = [run.copy() for run in timeline.runs]
        try:
            return self._load_reports(timeline, start, near)
        except BaseException:  # the store failed between two reports: the same ones are loaded again, and count once
            timeline.runs = before
            raise

    def _load_reports(self, timeline: Timeline, start: float, near: float) -> set[str]:
        agents: set[str] = set()
        for gap_start, gap_end in reversed((*timeline.gaps(start, timeline.floor),)):
            for report in self._history.reports(timeline.indicator, gap_start, gap_end):
                run = self._place(timeline, report, agents)
                if timeline.counts_only and run is not None and run.complete and run.first <= near <= run.last + WINDOW:
                    timeline.floor = min(timeline.floor, run.first)
                    timeline.since = min(timeline.since, timeline.floor)
                    return agents
        timeline.since = min(timeline.since, start)
        timeline.floor = start
        return agents

    def _load_incidents(self, timeline: Timeline, start: float) -> None:
        known = {run.incident.id for run in timeline.runs if run.incident is not None}
        for incident in self._history.incidents(timeline.indicator, start, timeline.since):
            if incident.id not in known:
                timeline.fork()  # the incident has no times of its on-time reports
                timeline.adopt(incident)
                if incident.is_open:
                    self._found_open(incident, timeline)

    def _place(self, timeline: Timeline, report: PastReport, agents: set[str]) -> Run | None:
        """Place a loaded report; return its run, or None if it does not count for this timeline."""
        time, agent_id, received, trusted, _ = report
        late = is_late(time, received)
        if not timeline.counts_only:
            timeline.fork()  # loaded reports may not all be on time
        elif late or not trusted:
            return None
        else:
            self._found_counting(timeline.indicator, report)
        placement = timeline.place(time, agent_id, count=time < timeline.since, late=late, clock_unknown=not trusted)
        if placement.joined:
            agents.update(placement.joined)
            if placement.run.incident is None:
                placement.run.keep(placement.joined)
        return placement.run
