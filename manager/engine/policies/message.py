"""Policy serializer: an agent's effective policy as a signed message of head, sections and version proof."""

import json
from collections import OrderedDict
from typing import Any

from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.domain.policies.layers import EMERGENCY_ROOM
from schemas import signing
from schemas.keys import ManagerKeyring, version_statement
from schemas.limits import POLICY_LIMIT
from schemas.model import iso
from schemas.topics import POLICY

HEAD_ROOM = 1024
"""The maximum size of the head and the signature in bytes."""

SECTIONS_LIMIT = POLICY_LIMIT - HEAD_ROOM - EMERGENCY_ROOM
"""The maximum size of the sections in operators' documents in bytes; the rest is reserved for emergency entries."""


def sections_size(sections: Any) -> int:
    """Return the size of the sections in a message, in bytes."""
    return len(_compact(sections))


def head(keyring: ManagerKeyring, policy: EffectivePolicy) -> dict[str, Any]:
    """Return the members before the sections."""
    digest = policy.resolved.digest
    proof = keyring.sign_key.sign(version_statement(policy.agent_id, policy.version, digest))
    return {
        "version": policy.version,
        "digest": digest,
        "updatedAt": iso(policy.updated_at),
        "scope": policy.resolved.scope,
        "agentId": policy.agent_id,
        "versionProof": signing.encode(proof),
    }


class PolicySerializer:
    """Serializes policies; the JSON of sections shared by consecutive policies is cached."""

    def __init__(self, keyring: ManagerKeyring) -> None:
        self._keyring = keyring
        self._cached: tuple[str, bytes] = ("", b"")
        self.merged: OrderedDict[tuple[str, str, int], tuple[dict[str, Any], str]] = OrderedDict()
        """Merged blocklists of HTTP agents with their digests, by policy digest, organization and sequence."""

    def document(self, policy: EffectivePolicy) -> dict[str, Any]:
        """Return the document as JSON values, without the signature."""
        return {**head(self._keyring, policy), **policy.resolved.sections}

    def message(self, policy: EffectivePolicy) -> bytes:
        """Return the signed message."""
        digest, sections = self._cached
        if digest != policy.resolved.digest:
            sections = _compact(policy.resolved.sections)
            self._cached = (policy.resolved.digest, sections)
        body = _compact(head(self._keyring, policy))[:-1] + b"," + sections[1:]
        return signing.with_signature(self._keyring.sign_key, POLICY.below_root(policy.agent_id), body)


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
