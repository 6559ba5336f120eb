"""Builds presence messages (birth, sign-off, last will) and heartbeats."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from agent.clock import Clock
from agent.host import Load
from schemas import message_codes
from schemas.model import utc
from schemas.presence import Enforced, HealthState, Heartbeat, Mode, PolicyState, Presence, ReportedLogin, SourceReport
from schemas.topics import HEARTBEAT, PRESENCE


@dataclass(frozen=True, slots=True)
class AppliedPolicy:
    """The applied policy in a heartbeat."""

    version: int
    digest: str
    state: PolicyState
    proof: str


@dataclass(frozen=True, slots=True)
class HeartbeatFields:
    """The heartbeat fields that other parts of the guard provide."""

    events_total: int
    outbox_size: int
    outbox_dropped: int
    policy: AppliedPolicy | None = None
    blocklist_sequence: int | None = None
    health: HealthState | None = None
    sources: list[SourceReport] | None = None
    enforcement: str | None = None
    mode: Mode = Mode.LEARNING
    mode_wanted: Mode | None = None
    trial_seconds_left: float | None = None
    enforced: Enforced | None = None
    logins: list[ReportedLogin] | None = None
    receipt_mark: str | None = None


class PresenceMessages:
    """Builds presence messages and heartbeats for the current session.

    Args:
        clock: The host's clocks.
        started: When the guard was started, on the monotonic clock.
        events_total: Records processed before the guard was started.
        load: Measures the host's load.
    """

    def __init__(self, clock: Clock, started: float, events_total: int, load: Callable[[], Load]) -> None:
        self._clock = clock
        self._started = started
        self._load = load
        self._session = 0
        self._sequence = 0
        self._reported = events_total

    @property
    def uptime(self) -> float:
        """Seconds since the guard was started."""
        return max(0.0, self._clock.monotonic() - self._started)

    def begin(self, session: int) -> None:
        """Start a session."""
        self._session = session
        self._sequence = 0

    def presence(self, agent_id: str, mac_key: bytes, state: Literal["online", "offline", "lost"]) -> bytes:
        """Return a presence message of the current session, with its message code."""
        presence = Presence(
            state=state, session=self._session, sent_at=utc(self._clock.wall()), uptime=round(self.uptime, 3)
        )
        return message_codes.with_mac(mac_key, PRESENCE.below_root(agent_id), presence.body())

    def heartbeat(self, agent_id: str, mac_key: bytes, fields: HeartbeatFields) -> bytes:
        """Return the next heartbeat of the current session, with its message code."""
        load, policy = self._load(), fields.policy
        self._sequence += 1
        heartbeat = Heartbeat(
            cpu=load.cpu,
            memory=load.memory,
            events_processed=max(0, fields.events_total - self._reported),
            events_total=fields.events_total,
            mode=fields.mode,
            mode_wanted=fields.mode_wanted,
            trial_seconds_left=None if fields.trial_seconds_left is None else round(fields.trial_seconds_left, 1),
            uptime=round(self.uptime, 3),
            sent_at=utc(self._clock.wall()),
            session=self._session,
            sequence=self._sequence,
            policy_version=0 if policy is None else policy.version,  # 0: the manager sends one
            policy_digest=None if policy is None else policy.digest,
            policy_state=None if policy is None else policy.state,
            version_proof=None if policy is None else policy.proof,
            blocklist_sequence=fields.blocklist_sequence,
            outbox_size=fields.outbox_size,
            outbox_dropped=fields.outbox_dropped,
            health=fields.health,
            sources=fields.sources,
            enforcement=fields.enforcement,
            enforced=fields.enforced,
            logins=fields.logins,
            receipt_mark=fields.receipt_mark,
        )
        self._reported = fields.events_total
        return message_codes.with_mac(mac_key, HEARTBEAT.below_root(agent_id), heartbeat.body())
