"""Policy document, effective policy, and the policy digest."""

import hashlib
import ipaddress
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StringConstraints

from schemas.identifiers import AgentId, Label, OrganizationId
from schemas.model import Timestamp, WireModel
from schemas.presence import Count, Digest, Enforced, Mode, PolicyState
from schemas.succession import PublicKey
from schemas.threats import Severity

_LONGEST_DURATION = 10 * 366 * 86_400

SECTIONS = ("thresholds", "blocklist", "allowlist", "monitors", "alerting", "response", "detection", "rules")
"""The sections of the document in order; the digest covers only them."""


def _address(text: str) -> str:
    if "%" in text:
        raise ValueError("an address with a zone is no address of the fleet")
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("this is no IP address or CIDR") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:  # noqa: PLR2004 -- IPv4 in IPv6: 96 bits before the address
        network = ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    whole = network.prefixlen == network.max_prefixlen
    canonical = str(network.network_address) if whole else str(network)
    return text if text == canonical else canonical  # not a second copy of a list of 10,000


Address = Annotated[str, StringConstraints(max_length=64), AfterValidator(_address)]
"""An IP address or a CIDR in canonical form."""

Domain = Annotated[
    str,
    StringConstraints(
        to_lower=True,
        max_length=253,
        pattern=r"^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$",
    ),
]
FileHash = Annotated[
    str, StringConstraints(to_lower=True, pattern=r"^([0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$")
]
"""MD5, SHA-1 or SHA-256, in lower-case hexadecimal."""

ShortText = Annotated[str, StringConstraints(max_length=512)]
Percentage = Annotated[float, Field(ge=0, le=100)]
SecondsLeft = Annotated[float, Field(ge=0, le=1e10)]
"""The time left of an entry at the signing of its message, so that a guard's wrong clock does not change its end."""


class BlockedAddress(WireModel):
    """An address or CIDR that the guard blocks until `expires_at`, or permanently without one."""

    value: Address
    reason: ShortText | None = None
    expires_at: Timestamp | None = None
    incident_id: ShortText | None = None


class BlockedDomain(WireModel):
    """A domain that the guard blocks until `expires_at`, or permanently without one."""

    value: Domain
    reason: ShortText | None = None
    expires_at: Timestamp | None = None
    incident_id: ShortText | None = None


class BlockedHash(WireModel):
    """A file hash that the guard blocks until `expires_at`, or permanently without one."""

    value: FileHash
    reason: ShortText | None = None
    expires_at: Timestamp | None = None
    incident_id: ShortText | None = None


class Thresholds(WireModel):
    """Confidence in percent from which the guard responds automatically, or notifies and waits."""

    auto_respond: Percentage = 85
    notify_and_wait: Percentage = 50


class Blocklist(WireModel):
    """Blocked values; an entry is a bare value or one with reason, expiry and incident."""

    ips: list[Address | BlockedAddress] = Field(default_factory=list)
    domains: list[Domain | BlockedDomain] = Field(default_factory=list)
    file_hashes: list[FileHash | BlockedHash] = Field(default_factory=list)


class Allowlist(WireModel):
    """Values that are never acted upon; takes precedence over the blocklist."""

    ips: list[Address] = Field(default_factory=list)
    processes: list[ShortText] = Field(default_factory=list)
    file_hashes: list[FileHash] = Field(default_factory=list)


Monitor = Literal["log", "network", "process", "file"]


def _all_monitors() -> list[Monitor]:
    return ["log", "network", "process", "file"]


def _advanced(value: object) -> object:
    """Accept `advanced` as a flag, too: `true` becomes `{"enabled": true}`, which guards of every release support."""
    return {"enabled": value} if isinstance(value, bool) else value


class Monitors(WireModel):
    """Enabled monitors, and their settings by name."""

    enabled: list[Monitor] = Field(default_factory=_all_monitors)
    advanced: Annotated[dict[str, JsonValue], BeforeValidator(_advanced)] = Field(default_factory=dict)


TimeOfDay = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""Hours and minutes of a local day, such as 22:00."""


class QuietHours(WireModel):
    """Part of each local day in which people are told only of what cannot wait; it may run over midnight."""

    start: TimeOfDay
    end: TimeOfDay
    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="an IANA name such as Europe/Berlin, or UTC"
    )


class Alerting(WireModel):
    """Lowest severity that is told, the manager's channels that it is told to, and quiet hours for people."""

    minimum_severity: Annotated[Severity, Field(strict=False)] = Severity.MEDIUM
    channels: list[ShortText] = Field(default_factory=list)
    quiet_hours: QuietHours | None = None


class Escalation(WireModel):
    """Repeat-offender rule: number of blocks, and seconds of the longer block."""

    repeat_threshold: int = Field(default=3, ge=1, le=1_000_000)
    repeat_block_duration: int = Field(default=86_400, ge=1, le=31_536_000)


class ResponsePolicy(WireModel):
    """Actions that a guard may take automatically, and the mode that the policy sets, if any."""

    actions: list[ShortText] = Field(default_factory=lambda: ["block_ip", "kill_process", "quarantine_file", "notify"])
    escalation: Escalation = Field(default_factory=Escalation)
    mode: Annotated[Mode, Field(strict=False)] | None = None


