"""The layers that effective policies are made of: an admin's documents, and an agent's live emergency entries."""

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
"""Bytes that an agent's emergency entries take at most in its policy: what documents must leave free."""


class EmergencyBlock(NamedTuple):
    """One address or hash that an agent blocks because of an incident, until `expires_at` (seconds since 1970)."""

    value: str
    reason: str
    incident_id: str
    expires_at: float

    def entry(self) -> dict[str, str]:
        """Return the entry as it stands in a policy."""
        expires = iso(self.expires_at)
        return {"value": self.value, "reason": self.reason, "expiresAt": expires, "incidentId": self.incident_id}


class RaisedSensitivity(NamedTuple):
    """More attention until a time: `autoRespond` lower by `step`, never below `floor` (both in percent)."""

    until: float
    step: float
    floor: float


@dataclass(frozen=True, slots=True)
class Emergency:
    """The live emergency entries of one agent's own policy, laid over everything else."""

    addresses: tuple[EmergencyBlock, ...] = ()
    file_hashes: tuple[EmergencyBlock, ...] = ()
    sensitivity: RaisedSensitivity | None = None

    @property
    def expiries(self) -> list[float]:
        """The times at which something of it ends, in order."""
        ends = {block.expires_at for block in (*self.addresses, *self.file_hashes)}
        if self.sensitivity is not None:
            ends.add(self.sensitivity.until)
        return sorted(ends - {inf})

    def is_over(self, at: float) -> bool:
        """Return whether all of it has ended by a time."""
        blocks = (*self.addresses, *self.file_hashes)
        attentive = self.sensitivity is not None and self.sensitivity.until > at
        return not attentive and all(block.expires_at <= at for block in blocks)

    def apply_to(self, sections: Sections, at: float) -> dict[str, Any]:
        """Return the sections with these entries, as they stand at a time."""
        layer = {
            "blocklist": {
                "ips": [block.entry() for block in self.addresses if block.expires_at > at],
                "fileHashes": [block.entry() for block in self.file_hashes if block.expires_at > at],
            }
        }
        result = resolve([sections, layer])
        if self.sensitivity is not None and self.sensitivity.until > at:
            result = raise_sensitivity(result, self.sensitivity.step, self.sensitivity.floor)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One document with the effects of its rules, and the times at which entries of it end."""

    sections: Sections
    expiries: tuple[float, ...]

    @classmethod
    def of(cls, document: Sections) -> "Layer":
        """Compile a document.

        Raises:
            Invalid: a rule or an expiry in it is none; the text names the field.
        """
        check_rules(document)
        sections = resolve([document, *effects(document)])
        try:
            ends = {*expiries(sections), *(rule_expiry(rule) for rule in document.get("rules", ()))} - {inf}
        except ValueError as error:
            raise Invalid("blocklist: an expiresAt is no time") from error
        return cls(sections, tuple(sorted(ends)))


def read_document(document: Any) -> dict[str, Any]:
    """Return what an admin wrote as it is kept: only what was set, in normal form.

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
    """Return the sections that result at a time; rules whose time is over are not in them any more."""
    sections = resolve(layers, at)
    rules = sections.get("rules", [])
    if any(rule_expiry(rule) <= at for rule in rules):
        sections["rules"] = [rule for rule in rules if rule_expiry(rule) > at]
    return sections


def expired_by(layers: Sequence[Layer], emergency: Emergency | None, at: float) -> int:
    """Return how many of the layers' times have passed: while that number stays, so does what results."""
    passed = sum(bisect_right(layer.expiries, at) for layer in layers)
    return passed + (bisect_right(emergency.expiries, at) if emergency is not None else 0)
