"""Known answers: keys and codes as any other implementation of the contract must compute them.

Every figure was computed with HMAC-SHA256 of Python's standard library alone (HKDF after RFC 5869, no salt).
"""

import json

from schemas import message_codes
from schemas.keys import AgentKeys, EnrollmentToken, ManagerKeyring, version_statement

SECRET = bytes(range(32))


def test_the_keys_of_an_agent_are_pinned() -> None:
    """A new release derives the same password, token and code key, or every agent would be locked out."""
    keys = AgentKeys.derive(SECRET)
    assert keys.mqtt_password == "8tyLS7Yq-kOK7JDijD7xaECuNB_55iyetMafd-7Z0_E"
    assert keys.http_token == "IogKZnLbJ61PUZuBjsHjFpLiUgRsGRizLM8PkERg1wY"
    assert keys.mac_key.hex() == "862b11868e89a58d780b87ae0011fbb640ce1408649cc26912268f39474a8643"


def test_the_keys_of_a_manager_are_pinned() -> None:
    """A new release signs with the same key, or every guard would stop to obey."""
    keyring = ManagerKeyring(SECRET)
    assert keyring.sign_key.private_bytes_raw().hex() == (
        "31e7a96533765890de800d704c155aaacf436c5006a4e8882f21ad20f3c19d53"
    )
    assert keyring.store_key.hex() == "e0597b7d58edeab0181b8a60789ae981fb45d0e7526d662357437b6b0e849955"


def test_a_message_code_is_pinned() -> None:
    """The code stands as the last member and covers topic, zero byte and what stands before it."""
    key = AgentKeys.derive(SECRET).mac_key
    payload = message_codes.with_mac(key, "agents/ag-0123456789abcdef/heartbeat", b'{"cpu":1}')
    assert payload == b'{"cpu":1,"mac":"a2AaiHobebfMyiQ6HnMgj5Fw-O7cDI4DNzVzPKOBr3w"}'
    assert json.loads(payload)["cpu"] == 1


def test_a_proof_is_keyed_with_sha_256_of_the_tokens_secret() -> None:
    """The manager keeps SHA-256 of a token's secret and nothing else of it."""
    token = EnrollmentToken("tok-1", bytes(16), ManagerKeyring(SECRET).sign_public)
    assert token.proof_key.hex() == "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb"


def test_a_version_statement_is_pinned_and_cannot_be_read_in_two_ways() -> None:
    """The statement of a version proof can be no coded message: their topics begin otherwise."""
    assert version_statement("ag-0123456789abcdef", 12, "ab") == b"version\x00ag-0123456789abcdef\x0012\x00ab"
