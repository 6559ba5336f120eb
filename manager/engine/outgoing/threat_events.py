"""Threat events: at most one `threats_reported` event of each organization in each second, stored with its batch."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from manager.domain.agents.agent import Agent
from manager.engine.batch import Batch, ThreatRow
from schemas.fleet import FleetEvent
from schemas.model import iso, utc
from schemas.threats import Severity

_LISTED = 20
"""The maximum number of threats listed in one event; its count includes all."""

_NAME = "threats_reported"


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
        self._waiting: list[ThreatRow] = []
        """New threats that no event has announced yet."""
        self._agents: dict[int, Agent | None] = {}
        """The agents that reported them, by number."""
        self._outcomes: dict[tuple[int, str], str | None] = {}
        """The outcomes of the measures against them, by agent number and report id; most have none."""
        self._taken: list[ThreatRow] = []
        """Those that waited before the last batch, followed by its own."""
        self._taken_before = 0
        """The number of the former."""

    def announce(self, batch: Batch) -> None:
        """Add the threats of a batch, and its events if they are due; called once for each batch, before its commit."""
        self._taken, self._taken_before, self._before = self._waiting, len(self._waiting), self._last
        changes, now = batch.changes, batch.now
        if not changes.new_threats and not self._waiting:
            return
        self.add(batch)
        if now.monotonic - self._last < self._interval:
            return
        reported, self._waiting, self._last = self._waiting, [], now.monotonic
        organizations = {
            number: None if agent is None else agent.organization_id for number, agent in self._agents.items()
        }
        by_organization: dict[str | None, list[ThreatRow]] = defaultdict(list)
        for row in reported:
            by_organization[organizations[row.agent_number]].append(row)
        for organization_id, threats in by_organization.items():
            data = self._data(threats)
            severity = max(data["bySeverity"], key=_LEVELS.index)
            event = FleetEvent(event=_NAME, at=utc(now.wall), organization_id=organization_id, data=data)
            batch.add_event(event, severity=Severity(severity))

    def take_back(self, batch: Batch) -> None:
        """Undo `announce` for a batch that the store rejects: it may store fewer threats than the events count."""
        del self._taken[self._taken_before :]
        self._waiting, self._last = self._taken, self._before
        batch.changes.events = [row for row in batch.changes.events if row.event.event != _NAME]

    def add(self, batch: Batch) -> None:
        """Add the threats of a batch to those that wait, without announcing them."""
        rows, measures = batch.changes.new_threats, batch.changes.measures
        if not self._waiting:
            self._agents, self._outcomes = {}, {}
        self._waiting += rows
        self._agents |= {number: self._agent_of(number) for number in {row.agent_number for row in rows}}
        self._outcomes |= {key: measure.outcome for key, (measure, _) in measures.items()}

    def _data(self, threats: list[ThreatRow]) -> dict[str, Any]:
        outcomes, agents = self._outcomes, self._agents
        taken = sum(outcomes.get((row.agent_number, row.threat_id)) == "taken" for row in threats) if outcomes else 0
        return {
            "count": len(threats),
            "taken": taken,
            "bySeverity": dict(Counter([row.severity for row in threats])),
            "threats": [_threat_record(row, agents[row.agent_number]) for row in threats[-_LISTED:]],
        }


_LEVELS = [each.value for each in Severity]


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
