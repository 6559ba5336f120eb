"""Threat events: at most one `threats_reported` event of each organization in each second, stored with its batch."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from manager.domain.agents.agent import Agent
from manager.engine.batch import Batch, ThreatRow
from schemas.fleet import FleetEvent
from schemas.model import iso, utc
from schemas.threats import Severity

_LISTED = 20
"""The maximum number of threats listed in one event; its count includes all."""

_NAME = "threats_reported"


class _Reported(Struct, frozen=True, gc=False):
    """A new threat that no event has announced yet, with the outcome of the measure against it, if there was one."""

    row: ThreatRow
    agent: Agent | None
    outcome: str | None


class ThreatEvents:
    """Announces the threats of each batch, and those that were not due before.

    Args:
        interval: the minimum time between two events of one organization in seconds; the first is published at once.
        agent_of: returns the agent with a number, None for a removed one.
    """

    def __init__(self, interval: float, agent_of: Callable[[int], Agent | None]) -> None:
        self._interval = interval
        self._agent_of = agent_of
        self._last = self._before = -1e9
        self._waiting: list[_Reported] = []
        self._taken: list[_Reported] = []
        """Those that waited before the last batch, followed by its own."""
        self._taken_before = 0
        """The number of the former."""

    def announce(self, batch: Batch) -> None:
        """Add the threats of a batch, and its events if they are due; called once for each batch, before its commit."""
        self._taken, self._taken_before, self._before = self._waiting, len(self._waiting), self._last
        changes, now = batch.changes, batch.now
        if not changes.new_threats and not self._waiting:
            return
        reported = self._waiting
        reported += self._reported(batch)
        if now.monotonic - self._last < self._interval:
            return
        self._waiting, self._last = [], now.monotonic
        by_organization: dict[str | None, list[_Reported]] = defaultdict(list)
        for each in reported:
            by_organization[None if each.agent is None else each.agent.organization_id].append(each)
        for organization_id, threats in by_organization.items():
            data, severity = _data(threats), max((each.row.severity for each in threats), key=_LEVELS.index)
            event = FleetEvent(event=_NAME, at=utc(now.wall), organization_id=organization_id, data=data)
            batch.add_event(event, severity=Severity(severity))

    def take_back(self, batch: Batch) -> None:
        """Undo `announce` for a batch that the store rejects: it may store fewer threats than the events count."""
        del self._taken[self._taken_before :]
        self._waiting, self._last = self._taken, self._before
        batch.changes.events = [row for row in batch.changes.events if row.event.event != _NAME]

    def add(self, batch: Batch) -> None:
        """Add the threats of a batch that was committed without them having been announced."""
        self._waiting += self._reported(batch)

    def _reported(self, batch: Batch) -> list[_Reported]:
        """Return the threats of a batch; most batches have no measure."""
        changes, agent_of = batch.changes, self._agent_of
        outcomes = {key: measure.outcome for key, (measure, _) in changes.measures.items()}
        if not outcomes:
            return [_Reported(row, agent_of(row.agent_number), None) for row in changes.new_threats]
        return [
            _Reported(row, agent_of(row.agent_number), outcomes.get((row.agent_number, row.threat_id)))
            for row in changes.new_threats
        ]


_LEVELS = [each.value for each in Severity]


def _data(threats: list[_Reported]) -> dict[str, Any]:
    outcomes = Counter(each.outcome for each in threats if each.outcome is not None)
    return {
        "count": len(threats),
        "taken": outcomes["taken"],
        "bySeverity": dict(Counter(each.row.severity for each in threats)),
        "threats": [_threat_record(each.row, each.agent) for each in threats[-_LISTED:]],
    }


def _threat_record(row: ThreatRow, agent: Agent | None) -> dict[str, Any]:
    return {
        "id": row.threat_id,
        "agentId": None if agent is None else agent.agent_id,
        "hostname": None if agent is None else agent.hostname,
        "type": row.type,
        "severity": row.severity,
        "sourceIp": row.source_ip,
        "eventTime": iso(row.event_time),
    }
