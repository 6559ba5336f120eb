"""Messages as an observer sees them: decoded, and verified by signature."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.cli.support.message_observer import MessageDecoder, ObservedMessage, observable_topics, summary
from schemas import message_codes, topics
from schemas.keys import ManagerKeyring
from schemas.presence import ManagerKeys
from schemas.succession import signed_link

AGENT = "ag-0123456789abcdef"
KEYRING = ManagerKeyring(bytes(32))
STRANGER = ManagerKeyring(bytes([1]) * 32)
NOW = 1_800_000_000.0
POLICY = b'{"version":3,"digest":"abc","scope":"global","blocklist":{"ips":["198.51.100.7"]}}'


def _keys(keyring: ManagerKeyring, signed_by: ManagerKeyring | None = None) -> bytes:
    body = ManagerKeys(sign_key=keyring.sign_public, seal_key=keyring.seal_public).body()
    return message_codes.with_signature((signed_by or keyring).sign_key, topics.MANAGER_KEYS.below_root(), body)


def _policy(keyring: ManagerKeyring, agent_id: str = AGENT) -> bytes:
    return message_codes.with_signature(keyring.sign_key, topics.POLICY.below_root(agent_id), POLICY)


def _see(decoder: MessageDecoder, row: topics.Topic, payload: bytes, identifier: str | None = AGENT) -> ObservedMessage:
    seen = decoder.decode(row.address(identifier if row.placeholder else None), payload)
    assert seen is not None
    return seen


def test_a_policy_is_verified_with_the_key_that_the_manager_published() -> None:
    """After manager/keys, the manager's own policies are verified, a stranger's and a moved one are not."""
    decoder = MessageDecoder()
    assert _see(decoder, topics.POLICY, _policy(KEYRING)).verified is None
    assert _see(decoder, topics.MANAGER_KEYS, _keys(KEYRING)).verified is True
    assert _see(decoder, topics.POLICY, _policy(KEYRING)).verified is True
    assert _see(decoder, topics.POLICY, _policy(STRANGER)).verified is False
    assert _see(decoder, topics.POLICY, _policy(KEYRING, "ag-ffffffffffffffff")).verified is False


def test_a_second_key_is_not_believed() -> None:
    """Other keys published later are not trusted."""
    decoder = MessageDecoder()
    _see(decoder, topics.MANAGER_KEYS, _keys(KEYRING))
    assert _see(decoder, topics.MANAGER_KEYS, _keys(STRANGER)).verified is False
    assert _see(decoder, topics.POLICY, _policy(STRANGER)).verified is False


def test_keys_that_do_not_sign_themselves_teach_nothing() -> None:
    """The key in a message must have signed it."""
    decoder = MessageDecoder()
    _see(decoder, topics.MANAGER_KEYS, _keys(KEYRING, signed_by=STRANGER))
    assert _see(decoder, topics.POLICY, _policy(KEYRING)).verified is None


def test_a_key_that_is_known_beforehand_is_the_only_one() -> None:
    """With the enrollment token's key even the first manager/keys of another is refused."""
    decoder = MessageDecoder(KEYRING.sign_public)
    assert _see(decoder, topics.MANAGER_KEYS, _keys(STRANGER)).verified is False
    assert _see(decoder, topics.POLICY, _policy(KEYRING)).verified is True


def test_the_same_keys_again_are_not_shown_again() -> None:
    """A retained message that matches two filters is one sighting."""
    decoder = MessageDecoder()
    topic = topics.MANAGER_KEYS.address()
    assert decoder.decode(topic, _keys(KEYRING)) is not None
    assert decoder.decode(topic, _keys(KEYRING)) is None


def test_codes_are_left_out_of_what_is_shown() -> None:
    """A record has the message's members, who it is about, and no code."""
    seen = _see(MessageDecoder(), topics.PRESENCE, b'{"state":"online","session":2,"mac":"AAAA"}')
    assert seen.agent_id == AGENT
    assert summary(seen) == "online, session 2"
    assert seen.record("2026-01-31T12:00:00Z") == {
        "at": "2026-01-31T12:00:00Z",
        "topic": f"panguard/v1/agents/{AGENT}/presence",
        "name": "presence",
        "id": AGENT,
        "verified": None,
        "payload": {"state": "online", "session": 2},
    }


