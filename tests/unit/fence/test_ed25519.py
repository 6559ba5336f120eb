"""Ed25519 verification against a well-known implementation, and against forged signatures."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fence.ed25519 import _decompress, verify

L = 2**252 + 27742317777372353535851937790883648493


def _signed(seed: bytes, message: bytes) -> tuple[bytes, bytes]:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.public_key().public_bytes_raw(), key.sign(message)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_a_right_signature_is_accepted(seed: bytes, message: bytes) -> None:
    """Whatever the other implementation signs is verified."""
    public, signature = _signed(seed, message)
    assert verify(public, signature, message)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=50), st.integers(0, 511))
def test_one_changed_bit_of_the_signature_is_refused(seed: bytes, message: bytes, bit: int) -> None:
    """Each bit of a signature counts."""
    public, signature = _signed(seed, message)
    forged = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
    assert not verify(public, forged, message)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=50), st.integers(0, 7))
def test_one_changed_bit_of_the_message_is_refused(seed: bytes, message: bytes, bit: int) -> None:
    """Each byte of the message counts."""
    public, signature = _signed(seed, message)
    forged = bytes([message[0] ^ 1 << bit]) + message[1:]
    assert not verify(public, signature, forged)


def test_a_signature_in_a_second_form_is_refused() -> None:
    """The scalar plus the group's order verifies in sloppy implementations, and gives every message two signatures."""
    public, signature = _signed(bytes(32), b"message")
    scalar = int.from_bytes(signature[32:], "little") + L
    assert not verify(public, signature[:32] + scalar.to_bytes(32, "little"), b"message")


@pytest.mark.parametrize("public", [b"", bytes(31), b"\xff" * 32, b"\x02" + bytes(31)])
def test_what_is_no_key_verifies_nothing(public: bytes) -> None:
    """Keys of a wrong size, out of range or off the curve."""
    _, signature = _signed(bytes(32), b"message")
    assert not verify(public, signature, b"message")


P = 2**255 - 19


@pytest.mark.parametrize("encoded", [P, P + 1, 1 | 1 << 255, 2])
def test_a_point_is_read_in_its_one_form_only(encoded: int) -> None:
    """Not out of the field's range, not with the sign of zero, and not off the curve."""
    assert _decompress((encoded % 2**256).to_bytes(32, "little")) is None


def test_the_identity_in_a_second_form_is_no_key() -> None:
    """Under the identity anybody signs anything, and a second form of it would pass a list of bad keys."""
    base = (4 * pow(5, P - 2, P) % P).to_bytes(32, "little")
    assert not verify((P + 1).to_bytes(32, "little"), base + (1).to_bytes(32, "little"), b"message")
