"""HTTP request bodies of agents: the lifecycle page's payloads and those of earlier clients, with all field names."""

from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from schemas.identifiers import AgentId, Hostname, Label, OrganizationId
from schemas.model import Timestamp, WireModel
from schemas.policy import Percentage
from schemas.presence import Count, Digest, Enforced, HealthState, PolicyState, ReportedLogins, SourceReport, StateWord
from schemas.registration import Text
from schemas.threats import ReceiptMark, ResponseTaken, Severity, Threat, Word

EVENTS_IN_ONE = 1000
"""The maximum number of reports in one request."""

_SOURCE_KEYS = ("sourceIP", "remoteAddress", "src_ip", "source_ip", "attacker_ip", "client_ip")
_HASH_KEYS = ("sha256", "sha1", "md5", "hash", "malwareHash")
_EARLIER_KEYS = frozenset(_SOURCE_KEYS + _HASH_KEYS)
_MILLISECONDS_FROM = 1e11
_LATEST = 253_402_300_799.0
_LONGEST_UPTIME = 1e10

LARGEST_UPTIME = 1000 * _LONGEST_UPTIME
"""The largest uptime of a heartbeat, which may be in milliseconds."""


def _moment(value: object) -> object:
    """Convert a number to a time: seconds since 1970, or milliseconds as in browsers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not 0 <= value <= _LATEST * 1000:
        raise ValueError("this moment lies outside the calendar")
    return value / 1000 if value >= _MILLISECONDS_FROM else value


HttpTime = Annotated[Timestamp, Field(strict=False), BeforeValidator(_moment)]
"""A time in ISO 8601, or a number of seconds or milliseconds since 1970."""


class HttpRegistration(WireModel):
    """Registration over HTTP (lifecycle page, phase 1)."""

    hostname: Hostname
    os: Text
    arch: Text
    version: Text
    organization_id: OrganizationId | None = Field(
        default=None, validation_alias=AliasChoices("organizationId", "org_id", "organization_id")
    )
    ip: Annotated[str, StringConstraints(max_length=64)] | None = None
    tags: list[Label] = Field(default_factory=list, max_length=32)
    site: Label | None = None
    endpoint: Annotated[str, StringConstraints(max_length=1024)] | None = None


class HttpHeartbeat(WireModel):
    """Heartbeat over HTTP, every 30 s; every member is optional (lifecycle page, phase 2).

    `memoryUsageMB` is the guard's own memory in MiB, not the host's. Only the shipped client sends it, and its `uptime`
    is in milliseconds. The members from `sentAt` on are sent by guards of this release.
    """

    cpu: Percentage | None = Field(default=None, validation_alias=AliasChoices("cpu", "cpuUsage"))
    memory: Percentage | None = Field(default=None, validation_alias=AliasChoices("memory", "memUsage"))
    memory_usage_mb: Annotated[float, Field(ge=0)] | None = Field(
        default=None, validation_alias="memoryUsageMB", serialization_alias="memoryUsageMB"
    )
    events_processed: Count | None = None
    threats_detected: Count | None = Field(
        default=None, validation_alias=AliasChoices("threatsDetected", "threatCount")
    )
    actions_executed: Count | None = None
    mode: Word | None = None
    uptime: Annotated[float, Field(ge=0, le=LARGEST_UPTIME)] | None = None
    version: Text | None = None
    policy_version: Count | None = None
    timestamp: HttpTime | None = None
    sent_at: Timestamp | None = None
    events_total: Count | None = None
    policy_digest: Digest | None = None
    policy_state: PolicyState | None = None
    policy_error: Annotated[str, StringConstraints(max_length=1024)] | None = None
    blocklist_sequence: Count | None = None
    outbox_size: Count | None = None
    outbox_dropped: Count | None = None
    mode_wanted: Word | None = None
    trial_seconds_left: Annotated[float, Field(ge=0)] | None = None
    enforced: Enforced | None = None
    health: HealthState | None = None
    sources: Annotated[list[SourceReport], Field(max_length=64)] | None = None
    enforcement: StateWord | None = None
    logins: ReportedLogins | None = None
    receipt_mark: ReceiptMark | None = None

    @property
    def uptime_seconds(self) -> float | None:
        """Uptime in seconds."""
        return uptime_in_seconds(self.uptime, self.memory_usage_mb)


def uptime_in_seconds(uptime: float | None, memory_usage_mb: float | None) -> float | None:
    """Return an uptime in seconds; whole numbers with `memoryUsageMB`, or above 317 years, are milliseconds."""
    if uptime is None:
        return None
    of_shipped_client = memory_usage_mb is not None and uptime.is_integer()
    return uptime / 1000 if of_shipped_client or uptime > _LONGEST_UPTIME else uptime


_SEVERITIES = {severity.value: severity for severity in Severity}
_SEVERITIES |= dict.fromkeys(("info", "informational", "none"), Severity.LOW)
_NO_SEVERITY = "Input should be 'low', 'medium', 'high' or 'critical'"


def _severity(value: object) -> Severity:
    """Convert the severities of earlier clients: upper or lower case, and levels below low."""
    found = _SEVERITIES.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError("enum", _NO_SEVERITY)
    return found


def evidence_of(given: object) -> object:
    """Normalise evidence to an object, and add the contract's names for members named by earlier agents.

    The original names are kept as well; a value that is not an object is stored under `evidence`.
    """
    if not isinstance(given, dict):
        return {} if given is None else {"evidence": given}
    evidence = given
    if _EARLIER_KEYS.isdisjoint(given):
        return evidence
    for ours, names in (("sourceIp", _SOURCE_KEYS), ("fileHash", _HASH_KEYS)):
        if ours not in evidence:
            found = next((given[name] for name in names if isinstance(given.get(name), str)), None)
            if found:
                evidence = {**evidence, ours: found}
    return evidence


HttpSeverity = Annotated[
    Severity, PlainValidator(_severity, json_schema_input_type=Severity), PlainSerializer(str, return_type=str)
]
GivenId = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class HttpThreat(Threat):
    """The lifecycle page's full verdict: type, confidence, evidence of any form (phase 3)."""

    evidence: Annotated[dict[str, JsonValue], BeforeValidator(evidence_of)] = Field(default_factory=dict)
    severity: HttpSeverity = Severity.MEDIUM


