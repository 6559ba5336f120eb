"""Presence (birth, sign-off, last will), heartbeats, and the manager's presence and keys."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.generations import StoreGeneration
from schemas.limits import LOGINS_IN_HEARTBEAT
from schemas.model import Timestamp, WireModel
from schemas.succession import MOST_LINKS, Succession
from schemas.threats import ReceiptMark

Session = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""Counter of an agent's connections; it never decreases."""

Uptime = Annotated[float, Field(ge=0, le=1e10)]
"""Seconds on the guard's monotonic clock."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal."""


class Mode(StrEnum):
    """Mode of a guard: learning takes no action."""

    LEARNING = "learning"
    PROTECTION = "protection"


class PolicyState(StrEnum):
    """Result of a policy on a guard."""

    APPLIED = "applied"
    PARTIAL = "partial"
    FAILED = "failed"


class Presence(WireModel):
    """An agent's retained state: `online` at birth, `offline` at a clean stop, `lost` as the last will.

    `sent_at` and `uptime` of a will are those of the connect that registered it.
    """

    state: Literal["online", "offline", "lost"]
    session: Session
    sent_at: Timestamp
    uptime: Uptime


HealthState = Literal["ok", "degraded"]
"""Whether all of a guard's sources are ok."""

StateWord = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=r"^[a-z_]+$")]
"""A word of an extensible list: readers accept unknown words."""


class SourceReport(WireModel):
    """The state and the counters of one log that a guard reads, since the guard was started.

    All reports of a heartbeat together have at most 2 KiB.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    state: StateWord = Field(
        description="ok, missing, unreadable, silent, dropping, unparsed, clock, ineffective or stopped"
    )
    records: Count = Field(default=0, description="records that were read")
    understood: Count = Field(default=0, description="records whose format was known")
    last_at: Timestamp | None = Field(default=None, description="when the last record was read")
    reason: Annotated[str, StringConstraints(max_length=512)] | None = None


class Unenforced(WireModel):
    """One desired measure that is not in force, with the reason."""

    value: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    reason: Annotated[str, StringConstraints(max_length=512)]


class Enforced(WireModel):
    """The measures that a guard's host enforces, as reported by its fence.

    An entry of the policy or the blocklist is enforced once `policyVersion` or `blocklistSequence` names its number and
    it is not among the reasons. Where the counts exceed the reasons, an entry that is not listed may be unenforced.
    """

    policy_version: Count | None = Field(default=None, description="of the policy that the fence has taken")
    blocklist_sequence: Count | None = Field(default=None, description="of the blocklist that the fence has taken")
    set: Count = Field(default=0, description="measures that the kernel has, including the guard's own")
    ineffective: Count = Field(default=0, description="measures that the kernel has while the address gets through")
    refused: Count = 0
    impossible: Count = 0
    failed: Count = 0
    reasons: Annotated[list[Unenforced], Field(max_length=5)] = Field(
        default_factory=list, description="of those that do not hold, the newest first"
    )


class ReportedLogin(WireModel):
    """A successful login at the host, from a record whose writer the guard can prove."""

    source_ip: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    user: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    at: Timestamp = Field(description="on the agent's clock")
    guessed: bool = Field(default=False, description="it follows so many failures that the password looks guessed")


ReportedLogins = Annotated[list[ReportedLogin], Field(max_length=LOGINS_IN_HEARTBEAT)]
"""The newest logins of a user from an address; each is repeated in three heartbeats, because one may be lost."""


class Heartbeat(WireModel):
    """An agent's heartbeat, every 30 s.

    `sequence` increases within a session, so a replayed heartbeat has no effect; `events_total` includes the counts of
    lost heartbeats.
    """

    cpu: float = Field(ge=0, le=100, description="percent of all cores")
    memory: float = Field(ge=0, le=100, description="percent")
    events_processed: Count = Field(description="since the last heartbeat")
    events_total: Count | None = Field(default=None, description="since the guard was first started")
    mode: Mode = Field(description="the effective mode")
    mode_wanted: Mode | None = Field(default=None, description="the mode that the policy or the host asks for")
    trial_seconds_left: float | None = Field(
        default=None, ge=0, description="seconds until an unconfirmed protection falls back to learning"
    )
    uptime: Uptime
    sent_at: Timestamp
    session: Session
    sequence: Count
    policy_version: Count | None = None
    policy_digest: Digest | None = None
    policy_state: PolicyState | None = None
    version_proof: Annotated[str, StringConstraints(max_length=128)] | None = None
    blocklist_sequence: Count | None = None
    outbox_size: Count | None = None
    outbox_dropped: Count | None = None
    health: HealthState | None = None
    sources: Annotated[list[SourceReport], Field(max_length=64)] | None = None
    enforcement: StateWord | None = Field(
        default=None, description="nftables, route, simulated or impossible; a guard that does not say is unknown"
    )
    enforced: Enforced | None = None
    logins: ReportedLogins | None = Field(default=None, description="absent in guards that do not report logins")
    receipt_mark: ReceiptMark | None = Field(default=None, description="of the guard's latest receipt that has one")


class ManagerPresence(WireModel):
    """Whether a manager is connected; managers that share a broker by mistake detect each other by this message.

    Managers before 0.2 send neither `store_id` nor `instance` nor `since`.
    """

    state: Literal["online", "offline"]
    version: str
    sent_at: Timestamp
    store_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """The id of the manager's store; a copied data directory has the same id."""

    instance: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """The id of the manager's process, new at each start."""

    since: Timestamp | None = None
    """The start time of the process."""

    epoch: Count | None = None
    """The number of its leadership, where several managers may have one store; a successor has a higher one."""


class ManagerKeys(WireModel):
    """The manager's public keys, base64url, signed by `sign_key`.

    A guard trusts them if `sign_key` is the key that its token names, or a successor of it by `successions`.
    """

    sign_key: Annotated[str, StringConstraints(min_length=43, max_length=43)]
    seal_key: Annotated[str, StringConstraints(min_length=43, max_length=43)]
    sent_at: Timestamp | None = None
    accepts: Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=64)]], Field(max_length=64)] = (
        Field(
            default_factory=list,
            description="what the manager takes beyond the first release, such as `threats.batch`; readers ignore "
            "unknown words",
        )
    )
    successions: Annotated[list[Succession], Field(max_length=MOST_LINKS)] | None = Field(
        default=None, description="the rotations of the signing key whose 30 days have not ended, oldest first"
    )
    generation: StoreGeneration | None = Field(
        default=None, description="the generation of the store; absent in managers that do not ask for reports again"
    )
