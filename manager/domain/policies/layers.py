"""Policy layers: an operator's document, and an agent's live emergency entries."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from manager.domain.policies.resolution import expiries, raise_sensitivity, resolve
from manager.domain.policies.rules import check_rules, effects, rule_expiry
from manager.errors import Invalid
from schemas.decoding import DecodeError, validate
from schemas.limits import KIB
from schemas.model import iso
from schemas.policy import PolicyDocument

Sections = Mapping[str, Any]

EMERGENCY_ROOM = 64 * KIB
"""Bytes reserved for emergency entries in an agent's policy: documents must leave them free."""


class EmergencyBlock(NamedTuple):
    """One address or hash that an agent blocks until `expires_at` (seconds since 1970).

    `incident_id` is empty for a manual block.
    """

    value: str
    reason: str
    incident_id: str
    expires_at: float

    def entry(self) -> dict[str, str]:
        """Return the entry as a member of a policy's blocklist."""
        entry = {"value": self.value, "reason": self.reason, "expiresAt": iso(self.expires_at)}
        return {**entry, "incidentId": self.incident_id} if self.incident_id else entry


class RaisedSensitivity(NamedTuple):
    """Lower `autoRespond` by `step`, never below `floor` (both in percent), until a time."""

    until: float
    step: float
    floor: float


@dataclass(frozen=True, slots=True)
class Emergency:
    """Live emergency entries of one agent's own policy, above all documents."""

    addresses: tuple[EmergencyBlock, ...] = ()
    file_hashes: tuple[EmergencyBlock, ...] = ()
    sensitivity: RaisedSensitivity | None = None

    @property
    def expiries(self) -> list[float]:
        """Sorted expiry times of the entries."""
        ends = {block.expires_at for block in (*self.addresses, *self.file_hashes)}
        if self.sensitivity is not None:
            ends.add(self.sensitivity.until)
        return sorted(ends - {inf})

    def is_over(self, at: float) -> bool:
        """Return whether all entries have expired by a time."""
        blocks = (*self.addresses, *self.file_hashes)
        attentive = self.sensitivity is not None and self.sensitivity.until > at
        return not attentive and all(block.expires_at <= at for block in blocks)

    def blocklist(self, at: float) -> dict[str, Any]:
        """Return the blocked addresses and hashes as a layer, as of a time."""
        return {
            "blocklist": {
                "ips": [block.entry() for block in self.addresses if block.expires_at > at],
                "fileHashes": [block.entry() for block in self.file_hashes if block.expires_at > at],
            }
        }

    def apply_to(self, sections: Sections, at: float) -> dict[str, Any]:
        """Return the sections with these entries, as of a time."""
        result = resolve([sections, self.blocklist(at)])
        if self.sensitivity is not None and self.sensitivity.until > at:
            result = raise_sensitivity(result, self.sensitivity.step, self.sensitivity.floor)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One document with the effects of its rules, the expiry times of its entries, and its size as JSON in bytes."""

    sections: Sections
    expiries: tuple[float, ...]
    size: int

    @classmethod
    def of(cls, document: Sections) -> "Layer":
        """Compile a document.

        Raises:
            Invalid: a rule or an expiry in it is invalid; the text names the field.
        """
        check_rules(document)
        sections = resolve([_published(document), *effects(document)])
        try:
            ends = {*expiries(sections), *(rule_expiry(rule) for rule in document.get("rules", ()))} - {inf}
        except ValueError as error:
            raise Invalid("blocklist: an expiresAt is no time") from error
        return cls.of_sections(sections, tuple(sorted(ends)))

    @classmethod
    def of_sections(cls, sections: Sections, expiries: tuple[float, ...] = ()) -> "Layer":
        """Return a layer of compiled sections."""
        return cls(sections, expiries, encoded_size(sections))


def encoded_size(sections: Sections) -> int:
    """Return the size of sections as JSON in a message, in bytes."""
    return len(json.dumps(sections, separators=(",", ":"), ensure_ascii=False).encode())


def _published(document: Sections) -> Sections:
    """Return an operator's document with its `mode` where guards read it, in `response`."""
    if "mode" not in document:
        return document
    sections = {name: section for name, section in document.items() if name != "mode"}
    return {**sections, "response": {**sections.get("response", {}), "mode": document["mode"]}}


def read_document(document: Any) -> dict[str, Any]:
    """Parse an operator's document: only the members that were set, in normal form.

    Raises:
        Invalid: it is no policy document; the text names the field.
    """
    try:
        sections = validate(PolicyDocument, document).sections()
    except DecodeError as error:
        raise Invalid(str(error)) from error
    check_rules(sections)
    return sections


def merge_layers(layers: Sequence[Sections], at: float) -> dict[str, Any]:
    """Return the sections that result at a time; expired rules are left out."""
    sections = resolve(layers, at)
    rules = sections.get("rules", [])
    if any(rule_expiry(rule) <= at for rule in rules):
        sections["rules"] = [rule for rule in rules if rule_expiry(rule) > at]
    return sections


def expired_by(layers: Sequence[Layer], emergency: Emergency | None, at: float) -> int:
    """Return the number of expiry times that have passed; the merged result changes only with this number."""
    passed = sum(bisect_right(layer.expiries, at) for layer in layers)
    return passed + (bisect_right(emergency.expiries, at) if emergency is not None else 0)