class SecurityEvent(WireModel):
    """The `event` of the shipped guard client's reports."""

    id: GivenId | None = None
    timestamp: HttpTime | None = None
    source: str | None = None
    severity: HttpSeverity | None = None
    category: Word | None = None
    description: str | None = None
    raw: JsonValue = None
    host: JsonValue = None
    metadata: JsonValue = None


class Verdict(WireModel):
    """The `verdict` of the shipped guard client's reports."""

    conclusion: Literal["benign", "suspicious", "malicious"]
    confidence: Percentage
    action: Word | None = None


class DetectedEvent(WireModel):
    """One element of `events`; the confidence is between 0 and 1."""

    id: GivenId | None = None
    type: Word
    severity: HttpSeverity
    details: JsonValue = None
    timestamp: HttpTime | None = None
    sigma_rule_id: Word | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


class HttpReport(WireModel):
    """One threat, alone or in `threats`: `event` and `verdict`, or the page's `threat`, `response`, `timestamp`."""

    id: GivenId | None = None
    event: SecurityEvent | None = None
    verdict: Verdict | None = None
    agent_id: AgentId | None = None
    threat: HttpThreat | None = None
    response: Word | ResponseTaken | None = None
    timestamp: HttpTime | None = None


class HttpEvents(HttpReport):
    """The body of a threat report: one report, or several in `events` or `threats`."""

    events: Annotated[list[DetectedEvent], Field(max_length=EVENTS_IN_ONE)] | None = None
    threats: Annotated[list[HttpReport], Field(max_length=EVENTS_IN_ONE)] | None = None
    reported_at: HttpTime | None = None
    sent_at: Timestamp | None = None
    resent: bool | None = Field(
        default=None, description="the agent has receipts for them, and the manager asked for them by a generation"
    )
