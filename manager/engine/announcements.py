"""The `threats_reported` events, gathered: one a second under load, at once when it is quiet."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from manager.domain.instant import Instant
from manager.engine.batch import ThreatRow
from schemas.fleet import FleetEvent
from schemas.model import iso, utc

_NEWEST = 20
"""Threats that one event names; it counts them all."""


class Announcements:
    """What was stored since the last event."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last = -1e9
        self._newest: list[dict[str, Any]] = []
        self._severities: Counter[str] = Counter()

    def stored(self, rows: Sequence[ThreatRow], names: dict[int, tuple[str, str]]) -> None:
        """Take note of stored threats; `names` has agent id and hostname by agent number."""
        for row in rows:
            self._severities[row.severity] += 1
        for row in rows[-_NEWEST:]:
            agent_id, hostname = names.get(row.agent_number, (None, None))
            self._newest.append(
                {
                    "id": row.threat_id,
                    "agentId": agent_id,
                    "hostname": hostname,
                    "type": row.type,
                    "severity": row.severity,
                    "sourceIp": row.source_ip,
                    "eventTime": iso(row.event_time),
                }
            )
        del self._newest[:-_NEWEST]

    def due(self, now: Instant) -> FleetEvent | None:
        """Return the event that sums up what was stored, if its time has come."""
        if not self._severities or now.monotonic - self._last < self._interval:
            return None
        self._last = now.monotonic
        data: dict[str, Any] = {
            "count": self._severities.total(),
            "bySeverity": dict(self._severities),
            "threats": self._newest,
        }
        event = FleetEvent(event="threats_reported", at=utc(now.wall), data=data)
        self._severities, self._newest = Counter(), []
        return event
