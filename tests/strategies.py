"""Hypothesis strategies for every message of the topic table, and for the ids and values in them."""

from datetime import UTC
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas.blocklist import BlocklistChange, BlocklistEntry, BlocklistSnapshot
from schemas.fleet import FleetEvent
from schemas.generations import LARGEST_GENERATION, LONGEST_SPREAD, StoreGeneration
from schemas.model import WireModel
from schemas.policy import (
    Alerting,
    Allowlist,
    BlockedAddress,
    BlockedDomain,
    BlockedHash,
    Blocklist,
    Detection,
    Escalation,
    Monitors,
    Policy,
    PolicyApplied,
    ResponsePolicy,
    Rule,
    Thresholds,
)
from schemas.presence import Heartbeat, ManagerKeys, ManagerPresence, Mode, PolicyState, Presence
from schemas.registration import Registration, RegistrationReply, Rejection
from schemas.threats import Deferral, Receipt, Refusal, ResponseTaken, Severity, Threat, ThreatReport, ThreatReportBatch

Model = TypeVar("Model", bound=WireModel)

_HEX = "0123456789abcdef"
_DIGITS = "0123456789"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_ALPHANUMERIC = _DIGITS + _LOWER + _LOWER.upper()


def words(alphabet: str, longest: int = 64) -> SearchStrategy[str]:
    """Return texts of 1 to `longest` characters of an alphabet."""
    return st.text(alphabet, min_size=1, max_size=longest)


def hexadecimal(length: int) -> SearchStrategy[str]:
    """Return lower-case hexadecimal of one length."""
    return st.text(_HEX, min_size=length, max_size=length)


