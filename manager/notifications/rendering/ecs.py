"""Messages as documents with the field names of the Elastic Common Schema (ECS)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from manager.domain.notifications.event import Event, Topic
from manager.domain.notifications.message import Message
from manager.notifications.rendering.identity import ChannelIdentity
from manager.notifications.rendering.json_values import bounded, rfc3339
from manager.notifications.rendering.machine_text import machine_text
from manager.notifications.rendering.subjects import addresses_of, hosts_of
from schemas.threats import Severity

ECS_VERSION = "8.17.0"

_SEVERITIES = {Severity.LOW: 21, Severity.MEDIUM: 47, Severity.HIGH: 73, Severity.CRITICAL: 99}
_LEVELS = {Severity.LOW: "info", Severity.MEDIUM: "warning", Severity.HIGH: "error", Severity.CRITICAL: "critical"}
_HASHES = {32: "md5", 40: "sha1", 64: "sha256"}


class _Classification(NamedTuple):
    """The values of ``event.kind``, ``event.category``, ``event.type`` and ``event.outcome``."""

    kind: str
    category: str
    type: str
    outcome: str | None = None


_TOPICS = {
    Topic.GOT_IN: _Classification("alert", "intrusion_detection", "info"),
    Topic.WE_HURT: _Classification("event", "network", "denied"),
    Topic.WAITS: _Classification("event", "configuration", "info"),
    Topic.BLIND: _Classification("event", "host", "info"),
    Topic.BLOCKED: _Classification("alert", "intrusion_detection", "info"),
    Topic.FLEET: _Classification("event", "configuration", "change"),
    Topic.SYSTEM: _Classification("event", "process", "info"),
}
_NAMES = {
    "suspicious_login": _Classification("alert", "authentication", "start", "success"),
    "signed_in": _Classification("event", "authentication", "start", "success"),
    "sign_in_refused": _Classification("event", "authentication", "start", "failure"),
    "agent_online": _Classification("event", "host", "start"),
    "agent_offline": _Classification("event", "host", "end"),
    "policy_created": _Classification("event", "configuration", "creation"),
}
_SUMMARY = _Classification("event", "intrusion_detection", "info")


def document(message: Message, identity: ChannelIdentity) -> dict[str, Any]:
    """Return a message as an ECS document; members of an event without an ECS field stand under `panguard.data`."""
    event = message.event
    classified = _SUMMARY if event is None else _NAMES.get(event.name, _TOPICS[event.topic])
    fields = {
        "@timestamp": rfc3339(message.at if event is None else event.at),
        "message": machine_text(message),
        "ecs": {"version": ECS_VERSION},
        "event": {
            "id": message.id,
            "kind": classified.kind,
            "category": [classified.category],
            "type": [classified.type],
            "outcome": classified.outcome,
            "action": "notification" if event is None else event.name,
            "severity": _SEVERITIES[message.severity],
            "module": "panguard",
            "dataset": "panguard.events",
            "provider": "panguard",
            "sequence": None if event is None else event.sequence,
        },
        "log": {"level": _LEVELS[message.severity]},
        "observer": {
            "vendor": "Panguard",
            "product": "Panguard",
            "type": "ids",
            "version": identity.version,
            "hostname": identity.hostname,
        },
        "organization": {"id": message.organization_id},
        "panguard": {
            "group": message.group,
            "change": message.change.value,
            "command": message.command,
            "managerId": identity.manager_id,
        },
    }
    if event is not None:
        _add_event(fields, event)
    return without_nothing(bounded(fields))


def _add_event(fields: dict[str, Any], event: Event) -> None:
    """Add the fields of an event's host and of the members of its data."""
    data = event.data
    fields["host"] = {"name": event.hostname, "hostname": event.hostname}
    fields["agent"] = {"id": event.agent_id, "type": "panguard"} if event.agent_id else None
    addresses, hosts, user = addresses_of(event), hosts_of(event), _text(data.get("user"))
    digest = _text(data.get("fileHash")) or (_text(data.get("value")) if data.get("kind") == "file_hash" else None)
    address = addresses[0] if len(addresses) == 1 else None  # of several, none is the source of the event
    fields["source"] = {"ip": address, "address": address}
    fields["user"] = {"name": user}
    fields["rule"] = {"id": _text(data.get("ruleId"))}
    fields["process"] = {"name": _text(data.get("process"))}
    technique = _text(data.get("technique"))
    if technique is not None:
        fields["threat"] = {"framework": "MITRE ATT&CK", "technique": {"id": [technique]}}
    if digest is not None and len(digest) in _HASHES:
        fields["file"] = {"hash": {_HASHES[len(digest)]: digest.lower()}}
    fields["related"] = {
        "ip": addresses or None,
        "user": [user] if user else None,
        "hosts": hosts or None,
        "hash": [digest] if digest else None,
    }
    fields["panguard"] |= {"topic": event.topic.value, "site": event.site, "data": data}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def without_nothing(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without null and without objects that hold nothing."""
    found = {}
    for name, value in fields.items():
        shown = without_nothing(value) if isinstance(value, Mapping) else value
        if shown is not None and shown != {}:
            found[name] = shown
    return found
