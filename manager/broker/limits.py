"""Resource limits of the embedded broker."""

from dataclasses import dataclass

from schemas.limits import BLOCKLIST_LIMIT, KIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """Bounds on memory, descriptors and rates that clients may use."""

    packet_bytes: int = BLOCKLIST_LIMIT + 200 * KIB
    """The largest packet accepted: the largest message of the contract, its topic and some room. A larger one ends the
    connection."""

    connect_bytes: int = 64 * KIB
    """The largest CONNECT accepted, from a client that is not authenticated yet."""

    connect_seconds: float = 10.0
    """Seconds that a connection may stay open without a complete CONNECT."""

    in_flight: int = 1000
    """QoS 1 messages sent to a client and not acknowledged; well above the engine's batch of 500."""

    queue_bytes: int = 64 * MIB
    """Bytes queued for one client, in flight or not; beyond it the oldest message is dropped, QoS 0 first."""

    queue_messages: int = 200_000
    """Messages queued for one client."""

    connections: int = 10_000
    """Open connections of agents, observers and the manager; another one is refused."""

    connections_per_user: int = 64
    """Open connections of one agent, observer or manager."""

    pending_connections: int = 1_000
    """Open connections without a complete CONNECT; for another one the oldest is closed."""

    registration_connections: int = 96
    """Open connections of registering clients, whose password is public."""

    registration_connections_per_network: int = 48
    """Open connections of registering clients from one IPv4 address or one IPv6 network of 64 bits."""

    registration_seconds: float = 60.0
    """Seconds after which the connection of a registering client is closed."""

    registration_queue_bytes: int = 256 * KIB
    """Bytes queued for one registering client."""

    registration_messages: float = 50.0
    """Messages a second of registering clients from one network."""

    registration_bytes: float = 512 * KIB
    """Bytes a second of registering clients from one network."""

    offline_sessions_per_user: int = 4
    """Stored sessions of one user without a connection; the oldest is deleted for a new one."""

    publish_messages: float = 400.0
    """Messages a second for each rate limit key; the broker reads a client no faster."""

    publish_bytes: float = 4 * MIB
    """Bytes a second for each rate limit key."""

    publish_burst: float = 5.0
    """Seconds over which unused rate accumulates."""

    session_seconds: float = 86_400.0
    """Seconds after which a stored session without a connection is deleted."""

    def __post_init__(self) -> None:
        """Validate the limits: every message must be able to pass."""
        if self.queue_bytes < self.packet_bytes:
            raise ValueError("queue_bytes must hold at least one packet of packet_bytes")
        rates = (self.publish_messages, self.publish_bytes, self.registration_messages, self.registration_bytes)
        if min(*rates, self.publish_burst) <= 0:
            raise ValueError("rates and publish_burst must be above 0")
        if min(self.in_flight, self.queue_messages, self.connections, self.pending_connections) < 1:
            raise ValueError("in_flight, queue_messages, connections and pending_connections must be at least 1")

    @property
    def sockets(self) -> int:
        """Open connections of all kinds."""
        return self.connections + self.pending_connections + self.registration_connections
