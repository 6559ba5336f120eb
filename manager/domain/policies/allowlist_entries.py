"""Allowlist entries of a policy document: detect the kind, normalise, add, remove."""

from collections.abc import Mapping
from typing import Any, Literal

from manager.domain.correlation.indicators import normal_hash
from manager.domain.networks import network_of
from manager.domain.policies.layers import Sections, read_document
from manager.errors import Invalid

AllowlistEntryKind = Literal["ip", "file_hash", "process"]

MEMBERS: Mapping[AllowlistEntryKind, str] = {"ip": "ips", "file_hash": "fileHashes", "process": "processes"}
"""Member of a policy's `allowlist` section for each kind."""


def kind_of(value: str) -> AllowlistEntryKind | None:
    """Detect the kind of a value; None if it is neither an address, a CIDR nor a file hash."""
    if normal_hash(value) is not None:
        return "file_hash"
    return "ip" if network_of(value) is not None else None


def normalize_entry(kind: AllowlistEntryKind | None, value: str) -> tuple[AllowlistEntryKind, str]:
    """Return kind and normal form of an allowlist entry.

    Args:
        kind: the given kind; None detects it.
        value: an address, a CIDR, a file hash or a process.

    Raises:
        Invalid: the value does not fit its kind, no kind is detected, or it covers every address.
    """
    found = kind or kind_of(value)
    if found is None:
        raise Invalid("value: this is neither an address, a CIDR nor a file hash; for a process say kind process")
    if found != "process" and kind_of(value) != found:
        raise Invalid(f"value: this is no {'file hash' if found == 'file_hash' else 'address or CIDR'}")
    network = network_of(value) if found == "ip" else None
    if network is not None and not network.prefixlen:
        raise Invalid("value: this is every address there is; nothing would be blocked any more")
    if found == "process" and not value.strip():
        raise Invalid("value: name a process")
    member = MEMBERS[found]
    (normal,) = read_document({"allowlist": {member: [value]}})["allowlist"][member]
    return found, normal


def allows(document: Sections | None, kind: AllowlistEntryKind, value: str) -> bool:
    """Return whether a document's own allowlist contains an entry in normal form."""
    return value in ((document or {}).get("allowlist") or {}).get(MEMBERS[kind], ())


def with_entry(document: Sections | None, kind: AllowlistEntryKind, value: str) -> dict[str, Any]:
    """Return the document with one more entry on its allowlist."""
    kept = dict(document or {})
    section = dict(kept.get("allowlist") or {})
    member = MEMBERS[kind]
    if value not in section.get(member, ()):
        section[member] = [*section.get(member, ()), value]
    return {**kept, "allowlist": section}


def without_entry(document: Sections, kind: AllowlistEntryKind, value: str) -> dict[str, Any] | None:
    """Return the document without an entry of its allowlist; None if nothing is left in it."""
    kept = dict(document)
    section = dict(kept.get("allowlist") or {})
    member = MEMBERS[kind]
    section[member] = [entry for entry in section.get(member, ()) if entry != value]
    if not section[member]:
        del section[member]
    if section:
        return {**kept, "allowlist": section}
    kept.pop("allowlist", None)
    return kept or None
