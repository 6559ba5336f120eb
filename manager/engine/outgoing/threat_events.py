"""Threat events: gathers stored threats into at most one `threats_reported` event for each second."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from manager.domain.instant import Instant
from manager.engine.batch import ThreatRow
from schemas.fleet import FleetEvent
from schemas.model import iso, utc

_LISTED = 20
"""The maximum number of threats listed in one event; its count includes all."""


class ThreatEvents:
    """Threats stored since the last event.

    Args:
        interval: the minimum time between two events in seconds; the first is published at once.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last = -1e9
        self._listed: deque[tuple[ThreatRow, tuple[str | None, str | None]]] = deque(maxlen=_LISTED)
        self._severities: Counter[str] = Counter()

    def stored(self, rows: Sequence[ThreatRow], names: dict[int, tuple[str, str]]) -> None:
        """Add stored threats; `names` has agent id and hostname by agent number."""
        self._severities.update([row.severity for row in rows])
        self._listed.extend((row, names.get(row.agent_number, (None, None))) for row in rows[-_LISTED:])

    def due(self, now: Instant) -> FleetEvent | None:
        """Return the event on the gathered threats if it is due, and clear them."""
        if not self._severities or now.monotonic - self._last < self._interval:
            return None
        self._last = now.monotonic
        data: dict[str, Any] = {
            "count": self._severities.total(),
            "bySeverity": dict(self._severities),
            "threats": [_threat_record(row, *name) for row, name in self._listed],
        }
        event = FleetEvent(event="threats_reported", at=utc(now.wall), data=data)
        self._severities.clear()
        self._listed.clear()
        return event


def _threat_record(row: ThreatRow, agent_id: str | None, hostname: str | None) -> dict[str, Any]:
    return {
        "id": row.threat_id,
        "agentId": agent_id,
        "hostname": hostname,
        "type": row.type,
        "severity": row.severity,
        "sourceIp": row.source_ip,
        "eventTime": iso(row.event_time),
    }
