"""Secrets leave memory only encrypted: whoever has the store and not the manager's key has none of them."""

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12


class Seal:
    """Encrypts small secrets (AES-256-GCM), each bound to the name of what it belongs to.

    Args:
        store_key: the manager's, 32 bytes.
    """

    def __init__(self, store_key: bytes) -> None:
        self._cipher = AESGCM(store_key)

    def close(self, plain: bytes, name: str) -> bytes:
        """Return a secret as the store may have it."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, name.encode())

    def open(self, sealed: bytes, name: str) -> bytes:
        """Return the secret again.

        Raises:
            InvalidTag: it was sealed by another manager's key, for another name, or is damaged.
        """
        return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
