"""Verification of the manager's signatures; an organization's messages are verified once for all its agents."""

from functools import lru_cache
from typing import Any

from schemas import message_codes
from schemas.decoding import DecodeError, decode
from schemas.keys import public_sign_key
from schemas.model import WireModel
from schemas.topics import Topic

_SHARED = 16


class Verifier:
    """Verifies signatures with the key in the enrollment token.

    Every agent of an organization gets the same blocklist message. It is verified and decoded once, so that a
    simulation of thousands of agents does not use the CPU time of the manager that it measures.

    Args:
        sign_key: The manager's public signing key, base64url.
    """

    def __init__(self, sign_key: str) -> None:
        self._key = public_sign_key(sign_key)
        self.key = self._key
        self._once = lru_cache(maxsize=_SHARED)(self._read)

    def own(self, row: Topic, identifier: str | None, payload: bytes) -> Any:
        """Return an agent's own message, or a registration's answer; None if its signature or content is invalid."""
        return self._read(row, identifier, payload)

    def shared(self, row: Topic, identifier: str | None, payload: bytes) -> Any:
        """Return a message that many agents get; None if the signature or the message is invalid."""
        return self._once(row, identifier, payload)

    def _read(self, row: Topic, identifier: str | None, payload: bytes) -> WireModel | None:
        if not message_codes.has_signature(self._key, row.below_root(identifier), payload):
            return None
        for model in row.models:
            try:
                return decode(model, payload, row.limit)
            except DecodeError:
                continue
        return None
