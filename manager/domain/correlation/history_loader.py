"""Reading back from the store what memory no longer holds of an indicator, so that older reports are judged rightly."""

from collections.abc import Callable

from manager.domain.correlation.incidents import Incident
from manager.domain.correlation.reports import WINDOW, History, is_late
from manager.domain.correlation.timeline import Timeline

_ANY_OTHER_AGENT = 2


class HistoryLoader:
    """Completes timelines from the store. Nothing it puts in changes an incident: that was decided long ago.

    Args:
        history: the store.
        found_open: told of each incident that the store still has as open.
    """

    def __init__(self, history: History, found_open: Callable[[Incident, Timeline], None]) -> None:
        self._history = history
        self._found_open = found_open
        self.count = 0

    def load_around(self, timeline: Timeline, time: float) -> None:
        """Make all that lies within a window before `time`, and everything since, known."""
        self._load(timeline, time - WINDOW)

    def load_run_start(self, timeline: Timeline, time: float) -> set[str]:
        """Make known how the run at `time` began; return the agents that were found in it."""
        agents: set[str] = set()
        reach = WINDOW
        while (run := timeline.run_at(time)) is not None and not timeline.is_whole(run):
            agents |= self._load(timeline, run.first - reach)
            reach *= 2  # a long run takes few queries
        return agents

    def load_until_complete(self, ontime: Timeline, time: float) -> None:
        """Make known whether the run at `time`, of reports that count for the responder, was complete before.

        Incidents are read from the store with their actionable agents, but not which of their runs these come from. If
        two agents are enough, there is nothing to find out: an incomplete run then has one agent, who either is
        actionable already or becomes so with the next one.
        """
        if ontime.threshold == _ANY_OTHER_AGENT:
            return
        reach = WINDOW
        while (run := ontime.run_at(time)) is not None and not run.complete and not ontime.is_whole(run):
            self._load(ontime, run.first - reach)
            reach *= 2

    def _load(self, timeline: Timeline, start: float) -> set[str]:
        self.count += 1
        if not timeline.counts_only:
            known = {run.incident.id for run in timeline.runs if run.incident is not None}
            for incident in self._history.incidents(timeline.indicator, start, timeline.since):
                if incident.id not in known:
                    timeline.fork()  # it does not say when the reports that count for the responder came
                    timeline.adopt(incident)
                    if incident.is_open:
                        self._found_open(incident, timeline)
        agents: set[str] = set()
        for gap_start, gap_end in tuple(timeline.gaps(start, timeline.floor)):
            for time, agent_id, received, trusted in self._history.reports(timeline.indicator, gap_start, gap_end):
                late = is_late(time, received)
                if not timeline.counts_only:
                    timeline.fork()  # what is read back may not all have come on time
                elif late or not trusted:
                    continue
                placement = timeline.place(
                    time, agent_id, count=time < timeline.since, late=late, decide=timeline.counts_only
                )
                agents.update(placement.joined or ())
        timeline.since = min(timeline.since, start)
        timeline.floor = start
        return agents
