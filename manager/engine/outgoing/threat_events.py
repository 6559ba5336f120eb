"""Threat events: at most one `threats_reported` event of each organization in each second."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from manager.domain.agents.agent import Agent
from manager.domain.instant import Instant
from manager.engine.batch import ThreatRow
from schemas.fleet import FleetEvent
from schemas.model import iso, utc

_LISTED = 20
"""The maximum number of threats listed in one event; its count includes all."""


@dataclass(slots=True)
class _Gathered:
    """The threats of one organization that no event has announced yet."""

    listed: deque[tuple[ThreatRow, Agent | None]] = field(default_factory=lambda: deque(maxlen=_LISTED))
    severities: Counter[str] = field(default_factory=Counter)


class ThreatEvents:
    """Threats stored since the last events, by organization.

    Args:
        interval: the minimum time between two events of one organization in seconds; the first is published at once.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last = -1e9
        self._gathered: dict[str | None, _Gathered] = {}

    def stored(self, rows: Sequence[ThreatRow], agent_of: Callable[[int], Agent | None]) -> None:
        """Add stored threats; `agent_of` returns the agent with a number, None for a removed one."""
        for row in rows:
            agent = agent_of(row.agent_number)
            organization_id = None if agent is None else agent.organization_id
            gathered = self._gathered.get(organization_id)
            if gathered is None:
                gathered = self._gathered[organization_id] = _Gathered()
            gathered.severities[row.severity] += 1
            gathered.listed.append((row, agent))

    def due(self, now: Instant) -> list[FleetEvent]:
        """Return the events on the gathered threats if they are due, and clear them."""
        if not self._gathered or now.monotonic - self._last < self._interval:
            return []
        self._last = now.monotonic
        events = [_event(organization_id, each, now) for organization_id, each in self._gathered.items()]
        self._gathered.clear()
        return events


def _event(organization_id: str | None, gathered: _Gathered, now: Instant) -> FleetEvent:
    data: dict[str, Any] = {
        "count": gathered.severities.total(),
        "bySeverity": dict(gathered.severities),
        "threats": [_threat_record(row, agent) for row, agent in gathered.listed],
    }
    return FleetEvent(event="threats_reported", at=utc(now.wall), organization_id=organization_id, data=data)


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
