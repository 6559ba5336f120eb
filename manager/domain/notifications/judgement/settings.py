"""Settings of the judgement: local time of the digest, escalation, and limits on the number of messages."""

from dataclasses import dataclass

from manager.domain.notifications.judgement.quiet_hours import MINUTES, zone_named


@dataclass(frozen=True, slots=True)
class JudgementSettings:
    """Settings of one judged channel; times are in seconds.

    Args:
        zone: the IANA name of the zone of the digest's local time.
        digest_at: the minute of the local day at which the daily digest is due.
        escalate_after: the time after which a group that nobody acknowledged is escalated; None where the channel has
            no second channel.
        most_messages: the maximum number of messages in `limit_window` apart from digests, summaries of a backlog and
            escalations; beyond it groups share messages. Suspicious logins have the same limit again for themselves.
        limit_window: see `most_messages`.
    """

    zone: str = "UTC"
    digest_at: int = 8 * 60
    escalate_after: float | None = None
    most_messages: int = 6
    limit_window: float = 3600.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a value is out of its range, or the zone is unknown.
        """
        if not 0 <= self.digest_at < MINUTES:
            raise ValueError(f"the digest is due at a minute of the day from 0 to {MINUTES - 1}")
        if self.most_messages < 1:
            raise ValueError("at least one message must be allowed")
        zone_named(self.zone)
