"""Timeline: the runs of one indicator, and the event time from which on they are known."""

from collections.abc import Collection, Iterator
from math import inf, nextafter

from msgspec import Struct

from manager.domain.correlation.incidents import Incident
from manager.domain.correlation.indicators import Indicator
from manager.domain.correlation.reports import WINDOW
from manager.domain.correlation.run import Run


class Placement(Struct, frozen=True, gc=False):
    """Result of placing a report.

    Args:
        run: the report's run.
        joined: None while the run is not complete; else the agents that are in a complete run by this report: its
            own, and those of an incomplete run that it completed or joined to a complete one.
        absorbed: the later incident, where the report joined two.
    """

    run: Run
    joined: Collection[str] | None
    absorbed: Incident | None


class Timeline:
    """The runs of one indicator in order.

    Args:
        indicator: the indicator.
        threshold: number of distinct agents within a window of each other that completes a run.
        known_from: all reports at and after this event time are, or will be, placed here.
        counts_only: whether only reports that count for the responder are placed here.
    """

    __slots__ = (
        "counts_only",
        "floor",
        "hold",
        "indicator",
        "ontime",
        "open_incidents",
        "runs",
        "since",
        "threshold",
        "touched",
    )

    def __init__(self, indicator: Indicator, threshold: int, known_from: float, *, counts_only: bool = False) -> None:
        self.indicator = indicator
        self.threshold = threshold
        self.counts_only = counts_only
        self.runs: list[Run] = []
        self.since = known_from
        """The event time from which on every report is included in the ends, count and agents of its run."""
        self.floor = known_from
        """The event time from which on every report is also included in the points of its run."""
        self.hold = -inf
        """The time until which nothing is dropped, because late reports are arriving."""
        self.touched = -inf
        self.open_incidents = 0
        self.ontime: Timeline | None = None
        """The timeline of the reports that count for the responder; None while all reports count."""

    def fork(self) -> "Timeline":
        """Create and return a separate timeline of the reports that count for the responder."""
        if self.ontime is None:
            self.ontime = Timeline(self.indicator, self.threshold, self.since, counts_only=True)
            self.ontime.floor = self.floor
            self.ontime.runs = [run.fork() for run in self.runs]
        return self.ontime

    def place(
        self,
        time: float,
        agent_id: str,
        *,
        count: int = 1,
        late: bool = False,
        clock_unknown: bool = False,
    ) -> Placement:
        """Add a report to its run; it may begin, extend or complete the run, or join it to another."""
        runs = self.runs
        position = len(runs)
        while position and runs[position - 1].first > time:  # newest first: nearly every report belongs there
            position -= 1
        left = runs[position - 1] if position and time - runs[position - 1].last <= WINDOW else None
        right = runs[position] if position < len(runs) and runs[position].first - time <= WINDOW else None
        run = left or right
        if run is None:
            run = Run(time, agent_id)
            run.count, run.late, run.clock_unknown = count, late, clock_unknown
            runs.insert(position, run)
            return Placement(run, None, None)
        joined: set[str] | None = None
        absorbed: Incident | None = None
        if left is not None and right is not None:
            absorbed = right.incident if left.incident is not None else None
            joined = left.absorb(right)
            del runs[position]
        run.count += count
        run.late |= late
        run.clock_unknown |= clock_unknown
        run.first = min(run.first, time)
        run.last = max(run.last, time)
        if run.complete:
            return Placement(run, joined | {agent_id} if joined else (agent_id,), absorbed)
        completed = run.add_point(time, agent_id, self.threshold)
        return Placement(run, run.finish() if completed else None, None)

    def join_as_member(self, time: float, agent_id: str) -> Incident | None:
        """Add a report that counts to the newest run if that can only continue its incident; return the incident.

        So it is with a further report of an agent that the responder acts for already: `place` and the decisions that
        follow it would change nothing but the run's end and count. Otherwise nothing is done.
        """
        run = self.runs[-1] if self.runs else None
        if run is None or run.incident is None or not run.starts_known or not run.incident.members.get(agent_id):
            return None
        ontime = self.ontime.runs[-1] if self.ontime is not None and self.ontime.runs else None
        if not run.incident.is_open or not run.continues_to(time, self.floor):
            return None
        if self.ontime is not None:
            if ontime is None or ontime.earlier or not ontime.continues_to(time, self.ontime.floor):
                return None
            ontime.extend(time)
        run.extend(time)
        incident = run.incident
        incident.first_seen_at, incident.last_seen_at = run.first, run.last
        incident.report_count, incident.late = run.count, run.late
        return incident

    def continue_alone(self, time: float, agent_id: str) -> bool:
        """Add a report that counts to the newest run if that is its own agent's alone; return whether it did.

        `place` would do the same, but look for all else that a report may do: an agent alone completes nothing. False
        is no more than a doubt.
        """
        if not self.runs or self.ontime is not None or time - WINDOW < self.floor:
            return False
        return self.runs[-1].continue_alone(time, agent_id)

    def adopt(self, incident: Incident) -> Run:
        """Add a known incident, with all its reports."""
        run = Run.of(incident)
        self.runs.append(run)
        self.runs.sort(key=lambda each: each.first)
        return run

    def run_at(self, time: float) -> Run | None:
        """Return the earliest run that a report at this time belongs to."""
        return next((run for run in self.runs if run.reaches(time)), None)

    def can_place(self, time: float) -> bool:
        """Return whether memory suffices to place a report at this time.

        It does where everything within a window of it is known, inside a complete run, which it cannot change, and up
        to a window after one, where everything since its last report is known.
        """
        return time - WINDOW >= self.floor or any(
            run.complete and run.first <= time and (time <= run.last or (run.last >= self.floor and run.reaches(time)))
            for run in self.runs
        )

    def is_whole(self, run: Run) -> bool:
        """Return whether no report of the run lies before its first known one."""
        return run.starts_known or run.first - WINDOW >= self.since

    def open(self) -> Iterator[Incident]:
        """Yield the open incidents."""
        return (incident for incident in self.incidents() if incident.is_open)

    def incidents(self) -> list[Incident]:
        """Return the incidents in memory."""
        return [run.incident for run in self.runs if run.incident is not None]

    def gaps(self, start: float, end: float) -> Iterator[tuple[float, float]]:
        """Yield the parts of start ≤ time < end outside all complete runs; only reports there can complete a run."""
        for run in self.runs:
            if run.complete and run.last >= start and run.first < end:
                if start < run.first:
                    yield start, run.first
                start = nextafter(run.last, inf)
        if start < end:
            yield start, end

    def shift(self, seconds: float) -> None:
        """Move all times by a step of the manager's clock; incidents are not moved."""
        self.since += seconds
        self.floor += seconds
        self.hold += seconds
        self.touched += seconds
        for run in self.runs:
            run.shift(seconds)
        if self.ontime is not None:
            self.ontime.shift(seconds)

    def forget(self, horizon: float) -> None:
        """Drop closed runs, and points of open runs, from before `horizon`, which no report on time can reach."""
        runs = self.runs
        if runs and runs[0].first >= horizon and self.ontime is None:
            return
        gone = 0
        while gone < len(runs) and runs[gone].last < horizon and not _is_open(runs[gone]):
            gone += 1
        if gone:
            self.since = max(self.since, nextafter(runs[gone - 1].last, inf))
            self.floor = max(self.floor, self.since)
            del runs[:gone]
        if runs and runs[0].trim(horizon):
            self.floor = max(self.floor, horizon)
        if self.ontime is not None:
            self.ontime.forget(horizon)


def _is_open(run: Run) -> bool:
    return run.incident is not None and run.incident.is_open
