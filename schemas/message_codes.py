"""Message codes: HMAC and Ed25519 authentication of payloads, independent of the broker.

A coded message is a JSON object whose last member is its code: ``,"mac":"…"}``, ``,"proof":"…"}`` or
``,"signature":"…"}``. The code covers the topic below the root, a zero byte, and every byte of the payload before that
member. Codes are unpadded base64url and compared as text, so each message has one valid form.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import b2a_base64
from hashlib import blake2b, sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_CODE_LENGTH = 43
_SIGNATURE_LENGTH = 86
_MAC = b',"mac":"'
_PROOF = b',"proof":"'
_SIGNATURE = b',"signature":"'
_END = b'"}'
_MAC_TAIL = len(_MAC) + _CODE_LENGTH + len(_END)
_PROOF_TAIL = len(_PROOF) + _CODE_LENGTH + len(_END)
_SIGNATURE_TAIL = len(_SIGNATURE) + _SIGNATURE_LENGTH + len(_END)

_BLOCK = 64
"""The block size of SHA-256 in bytes."""

_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def to_base64url(raw: bytes) -> str:
    """Encode bytes as unpadded base64url."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Decode unpadded base64url in its canonical form, the output of `to_base64url`.

    Raises:
        ValueError: the text is not base64url or not in canonical form.
    """
    raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if to_base64url(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def _hmac(key: bytes, topic: str, covered: bytes) -> bytes:
    """Return the HMAC-SHA256 of a message in base64url, by RFC 2104.

    Two calls of `sha256` cost half as much as `hmac.digest`, which looks its algorithm up in OpenSSL at each call.
    """
    block = (key if len(key) <= _BLOCK else sha256(key).digest()).ljust(_BLOCK, b"\0")
    inner = sha256(block.translate(_INNER_PAD) + topic.encode() + b"\0" + covered).digest()
    code = sha256(block.translate(_OUTER_PAD) + inner).digest()
    return b2a_base64(code, newline=False).translate(_URL_SAFE)[:_CODE_LENGTH]


def with_mac(key: bytes, topic: str, body: bytes) -> bytes:
    """Append a message code to the JSON object `body`; `topic` is the topic below the root."""
    return b"%b%b%b%b" % (body[:-1], _MAC, _hmac(key, topic, body[:-1]), _END)


def has_mac(key: bytes, topic: str, payload: bytes) -> bool:
    """Return whether `payload` ends in the correct code for this key and topic; constant-time comparison."""
    covered = payload[:-_MAC_TAIL]
    expected = _MAC + _hmac(key, topic, covered) + _END
    return hmac.compare_digest(payload[-_MAC_TAIL:], expected)


def without_mac(payload: bytes) -> bytes:
    """Strip the code from a payload that passed `has_mac`."""
    return payload[:-_MAC_TAIL] + b"}"


def with_proof(token_key: bytes, topic: str, body: bytes) -> bytes:
    """Append a proof to a registration; `token_key` is SHA-256 of the token's secret."""
    return b"%b%b%b%b" % (body[:-1], _PROOF, _hmac(token_key, topic, body[:-1]), _END)


def has_proof(token_key: bytes, topic: str, payload: bytes) -> bool:
    """Return whether a registration has the correct proof of the token; constant-time comparison."""
    covered = payload[:-_PROOF_TAIL]
    expected = b"%b%b%b" % (_PROOF, _hmac(token_key, topic, covered), _END)
    return hmac.compare_digest(payload[-_PROOF_TAIL:], expected)


def with_signature(key: Ed25519PrivateKey, topic: str, body: bytes) -> bytes:
    """Append the manager's signature to the JSON object `body`."""
    covered = body[:-1]
    signature = to_base64url(key.sign(b"%b\0%b" % (topic.encode(), covered))).encode()
    return b"%b%b%b%b" % (covered, _SIGNATURE, signature, _END)


def has_signature(key: Ed25519PublicKey, topic: str, payload: bytes) -> bool:
    """Return whether `payload` ends in a valid signature for this topic."""
    covered, tail = payload[:-_SIGNATURE_TAIL], payload[-_SIGNATURE_TAIL:]
    if not (tail.startswith(_SIGNATURE) and tail.endswith(_END)):
        return False
    try:
        key.verify(
            from_base64url(tail[len(_SIGNATURE) : -len(_END)].decode("ascii")), b"%b\0%b" % (topic.encode(), covered)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def payload_digest(payload: bytes) -> str:
    """Return the SHA-256 of a payload in hexadecimal, by which messages refer to each other."""
    return sha256(payload).hexdigest()


def content_digest(payload: bytes) -> bytes:
    """Return a 16-byte digest of a report's content, equal for a repeated report."""
    return blake2b(payload, digest_size=16).digest()
