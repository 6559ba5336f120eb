"""Ed25519 signature verification (RFC 8032, section 5.1.7), and nothing else: the fence never signs."""

import hashlib

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SQRT_M1 = pow(2, (_P - 1) // 4, _P)

Point = tuple[int, int, int, int]
"""Extended homogeneous coordinates X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z."""

_IDENTITY: Point = (0, 1, 1, 0)


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether `signature` (64 bytes) is the one of `message` under `public_key` (32 bytes)."""
    if len(public_key) != 32 or len(signature) != 64:  # noqa: PLR2004 -- the sizes of the RFC
        return False
    key = _decompress(public_key)
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or scalar >= _L:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % _L
    negated: Point = (_P - key[0], key[1], key[2], _P - key[3])
    return _compress(_combined(scalar, challenge, negated)) == signature[:32]


def _add(left: Point, right: Point) -> Point:
    a = (left[1] - left[0]) * (right[1] - right[0]) % _P
    b = (left[1] + left[0]) * (right[1] + right[0]) % _P
    c = 2 * left[3] * right[3] * _D % _P
    d = 2 * left[2] * right[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _combined(scalar: int, challenge: int, key: Point) -> Point:
    """Return scalar x base point + challenge x key, both in one pass over the bits."""
    both = _add(_BASE, key)
    total = _IDENTITY
    for bit in range(max(scalar.bit_length(), challenge.bit_length()) - 1, -1, -1):
        total = _add(total, total)
        match (scalar >> bit & 1, challenge >> bit & 1):
            case (1, 1):
                total = _add(total, both)
            case (1, 0):
                total = _add(total, _BASE)
            case (0, 1):
                total = _add(total, key)
    return total


def _compress(point: Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decompress(encoded: bytes) -> Point | None:
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= _P:
        return None
    squared = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(squared, (_P + 3) // 8, _P)
    if (x * x - squared) % _P:
        x = x * _SQRT_M1 % _P
    if (x * x - squared) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


_BASE = _decompress((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little")) or _IDENTITY
