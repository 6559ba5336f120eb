"""Correlator: finds incidents from the reports, independently of their order of arrival.

The rule (lifecycle page, "Cross-Agent Correlation"; made exact in the design): the reports of one indicator, sorted by
event time, form runs, cut at gaps of more than 300 s. A run in which enough distinct agents report within 300 s of
each other is one incident.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import heappop, heappush

from manager.domain.correlation.history_loader import HistoryLoader
from manager.domain.correlation.incidents import ChangeKind, Incident, IncidentChange
from manager.domain.correlation.indicators import Indicator
from manager.domain.correlation.reports import MEMORY, SLACK, WINDOW, CorrelatorSettings, History, Report, Span, is_late
from manager.domain.correlation.timeline import Placement, Timeline
from manager.domain.correlation.timeline_cache import TimelineCache
from manager.domain.correlation.vouching import VouchedReports
from manager.errors import StoreUnavailable

CLOSE_AFTER = 600.0
"""Seconds after its last report at which an incident closes: no report on time can join it any more."""

CHRONIC_AFTER = 3600.0
"""Seconds open after which a technique incident is chronic."""


_READ_BEFORE = 4 * WINDOW
"""Seconds before a report for which an indicator's history is read ahead: the window before it, and the beginning of a
run that began there. Of a longer run more is read when it is asked for."""


class Correlator:
    """Processes reports one by one and returns the changes of incidents.

    Args:
        settings: thresholds and bounds.
        new_id: makes the id of an incident.
        history: the store, queried only for reports older than memory.
    """

    def __init__(self, settings: CorrelatorSettings, new_id: Callable[[], str], history: History) -> None:
        self._thresholds = settings.thresholds
        self._new_id = new_id
        self._history = history
        self._memory = TimelineCache(settings.max_watched, settings.max_open)
        self._vouched = VouchedReports(settings.max_watched)
        self._loader = HistoryLoader(history, self._schedule, self._vouched.record_loaded)
        self._interrupted: tuple[Report, int, list[IncidentChange]] | None = None
        """A report on which the store failed, the number of its indicators that were observed, and their changes."""
        self._undecided: dict[Indicator, tuple[Placement, Collection[str]]] = {}
        """The undecided placement of the interrupted report."""
        self._clock = 0.0  # the latest time seen: a clock that steps back must not widen the known span
        self._due: list[tuple[float, int, Incident]] = []
        self._scheduled = 0

    @property
    def indicator_count(self) -> int:
        """Number of indicators in memory."""
        return len(self._memory)

    @property
    def evicted(self) -> int:
        """Number of indicators evicted because memory was full; they are matched by queries since."""
        return self._memory.evicted

    @property
    def history_loads(self) -> int:
        """Number of queries for older reports."""
        return self._loader.count

    def open_incidents(self) -> Iterator[Incident]:
        """Yield the incidents that a report on time may still join."""
        for timeline in self._memory.open():
            yield from timeline.open()

    def observe(self, report: Report) -> list[IncidentChange]:
        """Process a report at its time of receipt; return the changes of incidents.

        Raises:
            StoreUnavailable: the history cannot be read. The next report must be the same one again; the
                changes of all tries are returned by the one that succeeds.
        """
        received = report.received
        if received > self._clock:
            self._clock = received
        done, changes = self._resume(report) if self._interrupted or self._undecided else (0, [])
        late = is_late(report.event_time, received)
        for indicator in report.correlated()[done:]:
            try:
                found = self._observe(indicator, report, late=late)
                if found:
                    changes += self._vouched.mark(found, report.agent_id, self._clock)
            except StoreUnavailable:
                self._interrupted = (report, done, changes)
                raise
            done += 1
        return changes

    def missing(self, reports: Iterable[Report]) -> list[Span]:
        """Return the stored history that memory lacks to place some reports, once for each indicator, in their order.

        Nearly all that `observe` reads for these reports, if they come next, lies in it.
        """
        reports = list(reports)
        known_from = self._memory.known_from(max([self._clock, *(report.received for report in reports)]))
        spans: dict[Indicator, Span] = {}
        for report in reports:
            for indicator in report.correlated():
                span = self._missing(indicator, report.event_time, known_from)
                if span is not None:
                    earlier = spans.get(indicator, span)
                    spans[indicator] = span._replace(start=min(span.start, earlier.start))
        return list(spans.values())

    def expire(self, now: float) -> list[IncidentChange]:
        """Close incidents, mark them chronic, and evict old timelines. Call it about once a second, after a commit."""
        self._clock = max(self._clock, now)
        changes: list[IncidentChange] = []
        again: list[Incident] = []
        while self._due and self._due[0][0] <= now:
            incident = heappop(self._due)[2]
            if not incident.is_open:
                continue
            if now - incident.last_seen_at > CLOSE_AFTER + SLACK:
                self._close(incident, incident.last_seen_at + CLOSE_AFTER)
                changes.append(IncidentChange(ChangeKind.CLOSED, incident))
                continue
            if incident.can_become_chronic and now - incident.opened_at >= CHRONIC_AFTER:
                incident.chronic, incident.announced_members = True, len(incident.members)
                changes.append(IncidentChange(ChangeKind.CHRONIC, incident))
            again.append(incident)
        for incident in again:
            self._schedule_check(incident)
            timeline = self._memory.get(incident.indicator)
            if timeline is not None:
                self._forget(timeline)
        self._vouched.expire(now)
        self._memory.drop_idle(now)
        self._memory.evict_watched()
        for timeline in self._memory.evict_open():
            for incident in timeline.open():
                # Evicted, so closed early; a report that still belongs to it reopens it.
                incident.closed_at = max(now, incident.opened_at)
                changes.append(IncidentChange(ChangeKind.CLOSED, incident))
        return changes

    def shift(self, seconds: float) -> list[Incident]:
        """Shift all times by a step of the manager's clock, so that everything keeps its age; return the incidents."""
        self._clock += seconds
        self._vouched.shift(seconds)
        self._due = [(due + seconds, number, incident) for due, number, incident in self._due]
        return self._memory.shift(seconds)

    def rebuild(self, incidents: Iterable[Incident], now: float) -> None:
        """Restore the state from the store. Opens, changes and closes nothing.

        No report is loaded: those before `now` are read from the store when a report comes near them, indicator by
        indicator, as after an eviction. So a restart takes as long as its incidents, and memory stays bounded.

        Args:
            incidents: the unmerged incidents that are open or were last seen since now - 600.001 s.
            now: the time; the next `expire` closes the incidents that are due.
        """
        self._clock = max(self._clock, now)
        self._memory.forget_until(now)
        for incident in incidents:
            timeline = self._memory.touch(incident.indicator, self._thresholds[incident.kind], now, now)
            timeline.fork()
            timeline.adopt(incident)
            if incident.is_open:
                self._schedule(incident, timeline)
            self._memory.evict_watched()

    def _missing(self, indicator: Indicator, time: float, known_from: float) -> Span | None:
        """Return the history that a report of an indicator at a time may need; None if memory can place it."""
        timeline, start = self._memory.get(indicator), time - _READ_BEFORE
        if timeline is None:
            return Span(indicator, start, known_from, frozenset()) if time - WINDOW < known_from else None
        if timeline.can_place(time):
            return None
        floor = timeline.floor if timeline.ontime is None else max(timeline.floor, timeline.ontime.floor)
        return Span(indicator, start, max(floor, known_from), frozenset(each.id for each in timeline.incidents()))

    def _resume(self, report: Report) -> tuple[int, list[IncidentChange]]:
        """Return the number of a report's indicators that were observed when the store failed, and their changes."""
        interrupted, self._interrupted = self._interrupted, None
        if interrupted is not None and interrupted[0] == report:
            return interrupted[1:]
        if self._undecided:
            self._undecided.clear()
        return 0, []

    def _observe(self, indicator: Indicator, report: Report, *, late: bool) -> Collection[IncidentChange]:
        counts = report.event_time_trusted and not late
        if report.vouched:
            self._vouched.record(indicator, report)
        timeline = self._memory.touch(indicator, self._thresholds[indicator.kind], report.received, self._clock)
        if counts and not self._undecided:
            incident = timeline.join_as_member(report.event_time, report.agent_id)
            if incident is not None:
                return (IncidentChange(ChangeKind.JOINED, incident, report.agent_id, (), None, incident.chronic),)
            if timeline.continue_alone(report.event_time, report.agent_id):
                self._forget(timeline)
                return ()
        return self._place(timeline, report, late=late, counts=counts)

    def _place(self, timeline: Timeline, report: Report, *, late: bool, counts: bool) -> list[IncidentChange]:
        """Place a report, and decide on the incident of a run that is complete."""
        indicator, time, agent_id = timeline.indicator, report.event_time, report.agent_id
        if not counts:
            timeline.fork()
        if not timeline.can_place(time):
            self._loader.load_around(timeline, time)
        if late or is_late(time, self._clock):  # received in time, and decided long after: no leader was there
            timeline.hold = self._clock + MEMORY
        placement = timeline.place(time, agent_id, late=late, clock_unknown=not report.event_time_trusted)
        undecided, actionable = self._undecided.pop(indicator, (None, ())) if self._undecided else (None, ())
        if undecided is not None:  # the store failed after this report was placed: the report comes again
            placement.run.count -= 1
            joined = {*(undecided.joined or ()), *(placement.joined or ())}
            placement = Placement(placement.run, joined, placement.absorbed or undecided.absorbed)
        if placement.joined is None:
            if counts and timeline.ontime is not None:
                timeline.ontime.place(time, agent_id)
            self._forget(timeline)
            return []
        try:
            if timeline.ontime is None:
                actionable = placement.joined
            elif counts:
                opens = placement.run.incident is None
                actionable = {*actionable, *self._count(timeline.ontime, report, opens=opens)}
            return self._decide(timeline, placement, actionable, report)
        except StoreUnavailable:
            self._undecided[indicator] = (placement, actionable)
            raise

    def _decide(
        self, timeline: Timeline, placement: Placement, actionable: Collection[str], report: Report
    ) -> list[IncidentChange]:
        """Open or update the incident of a complete run.

        Raises:
            StoreUnavailable: older reports or incidents cannot be read.
        """
        if not placement.run.starts_known:
            placement, actionable = self._complete_run(timeline, placement, actionable, report.event_time)
        if placement.run.incident is None:
            return [self._open_incident(timeline, placement, actionable, report)]
        return self._update_incident(timeline, placement, actionable, report)

    def _complete_run(
        self, timeline: Timeline, placement: Placement, actionable: Collection[str], time: float
    ) -> tuple[Placement, Collection[str]]:
        """Load the beginning of a newly completed run, so that its earlier agents become members, too."""
        run, joined = placement.run, placement.joined
        if not timeline.is_whole(run):
            if timeline.ontime is None:  # loaded reports may not all be on time
                actionable = {*actionable, *self._loader.load_run_start(timeline.fork(), time)}
            joined = {*(joined or ()), *self._loader.load_run_start(timeline, time)}
            run = timeline.run_at(time) or run
        run.starts_known = True
        return Placement(run, joined, placement.absorbed), actionable

    def _count(self, ontime: Timeline, report: Report, *, opens: bool) -> Collection[str]:
        """Apply the rule to on-time reports alone; return the agents that this report makes actionable.

        Args:
            ontime: the timeline of the reports that count.
            report: the next one.
            opens: whether it opens an incident; if not, the agents of complete runs are actionable already.
        """
        time, agent_id = report.event_time, report.agent_id
        if not ontime.can_place(time):
            self._loader.load_around(ontime, time)
        self._loader.load_until_complete(ontime, time)
        placement = ontime.place(time, agent_id)
        if placement.joined is None:
            return ()
        loaded = placement.run.claim()
        return {*placement.joined, *loaded} if opens else placement.joined

    def _open_incident(
        self, timeline: Timeline, placement: Placement, actionable: Collection[str], report: Report
    ) -> IncidentChange:
        run = placement.run
        in_memory = timeline.incidents()
        known = [incident.id for incident in in_memory]
        returns = self._history.incident_count(timeline.indicator, timeline.since, known)
        returns += sum(earlier.first_seen_at < run.first for earlier in in_memory)
        members = dict.fromkeys(sorted({*(placement.joined or ()), *actionable, *run.claim()}), False)
        run.incident = incident = Incident(
            id=self._new_id(),
            indicator=timeline.indicator,
            members=members,
            opened_at=report.received,
            first_seen_at=run.first,
            last_seen_at=run.last,
            late=run.late,
            report_count=run.count,
            return_count=returns,
            announced_members=len(members),
        )
        self._schedule(incident, timeline)
        kind = ChangeKind.RETURNED if returns else ChangeKind.OPENED
        newly = incident.mark_actionable(actionable)
        return IncidentChange(kind, incident, report.agent_id, newly, clock_unknown=run.clock_unknown)

    def _update_incident(
        self, timeline: Timeline, placement: Placement, actionable: Collection[str], report: Report
    ) -> list[IncidentChange]:
        run, joined, absorbed = placement.run, placement.joined, placement.absorbed
        incident = run.incident
        if incident is None or joined is None:
            return []
        if absorbed is not None:
            incident.absorb(absorbed)
            if absorbed.is_open:
                self._close(absorbed, report.received)
        members, agent_id = incident.members, report.agent_id
        incident.first_seen_at, incident.last_seen_at = run.first, run.last
        incident.report_count, incident.late = run.count, run.late
        if not incident.is_open:
            self._reopen_or_close(incident, timeline)
        one = len(joined) == 1 and len(actionable) <= 1 and absorbed is None
        if one and agent_id in members and (members[agent_id] or not actionable):
            return [IncidentChange(ChangeKind.JOINED, incident, agent_id, (), None, incident.chronic)]
        added = incident.add_members(joined)
        newly, silent = incident.mark_actionable(actionable), incident.stays_silent()
        if absorbed is not None:
            return [IncidentChange(ChangeKind.MERGED, incident, agent_id, newly, absorbed, silent)]
        if not added:
            return [IncidentChange(ChangeKind.JOINED, incident, agent_id, newly, None, silent)]
        first, *others = added
        return [
            IncidentChange(ChangeKind.GREW, incident, first, newly, None, silent),
            *(IncidentChange(ChangeKind.GREW, incident, agent_id, (), None, silent) for agent_id in others),
        ]

    def _reopen_or_close(self, incident: Incident, timeline: Timeline) -> None:
        """Reopen a closed incident if its last report is recent now, else correct its closing time."""
        if self._clock - incident.last_seen_at <= CLOSE_AFTER + SLACK:
            incident.closed_at = None
            self._schedule(incident, timeline)
        else:
            incident.closed_at = max(incident.last_seen_at + CLOSE_AFTER, incident.opened_at)

    def _close(self, incident: Incident, at: float) -> None:
        incident.closed_at = max(at, incident.opened_at)
        self._memory.closed(incident.indicator)

    def _schedule(self, incident: Incident, timeline: Timeline) -> None:
        """Count an incident as open, and schedule the check that closes it or marks it chronic."""
        self._memory.opened(incident.indicator, timeline)
        self._schedule_check(incident)

    def _schedule_check(self, incident: Incident) -> None:
        due = incident.last_seen_at + CLOSE_AFTER + SLACK
        if incident.can_become_chronic:
            due = min(due, incident.opened_at + CHRONIC_AFTER)
        self._scheduled += 1
        heappush(self._due, (due, self._scheduled, incident))

    def _forget(self, timeline: Timeline) -> None:
        if self._clock > timeline.hold:
            timeline.forget(self._clock - MEMORY)
