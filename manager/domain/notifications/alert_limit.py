"""Limit on the events that reports and heartbeats of one agent make, so that none floods the event table."""

from collections import Counter
from enum import Enum
from typing import NamedTuple

from schemas.threats import Severity

MOST_IN_MINUTE = 30
"""The number of events a minute of one agent and class; further reports of it are only counted."""

MOST_OF_HEARTBEATS = 3
"""The number of events a minute of one agent and name that its heartbeats make; usual guards send two a minute."""

_MINUTE = 60.0


class AlertClass(NamedTuple):
    """Reports that share a limit: what is cheap to cause or to forge does not use up the limit of the rest.

    Attributes:
        name: the name of an event on a block or by a heartbeat; None for a login or a threat.
        severity: the severity that the report states; None for an event with a name.
        vouched: whether the guard proves who wrote what the report says.
        by_heartbeat: whether a heartbeat makes the event, and not a report.
    """

    name: str | None = None
    severity: Severity | None = None
    vouched: bool = False
    by_heartbeat: bool = False

    @property
    def most(self) -> int:
        """The number of events a minute of one agent."""
        return MOST_OF_HEARTBEATS if self.by_heartbeat else MOST_IN_MINUTE


class Admission(Enum):
    """Decision on an event."""

    TOLD = "told"
    """It is told by itself."""
    FIRST_BEYOND = "first beyond"
    """It is the first beyond the limit: that there are more is told."""
    COUNTED = "counted"
    """It is only counted."""


class AlertLimit:
    """Counts the events of each agent and class in the current minute."""

    def __init__(self) -> None:
        self._minute = 0.0
        self._told: Counter[tuple[int, AlertClass]] = Counter()

    def admit(self, agent_number: int, alert: AlertClass, monotonic: float) -> Admission:
        """Return whether another event of an agent is told, and count it."""
        minute = monotonic // _MINUTE
        if minute != self._minute:
            self._minute = minute
            self._told.clear()
        self._told[agent_number, alert] += 1
        number = self._told[agent_number, alert]
        if number <= alert.most:
            return Admission.TOLD
        return Admission.FIRST_BEYOND if number == alert.most + 1 else Admission.COUNTED
