"""Engine settings: intervals, limits and rules that the engine gets at its start."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from manager.domain.agents.liveness import LivenessTimes
from manager.domain.agents.registry import Takeover
from manager.domain.correlation import CorrelatorSettings
from manager.domain.response import ResponderSettings
from schemas.limits import MIB


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Intervals in seconds, sizes in messages and bytes."""

    sweep_interval: float = 30.0
    write_behind: float = 5.0
    batch_limit: int = 4000
    batch_bytes: int = 2 * MIB
    registrations_in_batch: int = 50
    dead_letters_in_batch: int = 50
    agent_messages: float = 200.0
    agent_bytes: float = 2 * MIB
    burst: float = 10.0
    suspension: float = 60.0
    receipt_interval: float = 1.0
    retry_after: float = 5.0
    policies_in_step: int = 200
    republish_after: float = 10.0
    snapshot_every: float = 10.0
    held_back_after: float = 90.0
    threat_retention: float = 86_400.0
    id_retention: float = 7 * 86_400.0
    history_retention: float = 90 * 86_400.0
    audit_retention: float = 730 * 86_400.0
    offline_retention: float | None = None
    """Seconds after which an agent that signed off is removed; None for never."""
    takeover: Takeover = Takeover.WHEN_OFFLINE
    enrollment_rate: int = 0
    """New agents an hour of a token without limits; 0 for no limit."""
    times: LivenessTimes = field(default_factory=LivenessTimes)
    correlator: CorrelatorSettings = field(default_factory=CorrelatorSettings)
    responder: ResponderSettings = field(default_factory=ResponderSettings)
    own_addresses: tuple[str, ...] = ()
    admin_networks: tuple[str, ...] = ()
    fleet_networks: tuple[str, ...] = ()
    never_interval: float = 60.0
    """The minimum time between two changes of an organization's never list, in seconds."""
    admin_text: str = ""
    """Names the present text of the admin token, without a hint at it."""
    ca_fingerprint: str | None = None
    channels: frozenset[str] = frozenset()
    """The names of the manager's notification channels."""
    channel_organizations: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The organizations of the channels that are limited to some: neither others nor the fleet as a whole use them."""
    boot_id: str = ""
    """Id of the host's boot; if empty (unknown), clock steps before this start are not detected."""
