"""The time of each agent's last counted report, kept in the writer's memory for the overview.

The agents that reported within a day are those whose last report is not older. To merge two days' counts of all agents
for that took a quarter of the overview's time.
"""

from array import array
from collections.abc import Collection, Iterable, Sequence
from math import inf
from operator import itemgetter
from typing import TypeAlias

from manager.storage.projections.projections import Add
from manager.storage.projections.recent_threats import RecentThreat
from manager.storage.projections.threat_counts import DAY
from manager.storage.statements import Statements

_Reports: TypeAlias = Iterable[tuple[int, float]]
"""Agent number and event time of reports."""

_NUMBER_AND_TIME = itemgetter(0, 4)


class LastReports:
    """The last reports that the counts of agents have, as of the last commit.

    The writer's thread keeps them; any thread may count. While a commit that changes them is made durable, and after
    one whose end is unknown until the next, they cannot be counted, nor for a time before the days that were loaded:
    then a reader counts by itself. So they are never behind what a reader has found in the store before.

    Args:
        statements: the statements of the writer's database.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._times = array("d")  # by agent number: 8 bytes for each agent
        self._since = inf
        self._is_loaded = False
        self._pending: list[_Reports] = []
        self.is_hidden = True
        """Whether a commit hides the last reports, or they are not known."""
        self._changes = 0

    def load(self) -> None:
        """Read the last reports from the counts of the newest days; without it, the first commit does."""
        self._load()
        self.is_hidden = False

    def after(self, count: Add) -> Add:
        """Return what counts threats by agent and has them followed here."""

        def add(first: int, last: int, threats: Sequence[RecentThreat] | None) -> None:
            count(first, last, threats)
            if not self._is_loaded:
                return
            if threats is None:
                self._pending.append(self._statements.rows("counts.last_reports_of_span", (first, last)))
            else:
                self._pending.append(map(_NUMBER_AND_TIME, threats))

        return add

    def hide(self) -> None:
        """Let nobody count until the end of the transaction."""
        self.is_hidden = True

    def before_commit(self) -> None:
        """Let nobody count until the commit's end if it changes the last reports; called in its transaction."""
        if not self._is_loaded:
            self._load()
        elif self._pending:
            self.is_hidden = True

    def after_commit(self) -> None:
        """Take the counted reports over."""
        pending, self._pending = self._pending, []
        for reports in pending:
            self._take(reports)
        self.is_hidden = not self._is_loaded

    def after_failure(self, *, is_rolled_back: bool) -> None:
        """Drop the counted reports; forget all where it is unknown whether they were committed."""
        self._pending.clear()
        self._is_loaded = self._is_loaded and is_rolled_back
        self.is_hidden = not self._is_loaded

    def count(self, since: float, uncounted: Collection[int]) -> int | None:
        """Return the number of agents that reported since a time; None if it is not known just now.

        Args:
            since: the time, in seconds since 1970.
            uncounted: the agents that reported since then by threats that are not counted yet.
        """
        changes = self._changes
        if self.is_hidden or since < self._since:
            return None
        times = self._times
        found = len([1 for at in times if at >= since])
        found += sum(number >= len(times) or times[number] < since for number in uncounted)
        return None if self.is_hidden or changes != self._changes else found

    def _load(self) -> None:
        ((newest,),) = self._statements.rows("counts.newest_report")
        self._since = -inf if newest is None else newest // DAY * DAY - DAY
        self._times = array("d")
        self._take(self._statements.rows("counts.last_reports", (self._since,)) if newest is not None else ())
        self._is_loaded = True

    def _take(self, reports: _Reports) -> None:
        self._changes += 1
        times = self._times
        for number, at in reports:
            if number >= len(times):
                times.extend([-inf] * (number + 1 - len(times)))
            if at > times[number]:  # noqa: PLR1730 -- `max` takes twice the time, for each report
                times[number] = at
