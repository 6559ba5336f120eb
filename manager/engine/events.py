"""Events of a batch: rows of the event table, and events for watchers alone."""

from dataclasses import dataclass
from typing import NamedTuple

from schemas.fleet import FleetEvent
from schemas.threats import Severity


@dataclass(slots=True)
class EventRow:
    """A fleet event that is published after the commit.

    Attributes:
        event: The event as it is published.
        at: When it happened, in seconds since 1970.
        severity: Its severity; None for an event that is not stored.
        site: The site of its agent.
        alerting: The channels and quiet hours that the policy in force chose, as JSON; None where it chose none.
        body: The event as it is published, in bytes.
        sequence: Its sequence in the event table, after the commit; None for an event that is not stored.
    """

    event: FleetEvent
    at: float
    severity: Severity | None = None
    site: str | None = None
    alerting: str | None = None
    sequence: int | None = None
    body: bytes = b""

    def __post_init__(self) -> None:
        """Serialize the event once for the broker, the event stream and the table."""
        self.body = self.event.body()


class StoredEvent(NamedTuple):
    """An event as the event table holds it; `document` is its JSON."""

    sequence: int
    name: str
    organization_id: str | None
    document: str