class Detection(WireModel):
    """Rule packs, as text."""

    sigma: list[str] = Field(default_factory=list)
    yara: list[str] = Field(default_factory=list)


def _duration(value: object) -> object:
    """Accept a number as seconds: `3600` becomes `"3600s"`, which guards of every release support."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not 1 <= value <= _LONGEST_DURATION:
        raise ValueError(f"a number is in seconds, from 1 to {_LONGEST_DURATION}")
    return f"{round(value)}s"


class Rule(WireModel):
    """One typed rule; the type determines the required members."""

    type: Literal["block_ip", "alert_threshold", "auto_respond", "custom"]
    enabled: bool = True
    rule_id: ShortText | None = None
    value: JsonValue = None
    duration: Annotated[ShortText, BeforeValidator(_duration)] | None = None
    reason: ShortText | None = None
    config: dict[str, JsonValue] | None = None
    condition: JsonValue = None
    action: ShortText | None = None
    severity: Annotated[Severity, Field(strict=False)] | None = None
    description: ShortText | None = None


class PolicyDocument(WireModel):
    """A scope's document as an operator sets it: only the sections and members to change.

    `mode` is published as `response.mode`: so it is in the digest, and guards of earlier releases accept the policy.
    """

    mode: Annotated[Mode, Field(strict=False)] | None = None
    thresholds: Thresholds | None = None
    blocklist: Blocklist | None = None
    allowlist: Allowlist | None = None
    monitors: Monitors | None = None
    alerting: Alerting | None = None
    response: ResponsePolicy | None = None
    detection: Detection | None = None
    rules: list[Rule] | None = None

    def sections(self) -> dict[str, Any]:
        """Return the members that were set, as JSON values in wire names, without defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


_Labels = Annotated[list[Label], Field(max_length=32)]


class GroupSelector(WireModel):
    """Conditions on an agent's tags and site, all of which must hold: all of these tags, any of these, any site."""

    tags_all: _Labels = Field(default_factory=list)
    tags_any: _Labels = Field(default_factory=list)
    sites: _Labels = Field(default_factory=list)


class PolicyGroup(WireModel):
    """A policy group as an operator sets it: the agents that it selects, and their policy.

    Groups apply after the organization's document and before an agent's own: first those without an organization, then
    the organization's own, a lower `priority` first, so that a higher one takes precedence.
    """

    selector: GroupSelector
    priority: int = Field(ge=0, le=1_000_000)
    organization: OrganizationId | None = None
    policy: PolicyDocument

    def document(self) -> dict[str, Any]:
        """Return the members that were set, as JSON values in wire names, without defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


class PolicySections(WireModel):
    """All sections with all values: an effective policy without its header fields."""

    thresholds: Thresholds = Field(default_factory=Thresholds)
    blocklist: Blocklist = Field(default_factory=Blocklist)
    allowlist: Allowlist = Field(default_factory=Allowlist)
    monitors: Monitors = Field(default_factory=Monitors)
    alerting: Alerting = Field(default_factory=Alerting)
    response: ResponsePolicy = Field(default_factory=ResponsePolicy)
    detection: Detection = Field(default_factory=Detection)
    rules: list[Rule] = Field(default_factory=list)


class Policy(PolicySections):
    """An agent's effective policy. Signed; `version_proof` also signs agent, version and digest for heartbeats.

    `seconds_left` is the time left of each blocklist entry with an `expiresAt`, by value, at `sent_at`. It is outside
    the digest, and absent where it would exceed the size limit of a message; then `expiresAt` - `sentAt` counts.
    `organization_id` is the agent's organization, whose blocklist counts; an operator may change it.
    `scope` is the narrowest one that contributed; a policy group counts as `agent`.
    """

    version: Count
    digest: Digest
    updated_at: Timestamp
    scope: Literal["global", "organization", "agent"]
    agent_id: AgentId
    organization_id: OrganizationId | None = None
    expires_at: Timestamp | None = None
    version_proof: Annotated[str, StringConstraints(max_length=128)]
    sent_at: Timestamp | None = None
    seconds_left: dict[str, SecondsLeft] | None = None


class PolicyApplied(WireModel):
    """The result of a policy on an agent: verified, stored and passed to its responder, in part, or not at all."""

    version: Count
    digest: Digest
    state: PolicyState
    error: Annotated[str, StringConstraints(max_length=1024)] | None = None
    sent_at: Timestamp
    enforced: Enforced | None = None
    sign_key: PublicKey | None = Field(
        default=None, description="the newest of the manager's keys that the guard trusts"
    )


def default_sections() -> dict[str, Any]:
    """Return every section with its documented defaults, as JSON values in wire names."""
    return PolicySections().model_dump(mode="json", by_alias=True, exclude_none=True)


def canonical(document: Mapping[str, Any]) -> bytes:
    """Serialise JSON values canonically: sorted keys, no white space, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(document: Mapping[str, Any]) -> str:
    """Return SHA-256, in hexadecimal, of the canonical JSON of the sections in `document`."""
    sections = {name: document[name] for name in SECTIONS if name in document}
    return hashlib.sha256(canonical(sections)).hexdigest()
