"""From an agent's one secret to all that the manager checks with it."""

import hashlib

from manager.domain.agent import Credential
from schemas.keys import AgentKeys


def credential_of(secret: bytes) -> Credential:
    """Return what verifies an agent's messages (its MAC key) and its logins (SHA-256 of password and token)."""
    keys = AgentKeys.derive(secret)
    return Credential(secret, keys.mac_key, digest(keys.mqtt_password), digest(keys.http_token))


def digest(password: str) -> bytes:
    """Return the SHA-256 by which a password or token of 256 random bits is kept and compared."""
    return hashlib.sha256(password.encode()).digest()