def maybe(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Return `values`, or None: a member that is not set."""
    return st.none() | values


agent_ids = hexadecimal(16).map("ag-".__add__)
client_ids = hexadecimal(32)
# Names that the topic table uses itself are ids like any other.
organization_ids = st.sampled_from(["default", "blocklist", "changes", "organizations", ".", ".."]) | words(
    _ALPHANUMERIC + "._-"
)
event_names = words(_LOWER + "_")
token_ids = words(_ALPHANUMERIC + "_-")
threat_ids = words(_ALPHANUMERIC + "._:-")
labels = words(_ALPHANUMERIC + "._:@-")

IDENTIFIERS: dict[str, SearchStrategy[str]] = {
    "agentId": agent_ids,
    "clientId": client_ids,
    "organizationId": organization_ids,
    "event": event_names,
}
"""Valid ids by the placeholder they stand for."""

counts = st.integers(0, 2**53 - 1)
percentages = st.floats(0, 100)
seconds = st.floats(0, 1e10)
moments = st.datetimes(timezones=st.just(UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
hostnames = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="/+#"), min_size=1, max_size=40
)
digests = hexadecimal(64)
proofs = words(_ALPHANUMERIC + "_-", 86)
public_keys = st.text(_ALPHANUMERIC + "_-", min_size=43, max_size=43)

json_values: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)

addresses = st.ip_addresses().map(str)
domains = st.lists(words(_LOWER + _DIGITS, 12), min_size=1, max_size=3).map(".".join)
file_hashes = st.sampled_from([32, 40, 64]).flatmap(hexadecimal)


def messages(model: type[Model], **members: SearchStrategy[Any]) -> SearchStrategy[Model]:
    """Return messages of a model with these members, by their names in Python.

    Not `st.builds`, which would also guess values for the wire names in the signature of the model.
    """
    return st.fixed_dictionaries(members).map(lambda drawn: model(**drawn))


def _few(values: SearchStrategy[Any]) -> SearchStrategy[list[Any]]:
    return st.lists(values, max_size=3)


_entry_head = {"reason": maybe(texts), "expires_at": maybe(moments), "incident_id": maybe(texts)}

thresholds = messages(Thresholds, auto_respond=percentages, notify_and_wait=percentages)
blocklists = messages(
    Blocklist,
    ips=_few(addresses | messages(BlockedAddress, value=addresses, **_entry_head)),
    domains=_few(domains | messages(BlockedDomain, value=domains, **_entry_head)),
    file_hashes=_few(file_hashes | messages(BlockedHash, value=file_hashes, **_entry_head)),
)
allowlists = messages(Allowlist, ips=_few(addresses), processes=_few(texts), file_hashes=_few(file_hashes))
monitors = messages(
    Monitors, enabled=_few(st.sampled_from(["log", "network", "process", "file"])), advanced=json_objects
)
alerting = messages(Alerting, minimum_severity=st.sampled_from(Severity), channels=_few(texts))
responses = messages(
    ResponsePolicy,
    actions=_few(texts),
    escalation=messages(
        Escalation,
        repeat_threshold=st.integers(1, 1_000_000),
        repeat_block_duration=st.integers(1, 31_536_000),
    ),
)
detections = messages(Detection, sigma=_few(texts), yara=_few(texts))
rules = messages(
    Rule,
    type=st.sampled_from(["block_ip", "alert_threshold", "auto_respond", "custom"]),
    enabled=st.booleans(),
    rule_id=maybe(texts),
    value=json_values,
    duration=maybe(texts),
    config=maybe(json_objects),
    condition=json_values,
    severity=maybe(st.sampled_from(Severity)),
)

SECTIONS: dict[str, SearchStrategy[Any]] = {
    "thresholds": thresholds,
    "blocklist": blocklists,
    "allowlist": allowlists,
    "monitors": monitors,
    "alerting": alerting,
    "response": responses,
    "detection": detections,
    "rules": _few(rules),
}
"""The sections of a policy document, in its order."""

threats = messages(
    Threat,
    type=lines,
    confidence=percentages,
    evidence=json_objects,
    severity=st.sampled_from(Severity),
    technique=maybe(st.sampled_from(["T1110", "T1110.001"])),
    rule_id=maybe(lines),
    count=st.integers(1, 2**53 - 1),
    first_seen=maybe(moments),
    last_seen=maybe(moments),
)

_never = st.none() | st.lists(st.sampled_from(["192.0.2.1", "203.0.113.0/24", "2001:db8::/48"]), max_size=3)
_blocklist_entries = _few(
    messages(BlocklistEntry, kind=st.just("ip"), value=addresses, **_entry_head)
    | messages(BlocklistEntry, kind=st.just("file_hash"), value=file_hashes, **_entry_head)
)

reports = messages(
    ThreatReport,
    id=threat_ids,
    agent_id=agent_ids,
    threat=threats,
    response=maybe(
        lines
        | messages(ResponseTaken, action=lines, target=maybe(texts), outcome=maybe(texts), expires_at=maybe(moments))
    ),
    timestamp=moments,
)

generation_numbers = st.integers(1, LARGEST_GENERATION)
generations = messages(
    StoreGeneration, number=generation_numbers, resend_from=maybe(moments), resend_within=st.floats(0, LONGEST_SPREAD)
)
receipt_marks = st.from_regex(r"[A-Za-z0-9._-]{1,160}", fullmatch=True)

MESSAGES: dict[type[WireModel], SearchStrategy[WireModel]] = {
    ManagerPresence: messages(
        ManagerPresence, state=st.sampled_from(["online", "offline"]), version=texts, sent_at=moments
    ),
    ManagerKeys: messages(
        ManagerKeys,
        sign_key=public_keys,
        seal_key=public_keys,
        accepts=_few(lines),
        generation=maybe(generations),
    ),
    Registration: messages(
        Registration,
        hostname=hostnames,
        os=lines,
        arch=lines,
        version=lines,
        organization_id=maybe(organization_ids),
        client_id=client_ids,
        site=maybe(labels),
        tags=_few(labels),
        addresses=_few(addresses),
        gateways=_few(addresses),
        sent_at=moments,
        uptime=seconds,
        token_id=token_ids,
        sealed_secret=proofs,
    ),
    RegistrationReply: messages(
        RegistrationReply,
        client_id=client_ids,
        agent_id=agent_ids,
        organization_id=organization_ids,
        session=counts,
    ),
    Rejection: messages(
        Rejection,
        client_id=client_ids,
        digest=digests,
        error=st.sampled_from(
            ["bad_proof", "unknown_token", "expired_token", "used_token", "outdated", "conflict", "malformed"]
        ),
        reason=texts,
    ),
    Presence: messages(
        Presence,
        state=st.sampled_from(["online", "offline", "lost"]),
        session=counts,
        sent_at=moments,
        uptime=seconds,
    ),
    Heartbeat: messages(
        Heartbeat,
        cpu=percentages,
        memory=percentages,
        events_processed=counts,
        events_total=maybe(counts),
        mode=st.sampled_from(Mode),
        uptime=seconds,
        sent_at=moments,
        session=counts,
        sequence=counts,
        policy_version=maybe(counts),
        policy_digest=maybe(digests),
        policy_state=maybe(st.sampled_from(PolicyState)),
        version_proof=maybe(proofs),
        blocklist_sequence=maybe(counts),
        outbox_size=maybe(counts),
        outbox_dropped=maybe(counts),
        receipt_mark=maybe(receipt_marks),
    ),
    ThreatReport: reports,
    ThreatReportBatch: messages(ThreatReportBatch, reports=st.lists(reports, min_size=1, max_size=3)),
    Receipt: messages(
        Receipt,
        stored=_few(threat_ids),
        refused=_few(messages(Refusal, id=threat_ids, reason=texts)),
        deferred=_few(messages(Deferral, ids=_few(threat_ids), retry_after=seconds)),
        generation=maybe(generation_numbers),
        mark=maybe(receipt_marks),
    ),
    Policy: messages(
        Policy,
        version=counts,
        digest=digests,
        updated_at=moments,
        scope=st.sampled_from(["global", "organization", "agent"]),
        agent_id=agent_ids,
        expires_at=maybe(moments),
        version_proof=proofs,
        **SECTIONS,
    ),
    PolicyApplied: messages(
        PolicyApplied,
        version=counts,
        digest=digests,
        state=st.sampled_from(PolicyState),
        error=maybe(texts),
        sent_at=moments,
    ),
    BlocklistSnapshot: messages(
        BlocklistSnapshot,
        organization_id=organization_ids,
        sequence=counts,
        entries=_blocklist_entries,
        never=_never,
    ),
    BlocklistChange: messages(
        BlocklistChange,
        organization_id=organization_ids,
        from_sequence=counts,
        sequence=counts,
        added=_blocklist_entries,
        removed=_blocklist_entries,
        never=_never,
    ),
    FleetEvent: messages(
        FleetEvent,
        event=event_names,
        at=moments,
        agent_id=maybe(agent_ids),
        hostname=maybe(texts),
        organization_id=maybe(organization_ids),
        data=json_objects,
    ),
}
"""Every message of the topic table."""
