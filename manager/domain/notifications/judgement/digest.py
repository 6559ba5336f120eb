"""Digest: the numbers of a day that nobody is told of at once."""

from dataclasses import dataclass, field

from manager.domain.notifications.event import Event, Topic
from manager.domain.notifications.judgement.quiet_hours import next_daily
from manager.domain.notifications.judgement.settings import JudgementSettings

_MOST = 2**53


@dataclass(slots=True)
class Digest:
    """The numbers since the last digest.

    Attributes:
        since: the start of the numbers, in seconds since 1970; None before the first event or tick.
        counts: the numbers by name.
        last: the sequence of the last event that was counted.
    """

    since: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    last: int = 0

    def start(self, now: float) -> None:
        """Start the first day."""
        if self.since is None:
            self.since = now

    def due(self, settings: JudgementSettings) -> float:
        """Return when the digest is due."""
        return next_daily(settings.digest_at, settings.zone, self.since or 0.0)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a number."""
        if number:
            self.counts[name] = self.counts.get(name, 0) + number

    def record(self, event: Event, *, at_once: bool, is_muted: bool) -> None:
        """Count an event; `at_once` if people are told of it apart from the digest, unless it is muted."""
        self.last = event.sequence
        match event.name:
            case "threats_reported":
                self.count("threats", _number(event.data.get("count")))
                self.count("taken", _number(event.data.get("taken")))
            case "incident_response" if event.data.get("state") == "applied":
                self.count("answered")
            case "incident_opened" | "agent_offline" | "agent_registered" | "agent_removed" | "signed_in":
                self.count(event.name)
            case "blocks_added" | "policy_created":
                self.count(event.name)
        if event.topic is Topic.GOT_IN and not is_muted:
            mistyped = event.data.get("type") == "login_after_failures"
            self.count("suspicious" if at_once else "mistyped" if mistyped else "unusual")

    def take(self, now: float) -> dict[str, int]:
        """Return the numbers and start the next day."""
        counts, self.counts, self.since = self.counts, {}, now
        return counts


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else 0
