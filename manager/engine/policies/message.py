"""An agent's effective policy as the message that it gets: head, sections, and the two signatures."""

import json
from typing import Any

from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.domain.policies.layers import EMERGENCY_ROOM
from schemas import codes
from schemas.keys import ManagerKeyring, version_statement
from schemas.limits import POLICY_LIMIT
from schemas.model import iso
from schemas.topics import POLICY

HEAD_ROOM = 1024
"""Bytes that the head and the signature take at most."""

SECTIONS_LIMIT = POLICY_LIMIT - HEAD_ROOM - EMERGENCY_ROOM
"""What people may fill: an emergency must always find room."""


def sections_size(sections: Any) -> int:
    """Return how many bytes the sections take in a message."""
    return len(_compact(sections))


def head(keyring: ManagerKeyring, policy: EffectivePolicy) -> dict[str, Any]:
    """Return the members that stand before the sections."""
    digest = policy.resolved.digest
    proof = keyring.sign_key.sign(version_statement(policy.agent_id, policy.version, digest))
    return {
        "version": policy.version,
        "digest": digest,
        "updatedAt": iso(policy.updated_at),
        "scope": policy.resolved.scope,
        "agentId": policy.agent_id,
        "versionProof": codes.encode(proof),
    }


class PolicySerializer:
    """Prints policies; sections that many agents share are put into JSON once."""

    def __init__(self, keyring: ManagerKeyring) -> None:
        self._keyring = keyring
        self._printed: tuple[str, bytes] = ("", b"")

    def document(self, policy: EffectivePolicy) -> dict[str, Any]:
        """Return the whole document as JSON values, without the signature."""
        return {**head(self._keyring, policy), **policy.resolved.sections}

    def message(self, policy: EffectivePolicy) -> bytes:
        """Return the signed message."""
        digest, sections = self._printed
        if digest != policy.resolved.digest:
            sections = _compact(policy.resolved.sections)
            self._printed = (policy.resolved.digest, sections)
        body = _compact(head(self._keyring, policy))[:-1] + b"," + sections[1:]
        return codes.with_signature(self._keyring.sign_key, POLICY.below_root(policy.agent_id), body)


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
