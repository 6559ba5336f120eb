"""The fields of the Elastic Common Schema 8.17 that Panguard writes: names, types, allowed values."""

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

FIELDS = {
    "@timestamp": "date",
    "message": "match_only_text",
    "ecs.version": "keyword",
    "event.id": "keyword",
    "event.kind": "keyword",
    "event.category": "keyword[]",
    "event.type": "keyword[]",
    "event.outcome": "keyword",
    "event.action": "keyword",
    "event.severity": "long",
    "event.module": "keyword",
    "event.dataset": "keyword",
    "event.provider": "keyword",
    "event.sequence": "long",
    "log.level": "keyword",
    "observer.vendor": "keyword",
    "observer.product": "keyword",
    "observer.type": "keyword",
    "observer.version": "keyword",
    "observer.hostname": "keyword",
    "organization.id": "keyword",
    "host.name": "keyword",
    "host.hostname": "keyword",
    "agent.id": "keyword",
    "agent.type": "keyword",
    "source.ip": "ip",
    "source.address": "keyword",
    "user.name": "keyword",
    "rule.id": "keyword",
    "process.name": "keyword",
    "file.hash.md5": "keyword",
    "file.hash.sha1": "keyword",
    "file.hash.sha256": "keyword",
    "threat.framework": "keyword",
    "threat.technique.id": "keyword[]",
    "related.ip": "ip[]",
    "related.user": "keyword[]",
    "related.hosts": "keyword[]",
    "related.hash": "keyword[]",
}

KINDS = {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}
OUTCOMES = {"failure", "success", "unknown"}
TYPES_OF_CATEGORY = {
    "authentication": {"start", "end", "info"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "host": {"access", "change", "end", "info", "start"},
    "intrusion_detection": {"allowed", "denied", "info"},
    "network": {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
    "process": {"access", "change", "end", "info", "start"},
}
OWN = "panguard."
"""The object for members that ECS has no field for; custom fields stand under a name of their own."""

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def errors_of(document: Mapping[str, Any]) -> list[str]:
    """Return the disagreements of a document with the reference."""
    fields = dict(_leaves(document))
    found = [
        f"{name}: {value!r} is no {FIELDS.get(name, 'field of ECS')}"
        for name, value in fields.items()
        if not name.startswith(OWN) and not _fits(FIELDS.get(name), value)
    ]
    found += [f"{name} is missing" for name in ("@timestamp", "ecs.version") if name not in fields]
    categories, types = fields.get("event.category", []), fields.get("event.type", [])
    if fields.get("event.kind") not in KINDS:
        found.append("event.kind is none of the allowed values")
    if "event.outcome" in fields and fields["event.outcome"] not in OUTCOMES:
        found.append("event.outcome is none of the allowed values")
    found += [f"{each} is no category" for each in categories if each not in TYPES_OF_CATEGORY]
    allowed = set().union(*(TYPES_OF_CATEGORY.get(each, set()) for each in categories))
    return found + [f"{each} is no type of {categories}" for each in types if each not in allowed]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _leaves(each, f"{prefix}{name}.")
        else:
            yield prefix + name, each


def _fits(kind: str | None, value: Any) -> bool:
    if kind is not None and kind.endswith("[]"):
        return isinstance(value, list) and all(_fits(kind[:-2], each) for each in value)
    return kind is not None and _CHECKS[kind](value)


def _is_address(value: Any) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return isinstance(value, str)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "keyword": lambda value: isinstance(value, str) and 0 < len(value) <= 1024,
    "match_only_text": lambda value: isinstance(value, str),
    "long": lambda value: type(value) is int and abs(value) < 2**63,
    "date": lambda value: isinstance(value, str) and _DATE.fullmatch(value) is not None,
    "ip": _is_address,
}
