"""Verification of the manager's signatures; an organization's messages are verified once for all its agents."""

import time
from functools import lru_cache
from typing import Any

from schemas import message_codes
from schemas.decoding import DecodeError, decode
from schemas.errors import KeyMaterialError
from schemas.keys import has_version_proof, public_sign_key
from schemas.model import WireModel
from schemas.policy import Policy
from schemas.presence import ManagerKeys
from schemas.succession import TrustedKeys
from schemas.topics import MANAGER_KEYS, Topic

_SHARED = 16


class Verifier:
    """Verifies signatures with the key in the enrollment token, and follows its rotations for all agents at once.

    Every agent of an organization gets the same blocklist message. It is verified and decoded once, so that a
    simulation of thousands of agents does not use the CPU time of the manager that it measures.

    Args:
        sign_key: The manager's public signing key, base64url.
    """

    def __init__(self, sign_key: str) -> None:
        self._trusted = TrustedKeys(sign_key)
        self._once = lru_cache(maxsize=_SHARED)(self._read)

    @property
    def sign_key(self) -> str:
        """The newest of the manager's keys, base64url."""
        return self._trusted.current

    def own(self, row: Topic, identifier: str | None, payload: bytes) -> Any:
        """Return an agent's own message, or a registration's answer; None if its signature or content is invalid."""
        return self._read(row, identifier, payload)

    def shared(self, row: Topic, identifier: str | None, payload: bytes) -> Any:
        """Return a message that many agents get; None if the signature or the message is invalid."""
        return self._once(row, identifier, payload)

    def proves(self, policy: Policy) -> bool:
        """Return whether a policy has the manager's signature over its version."""
        statement = policy.agent_id, policy.version, policy.digest, policy.version_proof
        return any(has_version_proof(public_sign_key(key), *statement) for key in self._trusted.accepted(time.time()))

    def _read(self, row: Topic, identifier: str | None, payload: bytes) -> WireModel | None:
        if row is MANAGER_KEYS:
            return self._keys(payload)
        if self._trusted.signer(row.below_root(identifier), payload, time.time()) is None:
            return None
        for model in row.models:
            try:
                return decode(model, payload, row.limit)
            except DecodeError:
                continue
        return None

    def _keys(self, payload: bytes) -> ManagerKeys | None:
        try:
            keys = decode(ManagerKeys, payload, MANAGER_KEYS.limit)
            before = self._trusted
            self._trusted = before.followed(keys.successions or (), time.time())
            if self._trusted != before:
                self._once.cache_clear()  # what the new key has signed may have come before
            signed = message_codes.has_signature(public_sign_key(self.sign_key), MANAGER_KEYS.below_root(), payload)
        except (DecodeError, KeyMaterialError):
            return None
        return keys if signed else None
