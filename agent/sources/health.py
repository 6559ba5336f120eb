"""The health of the guard's sources, for its status, heartbeats and log."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.sources.source import SourceState
from schemas.model import utc
from schemas.presence import HealthState, SourceReport

UNPARSED_AFTER = 20
"""The number of consecutive records of unknown format after which a source is `unparsed`."""

REPORT_BYTES = 2048
"""The maximum size of all source reports in a heartbeat (set by the contract)."""

_MOST_REPORTED = 16
_LONGEST_REASON = 300


@dataclass(slots=True)
class SourceHealth:
    """The state and the counters of one source since the guard was started.

    Attributes:
        name: The source's name.
        state: `ok`, or its problem.
        reason: A description of the problem; None without one.
        records: The number of records read.
        understood: The number of records of known format.
        last_at: The time at which the last record was read, in epoch seconds; None without one.
    """

    name: str
    state: SourceState = "ok"
    reason: str | None = None
    records: int = 0
    understood: int = 0
    last_at: float | None = None
    _misses: int = 0

    def count(self, understood: Sequence[bool], now: float) -> None:
        """Count records read at `now`, in epoch seconds."""
        if not understood:
            return
        self.records += len(understood)
        self.understood += sum(understood)
        self.last_at = now
        if all(understood):
            self._misses = 0
            return
        for known in understood:
            self._misses = 0 if known else self._misses + 1

    def judge(self, problem: tuple[SourceState, str] | None) -> bool:
        """Set the source's problem, None for none; return whether state or reason changed."""
        if problem is None and self._misses >= UNPARSED_AFTER:
            problem = ("unparsed", f"none of the last {UNPARSED_AFTER} records is in a known format: is this a syslog?")
        before = (self.state, self.reason)
        if problem is None:
            self.state, self.reason = "ok", None
        else:
            self.state, self.reason = problem
        return before != (self.state, self.reason)

    def report(self) -> SourceReport:
        """Return the health as a report of the contract."""
        return SourceReport(
            name=self.name[:128],
            state=self.state,
            records=self.records,
            understood=self.understood,
            last_at=None if self.last_at is None else utc(self.last_at),
            reason=None if self.reason is None else self.reason[:_LONGEST_REASON],
        )


NOTHING_WATCHED = SourceHealth("none", "missing", "the guard was started with --watch none: it reads no log")
"""The entry of a guard without sources, which never counts as healthy."""


def overall(sources: Sequence[SourceHealth]) -> HealthState:
    """Return `ok` if there are sources and all of them are ok."""
    return "ok" if sources and all(source.state == "ok" for source in sources) else "degraded"


def reports(sources: Sequence[SourceHealth]) -> list[SourceReport]:
    """Return the reports that fit into a heartbeat, first those with a problem."""
    ordered = sorted(sources or [NOTHING_WATCHED], key=lambda source: source.state == "ok")[:_MOST_REPORTED]
    chosen: list[SourceReport] = []
    room = REPORT_BYTES - 2
    for source in ordered:
        report = source.report()
        room -= len(report.body()) + 1
        if room < 0:
            break
        chosen.append(report)
    return chosen