@pytest.mark.parametrize(
    ("row", "identifier", "payload", "said"),
    [
        (
            topics.HEARTBEAT,
            AGENT,
            {"cpu": 12.4, "memory": 40, "mode": "learning", "eventsProcessed": 7, "policyVersion": 3},
            "cpu 12 % · memory 40 % · learning · 7 events · policy 3",
        ),
        (
            topics.THREATS,
            AGENT,
            {"threat": {"type": "brute_force", "confidence": 80, "evidence": {"sourceIp": "198.51.100.7"}}},
            "medium brute_force from 198.51.100.7, 80 % confidence",
        ),
        (topics.RECEIPTS, AGENT, {"stored": ["a", "b"], "refused": [{}]}, "2 stored, 1 refused"),
        (topics.POLICY_APPLIED, AGENT, {"version": 3, "state": "failed", "error": "no"}, "version 3 failed: no"),
        (topics.FLEET, "agent_stale", {"event": "agent_stale", "hostname": "srv-01"}, "agent_stale srv-01"),
    ],
)
def test_a_summary_says_what_matters(row: topics.Topic, identifier: str, payload: dict[str, object], said: str) -> None:
    """One line for each kind of message."""
    assert summary(_see(MessageDecoder(), row, json.dumps(payload).encode(), identifier)).strip() == said


def test_a_fleet_event_is_about_its_agent() -> None:
    """`--agent` finds what the manager says of an agent, too."""
    payload = json.dumps({"event": "agent_stale", "agentId": AGENT}).encode()
    assert _see(MessageDecoder(), topics.FLEET, payload, "agent_stale").agent_id == AGENT


@given(st.sampled_from(topics.TABLE), st.binary(max_size=200) | st.just(b'{"threat":3,"cpu":"x"}') | st.just(b"[]"))
def test_no_payload_breaks_the_watch(row: topics.Topic, payload: bytes) -> None:
    """Garbage on any topic is shown as what it is."""
    identifiers = {"agentId": AGENT, "clientId": "0" * 32, "organizationId": "acme", "event": "x", None: None}
    seen = _see(MessageDecoder(KEYRING.sign_public), row, payload, identifiers[row.placeholder])
    assert isinstance(summary(seen), str)
    assert seen.verified is not True
    json.dumps(seen.record("now"))


def test_a_topic_of_no_row_is_shown_as_unknown() -> None:
    """Messages on unknown topics are shown."""
    seen = MessageDecoder().decode("panguard/v1/agents/nobody/else", b"hello")
    assert seen is not None
    assert (seen.name, summary(seen)) == ("unknown", "hello")


def test_registrations_are_no_topic_of_an_observers() -> None:
    """`traffic --topic registration` is refused, as observers may not read it."""
    assert "registration" not in observable_topics()
    assert {"threats", "policy", "fleet"} <= set(observable_topics())


def test_several_reports_in_one_message_are_summarized_each_up_to_three() -> None:
    """A message of several reports says how many, and what the first are about."""
    report = {"threat": {"type": "brute_force", "confidence": 80, "evidence": {"sourceIp": "203.0.113.7"}}}
    for count, more in ((2, ""), (5, ", and 2 more")):
        payload = json.dumps({"reports": [report] * count}).encode()
        said = summary(_see(MessageDecoder(), topics.THREATS, payload))
        one = "medium brute_force from 203.0.113.7, 80 % confidence"
        assert said == f"{count} reports: {'; '.join([one] * min(count, 3))}{more}"
    assert summary(_see(MessageDecoder(), topics.THREATS, b'{"reports":[5]}')) == "reports=[5]"
    assert summary(_see(MessageDecoder(), topics.THREATS, b'{"reports":[]}')) == "reports=[]"


def test_a_rotation_of_the_key_is_followed() -> None:
    """The keys of a rotation lead the observer on, if both keys have signed it; another manager's do not."""
    decoder = MessageDecoder(KEYRING.sign_public, lambda: NOW)
    link = signed_link(KEYRING.sign_key, STRANGER.sign_key, number=1, now=NOW)
    alone = link.model_copy(update={"predecessor_signature": link.successor_signature})
    for links, verified in (([alone], False), ([link], True)):
        body = ManagerKeys(sign_key=STRANGER.sign_public, seal_key=STRANGER.seal_public, successions=links).body()
        keys = message_codes.with_signature(STRANGER.sign_key, topics.MANAGER_KEYS.below_root(), body)
        told = decoder.decode(topics.MANAGER_KEYS.address(), keys)
        assert told is not None
        assert told.verified is verified
        policy = decoder.decode(topics.POLICY.address(AGENT), _policy(STRANGER))
        assert policy is not None
        assert policy.verified is verified
