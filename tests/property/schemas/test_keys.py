"""Secrets stay with those they are meant for: derived keys, sealed secrets, version proofs and enrollment tokens."""

import hmac
import traceback
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import message_codes
from schemas.certificates import fingerprint
from schemas.errors import KeyMaterialError, TokenError
from schemas.keys import (
    AgentKeys,
    EnrollmentToken,
    ManagerKeyring,
    has_version_proof,
    new_secret,
    public_sign_key,
    seal,
    version_statement,
)
from schemas.registration import Registration
from tests import strategies as wire
from tests.support.examples import examples

KEYRING = ManagerKeyring(bytes(range(32)))
OTHER = ManagerKeyring(bytes(range(1, 33)))
CONTEXT = "0123456789abcdef" * 2

secrets_32 = st.binary(min_size=32, max_size=32)
tokens = st.builds(
    EnrollmentToken,
    token_id=wire.token_ids,
    secret=st.binary(min_size=16, max_size=16),
    sign_key=st.sampled_from([KEYRING.sign_public, OTHER.sign_public]),
    ca_fingerprint=st.none() | st.binary(max_size=64).map(fingerprint),
)


def hkdf(secret: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA256 (RFC 5869) without salt, from nothing but HMAC."""
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def shown(holder: Any) -> str:
    """Return everything that a log or a debugger would print of an object."""
    return f"{holder!r} {[holder]} {holder!a}"


def spellings(secret: bytes) -> list[str]:
    """Return the texts in which bytes may show themselves."""
    return [secret.hex(), message_codes.to_base64url(secret), repr(secret), str(list(secret))]


@given(secret=secrets_32)
def test_agent_keys_are_hkdf_sha256_by_purpose(secret: bytes) -> None:
    """The three keys are those that the standard library's HMAC gives, the same at every call."""
    keys = AgentKeys.derive(secret)
    assert keys == AgentKeys.derive(secret)
    assert message_codes.from_base64url(keys.mqtt_password) == hkdf(secret, b"mqtt")
    assert message_codes.from_base64url(keys.http_token) == hkdf(secret, b"http")
    assert keys.mac_key == hkdf(secret, b"mac")


@given(secret=secrets_32, other=secrets_32)
def test_agent_keys_differ_from_one_another_and_from_anybodys(secret: bytes, other: bytes) -> None:
    """No key of a secret is another key of it, nor of another secret, nor the secret itself."""
    material = set()
    for one in {secret, other}:
        keys = AgentKeys.derive(one)
        material |= {
            one,
            message_codes.from_base64url(keys.mqtt_password),
            message_codes.from_base64url(keys.http_token),
            keys.mac_key,
        }
    assert len(material) == 4 * len({secret, other})


@given(seed=secrets_32)
def test_a_keyring_comes_back_from_its_seed(seed: bytes) -> None:
    """A seed kept is all keys kept, and no two of them are the same."""
    first, again = ManagerKeyring(seed), ManagerKeyring(seed)
    assert (first.sign_public, first.seal_public, first.store_key) == (
        again.sign_public,
        again.seal_public,
        again.store_key,
    )
    assert first.store_key == hkdf(seed, b"store")
    assert first.sign_key.private_bytes_raw() == hkdf(seed, b"sign")
    assert len({first.sign_public, first.seal_public, message_codes.to_base64url(first.store_key)}) == 3


def test_new_secrets_are_long_and_new() -> None:
    """Each secret has 256 bits and is like no other."""
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {32}


@given(secret=st.binary(max_size=64), context=wire.texts)
def test_a_sealed_secret_opens_for_its_manager(secret: bytes, context: str) -> None:
    """A secret sealed to a manager's public key is opened in the same context, also after a restart."""
    sealed = seal(KEYRING.seal_public, secret, context)
    assert ManagerKeyring(bytes(range(32))).unseal(sealed, context) == secret


@given(secret=secrets_32, context=wire.client_ids, other=wire.client_ids)
def test_a_sealed_secret_opens_for_nobody_else(secret: bytes, context: str, other: str) -> None:
    """Another manager, or another registration, gets nothing out of it."""
    sealed = seal(KEYRING.seal_public, secret, context)
    with pytest.raises(KeyMaterialError):
        OTHER.unseal(sealed, context)
    if other != context:
        with pytest.raises(KeyMaterialError):
            KEYRING.unseal(sealed, other)


def test_every_changed_bit_of_a_sealed_secret_is_noticed() -> None:
    """Neither the ephemeral key nor the box can change by a bit, cut or lengthened."""
    raw = message_codes.from_base64url(seal(KEYRING.seal_public, bytes(32), CONTEXT))
    changed = [
        raw[: bit // 8] + bytes([raw[bit // 8] ^ 1 << bit % 8]) + raw[bit // 8 + 1 :] for bit in range(8 * len(raw))
    ]
    changed += [raw[:end] for end in range(len(raw))] + [raw + b"\0"]
    for piece in changed:
        with pytest.raises(KeyMaterialError):
            KEYRING.unseal(message_codes.to_base64url(piece), CONTEXT)


def test_a_sealed_secret_tells_nothing_and_fits_a_registration() -> None:
    """Sealing twice gives two texts, the secret stands in neither, and both fit the member they travel in."""
    secret = new_secret()
    first, second = seal(KEYRING.seal_public, secret, CONTEXT), seal(KEYRING.seal_public, secret, CONTEXT)
    assert first[:43] != second[:43]
    assert first[43:] != second[43:]
    assert secret not in message_codes.from_base64url(first)
    limit = next(part.max_length for part in Registration.model_fields["sealed_secret"].metadata)
    assert len(first) <= limit


@given(text=st.text() | st.text("AQgw-_=", max_size=130))
@example(text="")
@example(text=message_codes.to_base64url(bytes(80)))
@example(text=message_codes.to_base64url(b"\x01" + bytes(79)))
def test_unsealing_any_text_is_a_key_material_error(text: str) -> None:
    """Text from the network is no sealed secret, also where its point has a low order; nothing else is raised."""
    with pytest.raises(KeyMaterialError):
        KEYRING.unseal(text, CONTEXT)


@given(text=st.text(max_size=60) | st.text("AQgw-_=", min_size=42, max_size=44))
@example(text="A" * 43)
@example(text=KEYRING.seal_public + "=")
def test_a_public_key_is_a_key_or_a_key_material_error(text: str) -> None:
    """A key offered by a token or a broker is used as one or refused as such."""
    for use in (public_sign_key, lambda key: KEYRING.unseal(seal(key, b"secret", CONTEXT), CONTEXT)):
        try:
            use(text)
        except KeyMaterialError:
            continue
        assert len(message_codes.from_base64url(text)) == 32


@pytest.mark.parametrize("key", ["A" * 43, message_codes.to_base64url(b"\x01" + bytes(31))])
def test_a_seal_key_that_gives_everybody_the_same_secret_is_refused(key: str) -> None:
    """A point of low order would seal the secret to whoever reads it."""
    with pytest.raises(KeyMaterialError):
        seal(key, new_secret(), CONTEXT)


@given(agent=wire.agent_ids, version=wire.counts, digest=wire.digests, other=st.data())
def test_a_version_proof_holds_for_one_agent_version_and_digest(
    agent: str, version: int, digest: str, other: st.DataObject
) -> None:
    """The manager's word that an agent got a version is no word for another agent, version, policy or manager."""
    key = public_sign_key(KEYRING.sign_public)
    proof = message_codes.to_base64url(KEYRING.sign_key.sign(version_statement(agent, version, digest)))
    assert has_version_proof(key, agent, version, digest, proof) is True
    said = (other.draw(wire.agent_ids | st.just(agent)), other.draw(wire.counts), other.draw(wire.digests))
    assert has_version_proof(key, *said, proof) is (said == (agent, version, digest))
    assert not has_version_proof(key, agent, version + 1, digest, proof)
    assert not has_version_proof(public_sign_key(OTHER.sign_public), agent, version, digest, proof)


@given(proof=st.text() | st.text("AQgw-_=", min_size=86, max_size=88), agent=st.text())
@example(proof="\ud800", agent="\ud800")
def test_any_text_is_no_version_proof(proof: str, agent: str) -> None:
    """A heartbeat may carry whatever it likes as its proof."""
    assert has_version_proof(public_sign_key(KEYRING.sign_public), agent, 1, "0" * 64, proof) is False


def test_every_changed_character_of_a_version_proof_is_noticed() -> None:
    """A proof has one form, and no part of it may change."""
    key = public_sign_key(KEYRING.sign_public)
    proof = message_codes.to_base64url(KEYRING.sign_key.sign(version_statement("ag-0123456789abcdef", 1, "0" * 64)))
    for index, character in enumerate(proof):
        for other in "AQgw":
            if other != character:
                changed = proof[:index] + other + proof[index + 1 :]
                assert not has_version_proof(key, "ag-0123456789abcdef", 1, "0" * 64, changed)


@given(token=tokens, padding=st.text(" \t\r\n", max_size=3))
def test_a_token_survives_as_text(token: EnrollmentToken, padding: str) -> None:
    """A token copied with white space around it is parsed as the same token."""
    text = str(token)
    tail = f".{token.ca_fingerprint}" if token.ca_fingerprint else ""
    assert text == f"pg1.{token.token_id}.{message_codes.to_base64url(token.secret)}.{token.sign_key}{tail}"
    assert EnrollmentToken.parse(padding + text + padding) == token


def test_new_tokens_are_tokens_and_new() -> None:
    """A fresh token reads back, has 128 secret bits, and shares neither id nor secret with another."""
    first, second = EnrollmentToken.new(KEYRING.sign_public), EnrollmentToken.new(KEYRING.sign_public)
    assert EnrollmentToken.parse(str(first)) == first
    assert len(first.secret) == 16
    assert first.token_id != second.token_id
    assert first.secret != second.secret


@settings(max_examples=examples(100))
@given(token=tokens, data=st.data())
def test_a_damaged_token_is_refused_without_a_word_of_it(token: EnrollmentToken, data: st.DataObject) -> None:
    """A token that was cut or garbled is refused, and neither text nor traceback shows any of its secret."""
    text = str(token)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    damaged = text[:start] + data.draw(st.sampled_from(["", ".", "=", "+", " ", "é", "\0", "x" * 50])) + text[end:]
    try:
        parsed = EnrollmentToken.parse(damaged)
    except TokenError as error:
        told = "".join(traceback.format_exception_only(error)) + repr(error) + repr(error.__cause__)
        secret = message_codes.to_base64url(token.secret)
        assert not any(secret[at : at + 6] in told for at in range(len(secret) - 5))
    else:
        assert str(parsed) == damaged.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pg1",
        "pg1...",
        "pg2.tok-1.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public,
        "PG1.tok-1.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public,
        "pg1.tok/1.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public,
        "pg1.tok-1.AAAAAAAAAAAAAAAAAAAAAB." + KEYRING.sign_public,
        "pg1.tok-1.AAAAAAAAAAAAAAAAAAAAAA." + "A" * 42 + "B",
        "pg1.tok-1.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public + ".",
        "pg1.tok-1.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public + "\0",
        "pg1.tok-1.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public + "." + "A" * 42,
        "pg1.tok-1.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public + "." + "A" * 42 + "B",
        "pg1.tok-1.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public + "." + "A" * 43 + ".x",
        "pg1." + "t" * 65 + ".AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public,
        "pg1.\u0661.AAAAAAAAAAAAAAAAAAAAAA." + KEYRING.sign_public,
        "x" * 1_000_000,
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_token_is_refused(text: str) -> None:
    """Only `pg1.{tokenId}.{secret}.{signKey}[.{fingerprint}]`, each part in its one form, is a token."""
    with pytest.raises(TokenError):
        EnrollmentToken.parse(text)


@given(secret=secrets_32, token=tokens)
def test_holders_of_secrets_show_nothing(secret: bytes, token: EnrollmentToken) -> None:
    """The text of keys, a keyring or a token contains none of their secrets."""
    keys, keyring = AgentKeys.derive(secret), ManagerKeyring(secret)
    told = shown(keys) + shown(keyring) + shown(token) + str(keys) + str(keyring)
    hidden = spellings(secret) + spellings(keys.mac_key) + spellings(keyring.store_key) + spellings(token.secret)
    hidden += [keys.mqtt_password, keys.http_token, *spellings(token.proof_key)]
    assert not any(text in told for text in hidden)
    assert token.token_id in repr(token)
