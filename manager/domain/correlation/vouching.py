"""Vouched reports: which agents can prove who wrote the indicator that they reported (the contract, section 5)."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from manager.domain.correlation.incidents import Incident, IncidentChange
from manager.domain.correlation.indicators import Indicator, Kind
from manager.domain.correlation.reports import MEMORY, PastReport, Report, is_late

_KEYS: dict[Kind, tuple[str, int]] = {"source_ip": ("sourceIp", 1), "file_hash": ("fileHash", 2)}
"""The key of the evidence and the bit of each kind that can be vouched for; techniques never leave their agents."""


def vouched_bits(keys: Collection[str] | None) -> int:
    """Return the kinds of indicator that a report vouches for, as bits: 1 the source address, 2 the file hash."""
    return sum(bit for key, bit in _KEYS.values() if key in keys) if keys else 0


class _Vouch(NamedTuple):
    indicator: Indicator
    agent_id: str


class VouchedReports:
    """Latest vouched report of each agent and indicator, until the agent counts as vouching in an incident.

    Args:
        most: number of pairs of agent and indicator; the least recently renewed goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._latest: OrderedDict[_Vouch, float] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of pairs of agent and indicator."""
        return len(self._latest)

    def record(self, indicator: Indicator, report: Report) -> None:
        """Record a report if it counts for the responder and vouches for the indicator."""
        if report.vouched and report.event_time_trusted and not is_late(report.event_time, report.received):
            self._record(indicator, report.agent_id, report.event_time, report.vouched)

    def record_loaded(self, indicator: Indicator, report: PastReport) -> None:
        """Record a report that was read from the store, and counts, if it vouches for the indicator."""
        if report.vouched:
            self._record(indicator, report.agent_id, report.event_time, report.vouched)

    def _record(self, indicator: Indicator, agent_id: str, time: float, vouched: int) -> None:
        if not vouched & _KEYS.get(indicator.kind, ("", 0))[1]:
            return
        key = _Vouch(indicator, agent_id)
        self._latest[key] = max(time, self._latest.get(key, time))
        self._latest.move_to_end(key)
        if len(self._latest) > self._most:
            self._latest.popitem(last=False)

    def mark(self, changes: Iterable[IncidentChange], reporter: str, now: float) -> Iterable[IncidentChange]:
        """Mark the actionable agents that vouched in the incident's run; return the changes, which name them.

        Args:
            changes: the changes of one indicator's incidents by one report.
            reporter: the reporting agent.
            now: the time; a report older than 600 s vouches no more, as after a restart.
        """
        return [self._mark(change, reporter, now) for change in changes] if self._latest else changes

    def shift(self, seconds: float) -> None:
        """Move all times by a step of the manager's clock."""
        for key in self._latest:
            self._latest[key] += seconds

    def expire(self, now: float) -> None:
        """Drop what vouches no more."""
        while self._latest and next(iter(self._latest.values())) < now - MEMORY:
            self._latest.popitem(last=False)

    def _mark(self, change: IncidentChange, reporter: str, now: float) -> IncidentChange:
        incident = change.incident
        if change.is_further_report and _Vouch(incident.indicator, reporter) not in self._latest:
            return change
        newly = tuple(
            agent_id
            for agent_id in sorted({reporter, *change.actionable})
            if incident.members.get(agent_id) and self._take(incident, agent_id, now)
        )
        incident.vouched.update(newly)
        return replace(change, vouched=newly) if newly else change

    def _take(self, incident: Incident, agent_id: str, now: float) -> bool:
        """Return whether an agent vouches in an incident from now on, and drop what shows it."""
        key = _Vouch(incident.indicator, agent_id)
        latest = self._latest.get(key)
        if latest is None or latest < now - MEMORY or not incident.first_seen_at <= latest <= incident.last_seen_at:
            return False
        del self._latest[key]
        return agent_id not in incident.vouched
