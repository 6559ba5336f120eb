"""What one client may cost the embedded broker."""

from dataclasses import dataclass

from schemas.limits import BLOCKLIST_LIMIT, KIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """The bounds that keep a client, or a crowd of them, from filling the broker's memory or its descriptors."""

    packet_bytes: int = BLOCKLIST_LIMIT + 200 * KIB
    """The largest packet taken: the largest message of the contract, its topic and some room. More cuts the client."""

    connect_bytes: int = 64 * KIB
    """The largest CONNECT taken, from somebody nobody knows yet."""

    connect_seconds: float = 10.0
    """How long a connection may stay open without a whole CONNECT."""

    in_flight: int = 1000
    """QoS 1 messages sent to a client and not acknowledged; well above the engine's batch of 500."""

    queue_bytes: int = 64 * MIB
    """What waits for one client, in flight or not; beyond it the oldest goes, QoS 0 first."""

    queue_messages: int = 200_000
    """The same, in messages."""

    connections: int = 10_000
    """Open connections, with or without a CONNECT; one more is closed at once."""

    offline_sessions_per_user: int = 4
    """Stored sessions of one user that are not connected; the oldest makes room."""

    publish_messages: float = 400.0
    """Messages a second that one who pays may publish; beyond them its connections are read no faster."""

    publish_bytes: float = 4 * MIB
    """The same, in bytes."""

    publish_burst: float = 5.0
    """Seconds for which unused ones add up."""

    session_seconds: float = 86_400.0
    """How long a stored session waits for its client."""

    def __post_init__(self) -> None:
        """Refuse limits under which no message could pass."""
        if self.queue_bytes < self.packet_bytes:
            raise ValueError("queue_bytes must hold at least one packet of packet_bytes")
        if min(self.publish_messages, self.publish_bytes, self.publish_burst) <= 0:
            raise ValueError("publish_messages, publish_bytes and publish_burst must be above 0")
        if min(self.in_flight, self.queue_messages, self.connections) < 1:
            raise ValueError("in_flight, queue_messages and connections must be at least 1")
