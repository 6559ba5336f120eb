"""Secrets and keys: the agent's secret and derived keys, the manager's keys, the enrollment token."""

import hashlib
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas import message_codes
from schemas.errors import KeyMaterialError, TokenError
from schemas.identifiers import TOKEN_ID

SECRET_LENGTH = 32
_TOKEN_SECRET_LENGTH = 16
_NONCE = bytes(12)
_PUBLIC_LENGTH = 32
_TOKEN = re.compile(rf"pg1\.({TOKEN_ID})\.([A-Za-z0-9_-]{{22}})\.([A-Za-z0-9_-]{{43}})(?:\.([A-Za-z0-9_-]{{43}}))?")


def derive(secret: bytes, purpose: bytes) -> bytes:
    """Return the key of 32 bytes that HKDF-SHA256 derives from a secret for one purpose."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose).derive(secret)


@dataclass(frozen=True, slots=True)
class AgentKeys:
    """The three keys derived from an agent's 256-bit secret by HKDF-SHA256; no key reveals another."""

    mqtt_password: str
    http_token: str
    mac_key: bytes

    def __repr__(self) -> str:
        """Return a text without the keys."""
        return "AgentKeys(…)"

    @classmethod
    def derive(cls, secret: bytes) -> Self:
        """Derive the keys from `secret`, 32 random bytes."""
        return cls(
            mqtt_password=message_codes.to_base64url(derive(secret, b"mqtt")),
            http_token=message_codes.to_base64url(derive(secret, b"http")),
            mac_key=derive(secret, b"mac"),
        )


def new_secret() -> bytes:
    """Generate an agent's secret: 256 random bits."""
    return secrets.token_bytes(SECRET_LENGTH)


class ManagerKeyring:
    """The manager's private keys: for signing (Ed25519), and for opening sealed secrets (X25519).

    Args:
        seed: 32 random bytes; all keys are derived from them.
        user_name_key: masks user names; by default derived, too.
    """

    def __init__(self, seed: bytes, user_name_key: bytes | None = None) -> None:
        self.store_key = derive(seed, b"store")
        self.user_name_key = user_name_key or derive(seed, b"user names")
        self.mark_key = derive(self.user_name_key, b"receipt marks")
        self._former_seal_keys: tuple[X25519PrivateKey, ...] = ()
        self._use(seed)

    def use(self, seed: bytes, former: Iterable[bytes] = ()) -> None:
        """Sign and seal with the keys of another seed from now on; secrets sealed to `former` seeds open as well."""
        self._use(seed)
        self._former_seal_keys = tuple(map(_seal_key, former))

    def _use(self, seed: bytes) -> None:
        self.seed = seed
        self.sign_key = Ed25519PrivateKey.from_private_bytes(derive(seed, b"sign"))
        self._seal_key = _seal_key(seed)

    @property
    def sign_public(self) -> str:
        """Public signing key, base64url."""
        return message_codes.to_base64url(self.sign_key.public_key().public_bytes_raw())

    @property
    def seal_public(self) -> str:
        """Public sealing key, base64url."""
        return message_codes.to_base64url(self._seal_key.public_key().public_bytes_raw())

    def unseal(self, sealed: str, context: str) -> bytes:
        """Decrypt a secret that `seal` encrypted for this manager and context.

        Raises:
            KeyMaterialError: the secret was sealed for another key or context, or was altered.
        """
        for key in (self._seal_key, *self._former_seal_keys):
            with suppress(ValueError, InvalidTag):
                return _unsealed(key, sealed, context)
        raise KeyMaterialError("the secret is not sealed to this manager's key")


