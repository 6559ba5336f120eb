"""A code vouches for every bit of a message, its topic and its key, and has one form."""

import hmac
import json
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from schemas import message_codes
from tests import strategies as wire

TOPIC = "agents/ag-0123456789abcdef/threats"
BODY = b'{"id":"t-1","n":1}'
SEED = bytes(range(32))
OTHER_SEED = bytes(range(1, 33))
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@dataclass(frozen=True)
class Code:
    """One of the three codes: how it is added and checked with the key that 32 bytes give."""

    member: str
    length: int
    add: Callable[[bytes, str, bytes], bytes]
    check: Callable[[bytes, str, bytes], bool]


def _sign(seed: bytes, topic: str, body: bytes) -> bytes:
    return message_codes.with_signature(Ed25519PrivateKey.from_private_bytes(seed), topic, body)


def _verify(seed: bytes, topic: str, payload: bytes) -> bool:
    return message_codes.has_signature(Ed25519PrivateKey.from_private_bytes(seed).public_key(), topic, payload)


CODES = [
    Code("mac", 43, message_codes.with_mac, message_codes.has_mac),
    Code("proof", 43, message_codes.with_proof, message_codes.has_proof),
    Code("signature", 86, _sign, _verify),
]
BY_CODE = pytest.mark.parametrize("code", CODES, ids=lambda code: code.member)

keys = st.binary(min_size=32, max_size=32)
bodies = st.dictionaries(wire.texts, wire.json_values, min_size=1, max_size=4).map(
    lambda document: json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
)
topics = st.sampled_from([TOPIC, "manager/keys"]) | wire.texts


def flipped(raw: bytes, bit: int) -> bytes:
    """Return bytes with one bit turned over."""
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flips(raw: bytes) -> Iterator[bytes]:
    """Yield bytes with each of their bits turned over in turn."""
    return (flipped(raw, bit) for bit in range(8 * len(raw)))


@BY_CODE
@given(key=keys, topic=topics, body=bodies)
def test_a_code_is_the_last_member_and_is_believed(code: Code, key: bytes, topic: str, body: bytes) -> None:
    """A coded message is the same JSON object with one more member at its end, and passes with its key and topic."""
    payload = code.add(key, topic, body)
    document = json.loads(body)
    assert payload.startswith(body[:-1] + f',"{code.member}":"'.encode())
    assert len(payload) == len(body) + len(f',"{code.member}":""') + code.length
    assert json.loads(payload) == {**document, code.member: json.loads(payload)[code.member]}
    assert code.check(key, topic, payload) is True


@given(key=keys, topic=topics, body=bodies)
def test_mac_and_proof_are_hmac_sha256_of_topic_zero_and_what_stands_before(
    key: bytes, topic: str, body: bytes
) -> None:
    """The HMACs are those that wire.md describes, by the standard library's own reckoning."""
    expected = hmac.digest(key, topic.encode() + b"\0" + body[:-1], "sha256")
    for payload in (message_codes.with_mac(key, topic, body), message_codes.with_proof(key, topic, body)):
        assert message_codes.from_base64url(payload[-45:-2].decode()) == expected


@given(seed=keys, topic=topics, body=bodies)
def test_a_signature_is_ed25519_over_topic_zero_and_what_stands_before(seed: bytes, topic: str, body: bytes) -> None:
    """The signature verifies with nothing but the public key and the bytes that wire.md names."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    payload = message_codes.with_signature(key, topic, body)
    key.public_key().verify(message_codes.from_base64url(payload[-88:-2].decode()), topic.encode() + b"\0" + body[:-1])


@BY_CODE
def test_every_flipped_bit_of_a_payload_is_noticed(code: Code) -> None:
    """No single bit of a message can change unseen, in its body, its code or the quotes around it."""
    payload = code.add(SEED, TOPIC, BODY)
    assert code.check(SEED, TOPIC, payload)
    assert not any(code.check(SEED, TOPIC, changed) for changed in flips(payload))


@BY_CODE
@given(key=keys, topic=topics, body=bodies, data=st.data())
def test_any_flipped_bit_of_any_payload_is_noticed(
    code: Code, key: bytes, topic: str, body: bytes, data: st.DataObject
) -> None:
    """The same holds for messages of any shape and length."""
    payload = code.add(key, topic, body)
    assert not code.check(key, topic, flipped(payload, data.draw(st.integers(0, 8 * len(payload) - 1))))


@BY_CODE
def test_every_flipped_bit_of_a_topic_is_noticed(code: Code) -> None:
    """A code holds for one topic, to the bit."""
    payload = code.add(SEED, TOPIC, BODY)
    changed = [topic.decode("latin1") for topic in flips(TOPIC.encode())]
    assert not any(code.check(SEED, topic, payload) for topic in changed)


@pytest.mark.parametrize("code", CODES[:2], ids=lambda code: code.member)
def test_every_flipped_bit_of_a_key_is_noticed(code: Code) -> None:
    """A key that differs in one bit vouches for nothing of the other's."""
    payload = code.add(SEED, TOPIC, BODY)
    assert not any(code.check(key, TOPIC, payload) for key in flips(SEED))


def test_every_flipped_bit_of_a_public_key_is_noticed() -> None:
    """A public key that differs in one bit verifies nothing, be it a point of the curve or not."""
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    payload = message_codes.with_signature(private, TOPIC, BODY)
    for raw in flips(private.public_key().public_bytes_raw()):
        try:
            public = Ed25519PublicKey.from_public_bytes(raw)
        except ValueError:
            continue
        assert not message_codes.has_signature(public, TOPIC, payload)


