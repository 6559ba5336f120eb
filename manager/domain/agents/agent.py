"""The agent record: identity, credential, state, vitals, policy in force.

A fleet has many records of these kinds. They refer to nothing that refers back, so they do without the header that
Python's collector of cyclic garbage needs in each object (`gc=False`).
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from hmac import compare_digest
from typing import Literal

from msgspec import Struct, field

from manager.domain.agents.clock_offset import ClockOffset, Untimely
from manager.domain.agents.condition import Condition
from manager.domain.agents.host import Host
from manager.domain.agents.shared_values import sharing
from schemas.keys import AgentKeys


class State(StrEnum):
    """Liveness state of an agent; a removed agent has none."""

    ONLINE = "online"
    STALE = "stale"
    OFFLINE = "offline"


class Reason(StrEnum):
    """Cause of the last state change."""

    REGISTERED = "registered"
    BIRTH = "birth"
    HEARTBEAT = "heartbeat"
    SILENCE = "silence"
    CONNECTION_LOST = "connection_lost"
    SIGNED_OFF = "signed_off"


class Door(StrEnum):
    """Transport by which an agent reaches the manager."""

    MQTT = "mqtt"
    HTTP = "http"


_SECRET = 32
_MAC_KEY = 32
_SEALED = _SECRET + _MAC_KEY


class Credential(Struct, eq=False, gc=False):
    """Keys that verify an agent's messages and HTTP requests; all are derived from the agent's secret."""

    keys: bytes
    """The secret, the MAC key and the HTTP token's SHA-256, in one object: a fleet has many of them."""
    is_stored: bool = False
    """Whether the store has it; it is written once. Equal credentials may differ in it."""

    def __eq__(self, other: object) -> bool:
        """Return whether the keys are equal."""
        return isinstance(other, Credential) and compare_digest(self.keys, other.keys)

    __hash__ = None  # type: ignore[assignment]  # as of any record that changes

    @property
    def secret(self) -> bytes:
        """The agent's secret."""
        return self.keys[:_SECRET]

    @property
    def mac_key(self) -> bytes:
        """The key of the agent's message codes."""
        return self.keys[_SECRET:_SEALED]

    @property
    def sealed_part(self) -> bytes:
        """The secret and the MAC key, which the store has encrypted."""
        return self.keys[:_SEALED]

    @property
    def http_digest(self) -> bytes:
        """The SHA-256 of the HTTP token."""
        return self.keys[_SEALED:]

    @property
    def mqtt_digest(self) -> bytes:
        """The SHA-256 of the MQTT password."""
        return digest(AgentKeys.derive(self.secret).mqtt_password)

    def __repr__(self) -> str:
        """Return a text without the keys."""
        return "Credential(…)"


@dataclass(frozen=True, slots=True)
class RegistrationStamp:
    """The agent's newest registration. A repetition gets the same reply; an older registration is refused.

    `sent_at` is the agent's own time, in seconds since 1970.
    """

    sent_at: float
    digest: bytes
    reply: bytes


STAMP_IN_STORE = RegistrationStamp(0.0, b"", b"")
"""Stands for a stamp that is in the store and not in memory; it is read before the registry looks at it."""


LARGEST_COUNT = 2**53 - 1
"""The maximum count of the wire contract, which every JSON parser reads exactly."""


class Vitals(Struct, gc=False):
    """The values of the newest heartbeat."""

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
    counts_stated: bool = False
    """Whether the agent states `threats_detected` and `actions_executed` itself; in memory only."""
    sources: str | None = "[]"
    """JSON of the source reports, at most `SOURCES_LIMIT` bytes; None where they are in the store and not in memory."""

    def count_events(self, processed: int, total: int | None) -> None:
        """Update the counts from a heartbeat; without a total the processed events are added up, within the limit."""
        self.events_processed = processed
        self.events_total = min(self.events_total + processed, LARGEST_COUNT) if total is None else total


class StatedPolicy(Struct, frozen=True, gc=False):
    """A policy that an agent states, and its state there; a fleet has one object of equal ones."""

    version: int = 0
    digest: str | None = None
    state: str | None = None
    error: str | None = None

    def shared(self) -> "StatedPolicy":
        """Return an equal statement, of which the fleet has one object."""
        return _shared_statement(self)


def _length_of_statement(stated: StatedPolicy) -> int:
    return len(stated.digest or "") + len(stated.error or "")


_shared_statement = sharing(_length_of_statement)


