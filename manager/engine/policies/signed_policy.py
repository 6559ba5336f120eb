"""Policy serializer: an agent's effective policy as a signed message of head, sections and version proof."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.domain.policies.layers import EMERGENCY_ROOM
from schemas import message_codes
from schemas.keys import ManagerKeyring, version_statement
from schemas.limits import POLICY_LIMIT
from schemas.model import iso
from schemas.topics import POLICY

_SIGNATURE_ROOM = 128

HEAD_ROOM = 1024
"""The maximum size of the head and the signature in bytes."""

SECTIONS_LIMIT = POLICY_LIMIT - HEAD_ROOM - EMERGENCY_ROOM
"""The maximum size of the sections in operators' documents in bytes; the rest is reserved for emergency entries."""


def sections_size(sections: Any) -> int:
    """Return the size of the sections in a message, in bytes."""
    return len(_compact(sections))


def head(keyring: ManagerKeyring, policy: EffectivePolicy, now: float) -> dict[str, Any]:
    """Return the members before the sections; `now` is in seconds since 1970."""
    digest = policy.resolved.digest
    proof = keyring.sign_key.sign(version_statement(policy.agent_id, policy.version, digest))
    return {
        "version": policy.version,
        "digest": digest,
        "updatedAt": iso(policy.updated_at),
        "scope": policy.resolved.scope,
        "agentId": policy.agent_id,
        "organizationId": policy.placement.organization_id,
        "versionProof": message_codes.to_base64url(proof),
        "sentAt": iso(now),
    }


def ends_of(blocklist: Mapping[str, Any]) -> dict[str, float]:
    """Return the end, in seconds since 1970, of each blocklist entry that has one, by value; the later of two."""
    ends: dict[str, float] = {}
    for entries in blocklist.values():
        for entry in entries:
            if isinstance(entry, dict) and entry.get("expiresAt"):
                end = datetime.fromisoformat(entry["expiresAt"]).timestamp()
                ends[entry["value"]] = max(ends.get(entry["value"], 0.0), end)
    return ends


def seconds_left(ends: Mapping[str, float], now: float) -> dict[str, int]:
    """Return the time left at `now`, in seconds, for each end."""
    return {value: max(0, round(end - now)) for value, end in ends.items()}


class MergedBlocklist(NamedTuple):
    """The blocklist and allowlist sections of an HTTP agent's policy, the digest with them, and the entries' ends."""

    section: dict[str, Any]
    allowlist: dict[str, Any]
    digest: str
    ends: dict[str, float]


class PolicySerializer:
    """Serializes policies; the JSON of sections shared by consecutive policies is cached."""

    def __init__(self, keyring: ManagerKeyring) -> None:
        self._keyring = keyring
        self._cached: tuple[str, bytes, dict[str, float]] = ("", b"", {})
        self.merged: OrderedDict[tuple[str, str, int], MergedBlocklist] = OrderedDict()
        """Merged blocklists of HTTP agents, by policy digest, organization and sequence."""

    def document(self, policy: EffectivePolicy, now: float) -> dict[str, Any]:
        """Return the document as JSON values, without the signature; `now` is in seconds since 1970."""
        return {**head(self._keyring, policy, now), **policy.resolved.sections}

    def message(self, policy: EffectivePolicy, now: float) -> bytes:
        """Return the signed message; `now` is in seconds since 1970.

        The times left are left out where the message would exceed its size limit; a guard then reckons them from the
        times of expiry and `sentAt`.
        """
        digest, sections, ends = self._cached
        if digest != policy.resolved.digest:
            sections = _compact(policy.resolved.sections)
            ends = ends_of(policy.resolved.sections["blocklist"])
            self._cached = (policy.resolved.digest, sections, ends)
        body = _compact(head(self._keyring, policy, now))[:-1] + b"," + sections[1:]
        if ends:
            longer = b'%b,"secondsLeft":%b}' % (body[:-1], _compact(seconds_left(ends, now)))
            body = longer if len(longer) + _SIGNATURE_ROOM <= POLICY_LIMIT else body
        return message_codes.with_signature(self._keyring.sign_key, POLICY.below_root(policy.agent_id), body)


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