@BY_CODE
@given(topic=topics, other=topics, body=bodies)
def test_a_message_moved_to_another_topic_is_refused(code: Code, topic: str, other: str, body: bytes) -> None:
    """A broker cannot deliver a message where it was not sent."""
    assert code.check(SEED, other, code.add(SEED, topic, body)) is (topic == other)


@BY_CODE
@given(key=keys, body=bodies)
def test_another_key_is_refused(code: Code, key: bytes, body: bytes) -> None:
    """Only the key that made a code finds it right."""
    assert code.check(key, TOPIC, code.add(OTHER_SEED, TOPIC, body)) is (key == OTHER_SEED)


@BY_CODE
def test_a_cut_or_lengthened_message_is_refused(code: Code) -> None:
    """A message is whole or nothing, and nothing may be put before or behind it."""
    payload = code.add(SEED, TOPIC, BODY)
    pieces = [payload[:end] for end in range(len(payload))] + [payload[start:] for start in range(1, len(payload))]
    longer = [payload + b" ", payload + b"\n", b" " + payload, payload + payload, payload + b"\0"]
    assert not any(code.check(SEED, TOPIC, changed) for changed in pieces + longer)


@BY_CODE
@pytest.mark.parametrize("other", CODES, ids=lambda other: f"as {other.member}")
def test_one_code_does_not_pass_for_another(code: Code, other: Code) -> None:
    """A code counts under its own name only, even where the key and the bytes are the same."""
    payload = code.add(SEED, TOPIC, BODY)
    renamed = payload.replace(f'"{code.member}"'.encode(), f'"{other.member}"'.encode())
    assert other.check(SEED, TOPIC, payload) is (other is code)
    assert code.check(SEED, TOPIC, renamed) is (other is code)


@BY_CODE
def test_a_code_moved_forward_is_refused(code: Code) -> None:
    """The code is the last member: the same members in another order are not the message."""
    document = json.loads(code.add(SEED, TOPIC, BODY))
    moved = {code.member: document.pop(code.member), **document}
    assert not code.check(SEED, TOPIC, json.dumps(moved, separators=(",", ":")).encode())


@BY_CODE
def test_a_code_has_one_form(code: Code) -> None:
    """No other base64 text with the same meaning is taken: other last characters, padding, the other alphabet."""
    payload = code.add(SEED, TOPIC, BODY)
    head, text = payload[: -code.length - 2], payload[-code.length - 2 : -2]
    others = [text[:-1] + last.encode() for last in ALPHABET if last.encode() != text[-1:]]
    others += [text + b"=", text + b"==", text[:-1] + b"=", text[:10] + b"\n" + text[10:], text[:10] + b" " + text[10:]]
    # Found by trying: a body whose code has a character that the two alphabets write differently.
    for number in range(200):
        varied = code.add(SEED, TOPIC, b'{"n":%d}' % number)
        standard = varied.replace(b"-", b"+").replace(b"_", b"/")
        assert code.check(SEED, TOPIC, varied)
        assert standard == varied or not code.check(SEED, TOPIC, standard)
    assert not any(code.check(SEED, TOPIC, head + other + b'"}') for other in others)


@BY_CODE
@given(payload=st.binary(max_size=200), tail=st.booleans())
def test_checking_any_bytes_raises_nothing(code: Code, payload: bytes, tail: bool) -> None:
    """A code check on arbitrary bytes returns False and raises nothing."""
    end = f',"{code.member}":"{"A" * code.length}"}}'.encode() if tail else b""
    assert code.check(SEED, TOPIC, payload + end) is False


@BY_CODE
@pytest.mark.parametrize("payload", [b"", b"{}", b'"}', b"\xff" * 43, b',"mac":"', b"{" + b"\xff" * 200])
def test_an_empty_or_short_payload_raises_nothing(code: Code, payload: bytes) -> None:
    """An empty payload, which clears a retained message, carries no code."""
    assert code.check(SEED, TOPIC, payload) is False


@BY_CODE
def test_a_signature_of_characters_outside_the_alphabet_raises_nothing(code: Code) -> None:
    """A code of the right length in bytes that are no base64, or no ASCII, is just wrong."""
    for filling in (b"\xff", b"=", b"+", b"/", b" ", b"\0", b"\n"):
        payload = b'{"a":1,"%b":"%b"}' % (code.member.encode(), filling * code.length)
        assert code.check(SEED, TOPIC, payload) is False


@given(raw=st.binary())
def test_base64_survives(raw: bytes) -> None:
    """Bytes come back from their text, which has no padding and no character that a topic or URL minds."""
    text = message_codes.to_base64url(raw)
    assert set(text) <= set(ALPHABET)
    assert message_codes.from_base64url(text) == raw


@given(text=st.text() | st.text(ALPHABET + "=+/ \n"))
def test_only_canonical_base64_is_read(text: str) -> None:
    """`decode` accepts exactly the texts that `encode` gives; anything else is ValueError."""
    try:
        raw = message_codes.from_base64url(text)
    except ValueError:
        return
    assert message_codes.to_base64url(raw) == text


@given(payloads=st.lists(st.binary(max_size=20), max_size=20))
def test_a_content_digest_names_the_content(payloads: list[bytes]) -> None:
    """The same report again has the same digest, another has another, and each has 16 bytes."""
    digests: dict[Any, bytes] = {message_codes.content_digest(payload): payload for payload in payloads}
    assert len(digests) == len(set(payloads))
    assert all(
        len(digest) == 16 and message_codes.content_digest(payload) == digest for digest, payload in digests.items()
    )