def _seal_key(seed: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(derive(seed, b"seal"))


def _unsealed(seal_key: X25519PrivateKey, sealed: str, context: str) -> bytes:
    raw = message_codes.from_base64url(sealed)
    ephemeral, box = raw[:_PUBLIC_LENGTH], raw[_PUBLIC_LENGTH:]
    shared = seal_key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    key = derive(shared + ephemeral + seal_key.public_key().public_bytes_raw(), b"seal")
    return ChaCha20Poly1305(key).decrypt(_NONCE, box, context.encode())


def seal(seal_public: str, secret: bytes, context: str) -> str:
    """Encrypt `secret` so that only the private key of `seal_public` can decrypt it.

    Each call generates a new key, so the nonce may be zero. `context` (the client id) binds the ciphertext to one
    registration.

    Raises:
        KeyMaterialError: `seal_public` is not an X25519 key.
    """
    try:
        recipient = X25519PublicKey.from_public_bytes(message_codes.from_base64url(seal_public))
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        key = derive(ephemeral.exchange(recipient) + public + recipient.public_bytes_raw(), b"seal")
    except ValueError as error:
        raise KeyMaterialError("the manager's seal key is no X25519 key") from error
    return message_codes.to_base64url(public + ChaCha20Poly1305(key).encrypt(_NONCE, secret, context.encode()))


def public_sign_key(text: str) -> Ed25519PublicKey:
    """Parse the public signing key in a token or in ManagerKeys.

    Raises:
        KeyMaterialError: the text is not an Ed25519 key in base64url.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(message_codes.from_base64url(text))
    except ValueError as error:
        raise KeyMaterialError("the manager's sign key is no Ed25519 key") from error


def version_statement(agent_id: str, version: int, digest: str) -> bytes:
    """Return the bytes that a policy's `versionProof` signs."""
    return f"version\0{agent_id}\0{version}\0{digest}".encode()


def has_version_proof(key: Ed25519PublicKey, agent_id: str, version: int, digest: str, proof: str) -> bool:
    """Return whether the manager signed this version of this policy for this agent."""
    try:
        key.verify(message_codes.from_base64url(proof), version_statement(agent_id, version, digest))
    except Exception:  # noqa: BLE001 -- any error in a proof from the network makes it invalid
        return False
    return True


@dataclass(frozen=True, slots=True)
class EnrollmentToken:
    """An enrollment token: its issuer (`sign_key`), its id, and the secret that keys the proof.

    `ca_fingerprint` identifies the manager's own certificate authority, if any; the proof does not cover it.
    """

    token_id: str
    secret: bytes
    sign_key: str
    ca_fingerprint: str | None = None

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return f"EnrollmentToken({self.token_id})"

    def __str__(self) -> str:
        """Return the token's full text, including the secret."""
        text = f"pg1.{self.token_id}.{message_codes.to_base64url(self.secret)}.{self.sign_key}"
        return f"{text}.{self.ca_fingerprint}" if self.ca_fingerprint else text

    @property
    def proof_key(self) -> bytes:
        """SHA-256 of the secret: the key of proofs, stored by the manager instead of the secret."""
        return hashlib.sha256(self.secret).digest()

    @classmethod
    def new(cls, sign_key: str, ca_fingerprint: str | None = None) -> Self:
        """Generate a token for a manager's public signing key and its own certificate authority, if any."""
        secret = secrets.token_bytes(_TOKEN_SECRET_LENGTH)
        return cls(f"tok-{secrets.token_hex(8)}", secret, sign_key, ca_fingerprint)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a token.

        Raises:
            TokenError: the text is not a token; the error shows the form and never repeats the text.
        """
        found = _TOKEN.fullmatch(text.strip())
        if found is None:
            looks = "pg1.<id>.<secret>.<key>[.<fingerprint>]"
            raise TokenError(f"this is no enrollment token: one reads {looks}; copy it whole")
        try:
            token = cls(found[1], message_codes.from_base64url(found[2]), found[3], found[4])
            public_sign_key(token.sign_key)
            message_codes.from_base64url(token.ca_fingerprint or "")
        except ValueError as error:
            raise TokenError("the enrollment token is damaged; copy it whole, or make a new one") from error
        return token