class InForce(Struct, gc=False):
    """The policy in force according to the agent's own statement."""

    stated: StatedPolicy = StatedPolicy()
    blocklist_sequence: int = 0
    applied_at: float | None = None
    """The time since which the agent has reported this policy, on the manager's clock."""
    reported_at: float = 0.0
    """The time of the newest accepted statement on the manager's clock; after a restart it equals `applied_at`."""

    @classmethod
    def of(
        cls, version: int, digest: str | None = None, state: str | None = None, *, error: str | None = None,
        blocklist_sequence: int = 0, applied_at: float | None = None,
    ) -> "InForce":  # fmt: skip
        """Return a policy in force as it is after a restart."""
        return cls(
            StatedPolicy(version, digest, state, error).shared(), blocklist_sequence, applied_at, applied_at or 0.0
        )

    @property
    def version(self) -> int:
        """The version of the policy; 0 before the first statement."""
        return self.stated.version

    @property
    def digest(self) -> str | None:
        """The policy's digest."""
        return self.stated.digest

    @property
    def state(self) -> str | None:
        """The policy's state on the agent."""
        return self.stated.state

    @property
    def error(self) -> str | None:
        """The reason why it is not applied as a whole."""
        return self.stated.error

    def restate(self, state: str | None, error: str | None) -> None:
        """Set the state of the policy on the agent."""
        if (state, error) != (self.state, self.error):
            self.stated = StatedPolicy(self.version, self.digest, state, error).shared()

    def shift(self, seconds: float) -> None:
        """Shift the times by a step of the manager's clock, so that later statements stay newer."""
        self.reported_at += seconds

    def update_if_newer(
        self, version: int, digest: str | None, state: str | None, error: str | None, at: float
    ) -> bool:
        """Update from a statement that may be old or repeated, unless a newer one is known; return whether it was."""
        if version < self.version or at < self.reported_at:
            return False
        return self.update(version, digest, state, error, at)

    def update(self, version: int, digest: str | None, state: str | None, error: str | None, at: float) -> bool:
        """Update from the agent's newest statement, made at `at`; return whether anything changed."""
        self.reported_at = at
        stated = StatedPolicy(version, digest, state, error)
        if stated == self.stated:
            return False
        self.stated, self.applied_at = stated.shared(), at
        return True


OperatorSet = Literal["tags", "site"]
"""A member of an agent that an operator may set."""


class Agent(Struct, gc=False):
    """One agent. `number` is its primary key in the store; times are seconds since 1970 unless named monotonic."""

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
    started: float | None = None
    """Start of the process that sent its last message, by that one's clock; of several instances the clones' rules know
    more. Kept in memory only."""
    handed_version: int = 0
    handed_digest: str | None = None
    """Digest of the newest policy version that an HTTP answer carried; kept in memory only."""
    clock: ClockOffset = field(default_factory=ClockOffset)
    untimely: Untimely | None = None
    """The newest report, if it does not count because of its time; kept in memory only."""
    reports_logins: bool = False
    """Whether a heartbeat since the manager's start reported logins, even none; kept in memory only."""
    is_watched: bool = False
    """Whether the liveness rules will look at it by themselves; kept in memory only."""
    stamp: RegistrationStamp | None = None
    vitals: Vitals = field(default_factory=Vitals)
    in_force: InForce = field(default_factory=InForce)
    condition: Condition = Condition()
    operator_set: frozenset[OperatorSet] = frozenset()
    """The members that an operator set; a registration does not change them."""
    registered_in: str | None = None
    """The organization that its registrations name, if an operator has moved it; None for an agent never moved."""

    @property
    def hostname(self) -> str:
        """The host's name."""
        return self.host.hostname


def lasting_values(agent: Agent) -> tuple[object, ...]:
    """Return those values of an agent that a heartbeat states and seldom changes."""
    condition, force = agent.condition, agent.in_force
    return (
        agent.host, agent.vitals.mode, condition.health, condition.enforcement, condition.mode_wanted,
        condition.enforced, force.stated, force.blocklist_sequence,
    )  # fmt: skip


def credential_of(secret: bytes) -> Credential:
    """Derive the MAC key and the SHA-256 of the HTTP token from an agent's secret."""
    keys = AgentKeys.derive(secret)
    return Credential(secret + keys.mac_key + digest(keys.http_token))


def digest(password: str) -> bytes:
    """Return the SHA-256 of a password or token that has 256 random bits."""
    return hashlib.sha256(password.encode()).digest()
