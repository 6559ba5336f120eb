"""Cleanup of retained messages on registration topics, for brokers that cannot forbid the retain flag."""

from manager.mqtt.paho_client import BufferedClient
from schemas.topics import REGISTRATION

REGISTRATIONS = REGISTRATION.filter.removesuffix("+").encode()
"""The prefix of all registration topics."""


class RetainedCleanup:
    """Subscribes briefly to a filter, at each connect and at intervals, so that the broker sends its retained messages.

    The subscription ends at once: live messages that match the filter are the manager's own replies.

    Args:
        topic_filter: None for a broker that retains no messages there.
        interval: seconds.
    """

    def __init__(self, topic_filter: str | None, interval: float) -> None:
        self._filter = topic_filter
        self._interval = interval
        self._next = 0.0
        self._mid: int | None = None
        self.cleared = 0
        """Retained messages cleared from registration topics."""

    def reset(self) -> None:
        """Reset the state for a new connection."""
        self._next, self._mid = 0.0, None

    def tick(self, client: BufferedClient, now: float) -> None:
        """Subscribe when it is due; `now` is on the monotonic clock."""
        if self._filter is not None and now >= self._next:
            self._next = now + self._interval
            self._mid = client.subscribe(self._filter, 0)[1]

    def subscribed(self, client: BufferedClient, mid: int) -> bool:
        """Handle a SUBACK; return whether it is the cleanup's. The subscription ends, whether refused or granted."""
        if mid != self._mid or self._filter is None:
            return False
        self._mid = None
        client.unsubscribe(self._filter)
        return True

    def cleared_topic(self, topic: bytes, payload: bytes, retained: bool) -> str | None:
        """Count a message on a registration topic that is or may be retained; return the topic to clear, or None.

        The retain flag of a live message is not visible to subscribers. An empty payload is the echo of a clearing. The
        message stays unread: a client that is waiting for its reply registers again.
        """
        if not payload or not (retained or b"/" not in topic[len(REGISTRATIONS) :]):
            return None
        self.cleared += 1
        try:
            return topic.decode()
        except UnicodeDecodeError:
            return None
