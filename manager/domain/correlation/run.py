"""A run: reports of one indicator without a gap of more than a window, in bounded memory."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from operator import itemgetter

from manager.domain.correlation.incidents import Incident
from manager.domain.correlation.reports import WINDOW

_time = itemgetter(0)


class Run:
    """The compact state of a run; decides on a further report as if every report of the run were stored.

    Once enough agents have been within a window of each other, only the ends matter (the members are the incident's).
    Before that, `points` holds (event time, agent) in order, without those that decide nothing: a point is left out
    when the same agent has one before and one after it, p ≤ t ≤ q, with q - p within a window. For any stretch of a
    window's length that holds t but neither p nor q would lie strictly between p and q, and they are no further apart
    than that length. So every window has the same agents with the point as without it, and no gap opens: whatever is
    within a window of t is within a window of p or q. Leaving out p or q later for the same reason keeps this true,
    since their own neighbours then stand in for them. At most two points of an agent are left in any window, and a
    window of a run that is not complete has fewer agents than the threshold, so `points` is bounded by the threshold,
    whatever the number of reports. (With a threshold of two, such a run has a single agent.)
    """

    __slots__ = ("clock_unknown", "count", "earlier", "first", "incident", "last", "late", "points", "starts_known")

    def __init__(self, time: float, agent_id: str) -> None:
        self.first = time
        self.last = time
        self.count = 0
        self.late = False
        self.clock_unknown = False  # a report without a known event time is part of it
        self.points: list[tuple[float, str]] | None = [(time, agent_id)]
        # Agents whose points were trimmed; of a complete run, those that no incident has yet.
        self.earlier: set[str] | None = None
        self.incident: Incident | None = None
        self.starts_known = False  # True once it is certain that no report of the run lies before `first`

    @classmethod
    def of(cls, incident: Incident) -> "Run":
        """Return the run of a stored incident."""
        run = cls(incident.first_seen_at, "")
        run.last, run.points, run.incident = incident.last_seen_at, None, incident
        run.count, run.late, run.starts_known = incident.report_count, incident.late, True
        return run

    def fork(self) -> "Run":
        """Return a copy without the incident, to be continued with other reports."""
        run = Run(self.first, "")
        run.last, run.count, run.late, run.starts_known = self.last, self.count, self.late, self.starts_known
        run.clock_unknown = self.clock_unknown
        run.points = None if self.points is None else self.points.copy()
        run.earlier = None if self.earlier is None else self.earlier.copy()
        return run

    def copy(self) -> "Run":
        """Return a copy with the same incident."""
        run = self.fork()
        run.incident = self.incident
        return run

    def shift(self, seconds: float) -> None:
        """Move all times by a step of the manager's clock."""
        self.first += seconds
        self.last += seconds
        if self.points is not None:
            self.points = [(time + seconds, agent_id) for time, agent_id in self.points]

    def reaches(self, time: float) -> bool:
        """Return whether a report at this time is in the run, as its first, its last or one in between."""
        return self.first - time <= WINDOW and time - self.last <= WINDOW

    def continues_to(self, time: float, floor: float) -> bool:
        """Return whether the run is complete and a report at this time is in it, not before its first one.

        Args:
            time: the event time of the report.
            floor: the time from which on all reports are known; a report behind the last one needs those in between.
        """
        if self.points is not None or time < self.first:
            return False
        return time <= self.last or (self.last >= floor and time - self.last <= WINDOW)

    def extend(self, time: float) -> None:
        """Count one more report of a complete run, which may be its last."""
        self.count += 1
        if time > self.last:
            self.last = time

    @property
    def complete(self) -> bool:
        """Whether enough distinct agents have reported within a window of each other."""
        return self.points is None

    def finish(self) -> set[str]:
        """Make the run complete and return its agents, which become members."""
        agents = {agent_id for _, agent_id in self.points or ()} | (self.earlier or set())
        self.points = self.earlier = None
        return agents

    def keep(self, agents: Collection[str]) -> None:
        """Keep the agents of a loaded run that is complete and has no incident, until one is opened."""
        self.earlier = {*agents, *(self.earlier or ())}

    def claim(self) -> set[str]:
        """Return the agents kept for the incident of a complete run, and keep them no longer."""
        if self.points is not None:
            return set()
        agents, self.earlier = self.earlier or set(), None
        return agents

    def add_point(self, time: float, agent_id: str, threshold: int) -> bool:
        """Add a report to an incomplete run; return whether it completes the rule."""
        points = self.points
        if points is None:
            return False
        if time >= points[-1][0] and len(points) <= 2 and points[0][1] == agent_id == points[-1][1]:  # noqa: PLR2004
            return self._add_own_point(points, time, agent_id)
        position = bisect_right(points, time, key=_time)
        before = _own(points, range(position - 1, -1, -1), agent_id)
        after = _own(points, range(position, len(points)), agent_id)
        if before and after and points[after[0]][0] - points[before[0]][0] <= WINDOW:
            return False  # decides nothing: see the class
        points.insert(position, (time, agent_id))
        # The next point after this one first: deleting it moves nothing before it.
        if len(after) > 1 and points[after[1] + 1][0] - time <= WINDOW:
            del points[after[0] + 1]
        if len(before) > 1 and time - points[before[1]][0] <= WINDOW:
            del points[before[0]]
        return self._completed_at(time, threshold)

    def continue_alone(self, time: float, agent_id: str) -> bool:
        """Add a report behind the last one, if the run has two points, both of its agent; return whether it did.

        The last point is between the first and the new one then, within a window, so it decides nothing: see the class.
        """
        points = self.points
        if points is None or len(points) != 2:  # noqa: PLR2004
            return False
        (first, one), (last, other) = points
        if not one == other == agent_id or time < last or time - first > WINDOW:
            return False
        points[1] = (time, agent_id)
        if time > self.last:
            self.last = time
        self.count += 1
        return True

    @staticmethod
    def _add_own_point(points: list[tuple[float, str]], time: float, agent_id: str) -> bool:
        """Add a report behind the last one, of the only agent: an agent alone completes nothing."""
        if len(points) > 1 and time - points[-2][0] <= WINDOW:
            points[-1] = (time, agent_id)  # the one in between decides nothing: see the class
        else:
            points.append((time, agent_id))
        return False

    def _completed_at(self, time: float, threshold: int) -> bool:
        """Return whether some window that contains `time` has enough distinct agents."""
        points = self.points or []
        low = bisect_left(points, True, key=lambda point: time - point[0] <= WINDOW)
        seen: dict[str, int] = {}
        for high in range(low, len(points)):
            end, agent_id = points[high]
            if end - time > WINDOW:
                return False
            seen[agent_id] = seen.get(agent_id, 0) + 1
            while end - points[low][0] > WINDOW:
                gone = points[low][1]
                seen[gone] -= 1
                if not seen[gone]:
                    del seen[gone]
                low += 1
            # A window that ends before `time` was judged at its own last report.
            if len(seen) >= threshold and end >= time:
                return True
        return False

    def trim(self, horizon: float) -> bool:
        """Drop points before `horizon` but keep their agents; return whether there were any."""
        points = self.points
        if points is None or points[0][0] >= horizon:
            return False
        keep = min(bisect_left(points, horizon, key=_time), len(points) - 1)
        gone = {agent_id for _, agent_id in points[:keep]}
        del points[:keep]
        gone.difference_update(agent_id for _, agent_id in points)
        if gone:
            self.earlier = gone | (self.earlier or set())
        return True

    def absorb(self, later: "Run") -> set[str]:
        """Append a later run; return the agents that become members because only one of the two was complete."""
        joined: set[str] = set()
        if self.points is not None and later.points is not None:
            self.points += later.points
            if later.earlier:
                self.earlier = later.earlier | (self.earlier or set())
        else:
            kept = self.claim() | later.claim()
            if self.points is not None:
                joined = self.finish()
            elif later.points is not None:
                joined = later.finish()
            if self.incident or later.incident:
                joined |= kept
            elif kept:
                self.keep(kept)
        self.incident = self.incident or later.incident
        self.last = later.last
        self.count += later.count
        self.late |= later.late
        self.clock_unknown |= later.clock_unknown
        return joined


def _own(points: list[tuple[float, str]], positions: range, agent_id: str) -> list[int]:
    """Return the first two of these positions that hold a point of the agent."""
    found: list[int] = []
    for position in positions:
        if points[position][1] == agent_id:
            found.append(position)
            if len(found) == 2:  # noqa: PLR2004 -- the neighbour, and the neighbour's neighbour
                break
    return found
