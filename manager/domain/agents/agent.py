"""An agent as the manager knows it: identity, credential, state, and what it last said of itself."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from manager.domain.agents.clock_offset import ClockOffset
from schemas.keys import AgentKeys


class State(StrEnum):
    """What an agent is to the fleet; a removed one is in no state, it is gone."""

    ONLINE = "online"
    STALE = "stale"
    OFFLINE = "offline"


class Reason(StrEnum):
    """Why an agent is in its state."""

    REGISTERED = "registered"
    BIRTH = "birth"
    HEARTBEAT = "heartbeat"
    SILENCE = "silence"
    CONNECTION_LOST = "connection_lost"
    SIGNED_OFF = "signed_off"


class Door(StrEnum):
    """The way by which an agent speaks to the manager."""

    MQTT = "mqtt"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Host:
    """What an agent said of its host when it registered."""

    hostname: str
    os: str
    arch: str
    version: str
    site: str | None = None
    tags: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What proves that a message or a request is the agent's; all of it comes from the agent's one secret."""

    secret: bytes
    mac_key: bytes
    mqtt_digest: bytes
    http_digest: bytes

    def __repr__(self) -> str:
        """Never show a key."""
        return "Credential(…)"


@dataclass(frozen=True, slots=True)
class RegistrationStamp:
    """The newest registration: repeated byte for byte it gets the same reply; an older one is refused.

    `sent_at` is the agent's own time, in seconds since 1970.
    """

    sent_at: float
    digest: bytes
    reply: bytes


@dataclass(slots=True)
class Vitals:
    """What the newest heartbeat said."""

    cpu: float | None = None
    memory: float | None = None
    uptime: float | None = None
    mode: str | None = None
    events_processed: int = 0
    events_total: int = 0
    threats_detected: int = 0
    actions_executed: int = 0
    outbox_size: int | None = None
    outbox_dropped: int | None = None


@dataclass(slots=True)
class InForce:
    """What the agent itself says of its policy: the only word that counts on what is in force."""

    version: int = 0
    digest: str | None = None
    state: str | None = None
    error: str | None = None
    blocklist_sequence: int = 0
    applied_at: float | None = None
    """Since when it says so, on the manager's clock."""
    reported_at: float = 0.0
    """When it spoke the newest word that was heard, on the manager's clock; after a restart, `applied_at`."""

    def update_if_newer(
        self, version: int, digest: str | None, state: str | None, error: str | None, at: float
    ) -> bool:
        """Take a word that may have waited, or come again, unless a newer one was heard; return whether it was news."""
        if version < self.version or at < self.reported_at:
            return False
        return self.update(version, digest, state, error, at)

    def update(self, version: int, digest: str | None, state: str | None, error: str | None, at: float) -> bool:
        """Take the agent's newest word, spoken at `at`; return whether it is another than before."""
        self.reported_at = at
        if (version, digest, state, error) == (self.version, self.digest, self.state, self.error):
            return False
        self.version, self.digest, self.state, self.error, self.applied_at = version, digest, state, error, at
        return True


@dataclass(slots=True)
class Agent:
    """One agent. `number` is its key in the store; times are seconds since 1970 unless named monotonic."""

    number: int
    agent_id: str
    organization_id: str
    host: Host
    credential: Credential
    token_id: str | None
    door: Door
    registered_at: float
    state: State = State.ONLINE
    state_since: float = 0.0
    reason: Reason = Reason.REGISTERED
    session: int = 0
    heartbeat_sequence: int = -1
    last_heartbeat: float | None = None
    heard_monotonic: float = 0.0
    handed_version: int = 0
    handed_digest: str | None = None
    """The newest policy version that an HTTP answer carried; in memory alone."""
    clock: ClockOffset = field(default_factory=ClockOffset)
    stamp: RegistrationStamp | None = None
    vitals: Vitals = field(default_factory=Vitals)
    in_force: InForce = field(default_factory=InForce)

    @property
    def hostname(self) -> str:
        """The host's own name."""
        return self.host.hostname


def credential_of(secret: bytes) -> Credential:
    """Return what verifies an agent's messages (its MAC key) and its logins (SHA-256 of password and token)."""
    keys = AgentKeys.derive(secret)
    return Credential(secret, keys.mac_key, digest(keys.mqtt_password), digest(keys.http_token))


def digest(password: str) -> bytes:
    """Return the SHA-256 by which a password or token of 256 random bits is kept and compared."""
    return hashlib.sha256(password.encode()).digest()
