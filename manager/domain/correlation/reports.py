"""Inputs of the correlator: reports, settings, and the port to stored history."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from msgspec import Struct

from manager.domain.correlation.incidents import Incident
from manager.domain.correlation.indicators import Indicator, Kind, bit_of, indicators_of

SLACK = 0.0005
"""Seconds. Times are exact to the millisecond, and a float of this age to 0.2 µs: half a millisecond more than each
bound makes `300 s apart` true for every two such times, and `300.001 s` false.
"""

WINDOW = 300 + SLACK
"""Seconds of the sliding window (lifecycle page, "Cross-Agent Correlation"), and by which a report may be late."""

MEMORY = 2 * WINDOW
"""Seconds that are kept in memory: a report on time is at most a window old, so it cannot reach a run that ended more
than two windows ago.
"""


NOT_CORRELATED = -1
"""`Report.ignored` of a report on which the rules failed: it is in no run."""

RESENT = 1 << 30
"""A bit of `ignored` in the row of a report that an agent sent again after a receipt, until the report is decided."""

DATED = 1 << 29
"""A bit of `ignored` in the row of a report that an ingest worker took: its event time is by the sending time that its
request stated, so the offset of its agent's clock corrects nothing.
"""


class Report(Struct, frozen=True, gc=False):
    """A threat report as the correlator's input. Times are seconds since 1970.

    Args:
        agent_id: the reporting agent.
        organization_id: its organization.
        site: its site, if it has one.
        report_id: the threat's id, unique within the agent.
        event_time: event time on the manager's clock, never later than `received`.
        received: when the manager received it.
        source_ip: the attacker's address, as reported.
        file_hash: the malware's hash, as reported.
        technique: the MITRE ATT&CK id, as reported.
        event_time_trusted: False where the agent's clock is unknown and `event_time` is only `received`: such a report
            makes incidents, but never counts for the responder.
        ignored: bits (`indicators.bit_of`) of the indicators that were on the allowlist at the receipt: for them the
            report is in no run, even after a later change of the allowlist.
        vouched: the kinds of indicator whose writer the agent can prove, as bits (`vouching.vouched_bits`).
    """

    agent_id: str
    organization_id: str
    site: str | None
    report_id: str
    event_time: float
    received: float
    source_ip: str | None = None
    file_hash: str | None = None
    technique: str | None = None
    event_time_trusted: bool = True
    ignored: int = 0
    vouched: int = 0

    def indicators(self) -> tuple[Indicator, ...]:
        """Return the indicators of the report; invalid fields are ignored."""
        return indicators_of(self.organization_id, self.site, self.source_ip, self.file_hash, self.technique)

    def correlated(self) -> tuple[Indicator, ...]:
        """Return the indicators for which the report is in a run."""
        if not self.ignored:
            return indicators_of(self.organization_id, self.site, self.source_ip, self.file_hash, self.technique)
        return tuple(each for each in self.indicators() if not self.ignored & bit_of(each, self.technique))

    def refused(self) -> tuple[Indicator, ...]:
        """Return the indicators that were on the allowlist at the receipt."""
        if self.ignored == NOT_CORRELATED:
            return ()
        return tuple(each for each in self.indicators() if self.ignored & bit_of(each, self.technique))


class PastReport(NamedTuple):
    """A stored report of one indicator; `vouched` has the kinds of indicator that it vouches for, as bits."""

    event_time: float
    agent_id: str
    received: float
    trusted: bool
    vouched: int = 0


class Span(NamedTuple):
    """The stored history of an indicator that the correlator is about to read.

    Args:
        indicator: the indicator.
        start: the event time from which on its reports and incidents are read.
        end: the event time up to which its reports are read.
        known: the ids of its incidents in memory.
    """

    indicator: Indicator
    start: float
    end: float
    known: frozenset[str]


class History(Protocol):
    """Port to the stored reports and incidents of one indicator; queried only for what memory does not hold.

    It answers from all that was committed. Reports observed since then are still in memory, as long as a commit comes
    at least every 600 s and before each `Correlator.expire`.
    """

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterable[PastReport]:
        """Return the reports with start ≤ event time < end that are in a run, the newest first, each once.

        Not all of them may be read.
        """
        ...

    def incidents(self, indicator: Indicator, start: float, end: float, /) -> Iterable[Incident]:
        """Return the unmerged incidents whose first to last event time touches start ≤ time < end, as new objects."""
        ...

    def incident_count(self, indicator: Indicator, before: float, known: Collection[str], /) -> int:
        """Return the number of unmerged incidents that were last seen before a time, except the known ones."""
        ...


class NoHistory:
    """Empty history, for rules tried on reports in memory."""

    def reports(self, _indicator: Indicator, _start: float, _end: float, /) -> Iterable[PastReport]:
        """Return nothing."""
        return ()

    def incidents(self, _indicator: Indicator, _start: float, _end: float, /) -> Iterable[Incident]:
        """Return nothing."""
        return ()

    def incident_count(self, _indicator: Indicator, _before: float, _known: Collection[str], /) -> int:
        """Return zero."""
        return 0


def is_late(event_time: float, received: float) -> bool:
    """Return whether a report was received more than a window after its event time."""
    return received - event_time > WINDOW


_FEWEST_AGENTS = 2


@dataclass(frozen=True, slots=True)
class CorrelatorSettings:
    """Number of distinct agents that make an incident, by kind, and bounds of memory.

    Raises:
        ValueError: fewer than two agents, or no room for any indicator.
    """

    source_ip_agents: int = 2
    file_hash_agents: int = 2
    technique_agents: int = 2
    max_watched: int = 100_000
    max_open: int = 50_000

    def __post_init__(self) -> None:
        if min(self.source_ip_agents, self.file_hash_agents, self.technique_agents) < _FEWEST_AGENTS:
            raise ValueError("an incident needs at least 2 distinct agents")
        if min(self.max_watched, self.max_open) < 1:
            raise ValueError("memory must hold at least 1 indicator")

    @property
    def thresholds(self) -> dict[Kind, int]:
        """Number of distinct agents that make an incident, by kind."""
        return {
            "source_ip": self.source_ip_agents,
            "file_hash": self.file_hash_agents,
            "technique": self.technique_agents,
        }
