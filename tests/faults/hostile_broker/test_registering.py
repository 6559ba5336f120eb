"""Registration past a malicious broker: a guard trusts the manager of its token only.

The broker may keep it waiting, and then it says why, detects, and spools.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from schemas import message_codes, topics
from schemas.keys import ManagerKeyring
from tests.faults.hostile_broker.fleet import HostileFleet, settled
from tests.faults.hostile_broker.past import VICTIM
from tests.integration.guard.guard_thread import GuardThread
from tests.support.hostile.lies import FORGER
from tests.support.hostile.packets import Message
from tests.support.hostile.tampering import Withheld, is_of
from tests.support.waiting import eventually

KEYS = topics.MANAGER_KEYS.address()


@pytest.fixture
def newcomer(past: HostileFleet, request: pytest.FixtureRequest) -> Iterator[GuardThread]:
    """A guard that was never started; the agent that it becomes is removed when the test is over."""
    guard = past.guard(request.node.name.replace("[", "-").strip("]").replace("_", "-")[-60:].strip("-"))
    guard.settings = guard.settings.model_copy(update={"registration_timeout": 0.2})
    yield guard
    guard.stop()
    del past.guards[guard.hostname]
    past.remove(guard.hostname)


def _waits_and_spools(fleet: HostileFleet, guard: GuardThread, reason: str) -> None:
    """Show that a guard says why it is not registered, and goes on detecting."""
    eventually(lambda: reason in fleet.trouble(guard), what=reason)
    guard.log.attack("198.51.100.77")
    eventually(lambda: len(fleet.outbox(guard)) == 1, what="a report that waits")
    assert guard.failure is None
    assert guard.status()["agentId"] is None


def _is_registered_at_last(fleet: HostileFleet, guard: GuardThread) -> None:
    guard.ready()
    settled(fleet, guard)
    assert fleet.stored(guard.hostname) == ["198.51.100.77"]


def _forged_keys(_true: bytes) -> bytes:
    body = {"signKey": FORGER.sign_public, "sealKey": FORGER.seal_public}
    return message_codes.with_signature(FORGER.sign_key, topics.MANAGER_KEYS.below_root(), json.dumps(body).encode())


def _swapped_seal_key(true: bytes) -> bytes:
    """Return the manager's own keys but for the one that seals, in the hope to open what is sealed."""
    return true.replace(json.loads(true)["sealKey"].encode(), FORGER.seal_public.encode())


def _keys_of_another_manager(_true: bytes) -> bytes:
    keyring = ManagerKeyring(bytes(32))
    body = {"signKey": keyring.sign_public, "sealKey": keyring.seal_public}
    return message_codes.with_signature(keyring.sign_key, topics.MANAGER_KEYS.below_root(), json.dumps(body).encode())


@pytest.mark.parametrize(
    "spoil",
    [_forged_keys, _swapped_seal_key, _keys_of_another_manager, lambda true: true[:-1]],
    ids=["inject", "alter", "swap", "truncate"],
)
def test_no_keys_but_the_tokens_are_believed(
    past: HostileFleet, newcomer: GuardThread, spoil: Callable[[bytes], bytes]
) -> None:
    """To a manager that is not the token's a guard says nothing, not even its name; it waits for the right one."""
    true = past.broker.retained(KEYS)
    assert true is not None
    past.broker.publish(Message(KEYS, spoil(true), retained=True))
    try:
        newcomer.start()
        _waits_and_spools(past, newcomer, "this broker's manager is not the one that issued the token")
        assert past.registrations(newcomer.hostname) == []
    finally:
        past.broker.publish(Message(KEYS, true, retained=True))
    _is_registered_at_last(past, newcomer)


def test_the_keys_again_change_nothing(past: HostileFleet, newcomer: GuardThread) -> None:
    """Keys that are said again and again lead to one registration, and to an agent that goes on."""
    true = past.broker.retained(KEYS)
    assert true is not None
    replies = Withheld([topics.REGISTRATION_REPLY])
    with past.broker.tampering(replies):
        newcomer.start()
        eventually(lambda: past.registrations(newcomer.hostname), what="a registration")
        past.broker.publish(*[Message(KEYS, true, retained=True)] * 3)
        eventually(lambda: len(replies.kept) >= 2, what="the registration again")
    newcomer.ready()
    assert len({message.payload for message in past.registrations(newcomer.hostname)}) == 1


def test_the_keys_of_before_a_rotation_lead_no_guard_back(past: HostileFleet, newcomer: GuardThread) -> None:
    """Played after those of the rotation they change nothing: the guard has the new key, and obeys it."""
    before = past.broker.retained(KEYS)
    assert before is not None
    newcomer.start().ready()
    state = past.manager.request("POST", "/api/keys/rotate", {})
    try:
        eventually(lambda: _newest_key(newcomer) == state["signKey"], what="the new key at the guard")
        past.broker.publish(*[Message(KEYS, before, retained=True)] * 3)
        sections = {"thresholds": {"autoRespond": 90, "notifyAndWait": 41}}
        past.manager.request("PUT", "/api/policies/global", sections)
        eventually(lambda: not past.get("/api/policies/drift"), what="the policy under the new key at every guard")
        assert _newest_key(newcomer) == state["signKey"]
    finally:
        former = past.manager.request("POST", "/api/keys/rollback", {})["signKey"]
    eventually(lambda: _newest_key(newcomer) == former, what="the former key after the rollback")


def _newest_key(guard: GuardThread) -> str:
    identity = json.loads((guard.directory / "identity.json").read_text())
    return str(identity["successions"][-1]["successor"]) if identity["successions"] else str(identity["sign_key"])


def test_withheld_keys_are_noticed(past: HostileFleet, newcomer: GuardThread) -> None:
    """A guard that hears of no manager says so, detects and spools; once the keys come it reports."""
    true = past.broker.retained(KEYS)
    assert true is not None
    past.broker.forget_retained(KEYS)
    try:
        newcomer.start()
        _waits_and_spools(past, newcomer, "no manager has announced its keys at this broker")
    finally:
        past.broker.publish(Message(KEYS, true, retained=True))
    _is_registered_at_last(past, newcomer)


@pytest.mark.parametrize("row", [topics.REGISTRATION, topics.REGISTRATION_REPLY], ids=lambda row: row.name)
def test_a_withheld_registration_is_noticed(past: HostileFleet, newcomer: GuardThread, row: topics.Topic) -> None:
    """A guard whose registration is not answered says so, detects and spools; one answer later it is that one agent."""
    with past.broker.tampering(Withheld([row])):
        newcomer.start()
        _waits_and_spools(past, newcomer, "the manager has not answered the registration")
    _is_registered_at_last(past, newcomer)
    assert len([agent for agent in past.get("/api/agents") if agent["hostname"] == newcomer.hostname]) == 1


def test_a_registration_that_is_cut_short_turns_no_guard_away(past: HostileFleet, newcomer: GuardThread) -> None:
    """The manager rightly refuses what the broker made of it, signed; the guard does not take that for its answer."""
    spoilt: list[Message] = []

    def spoil(message: Message) -> list[Message]:
        if not is_of(message, [topics.REGISTRATION]) or not message.payload:  # an empty one clears the topic
            return [message]
        token = json.loads(message.payload)["tokenId"].encode()
        spoilt.append(message._replace(payload=message.payload.replace(token, b"tok-ffffffffffffffff")))
        spoilt.append(message._replace(payload=message.payload[:-10] + b"AAAAAAAA" + message.payload[-2:]))
        spoilt.append(message._replace(payload=message.payload[:100]))
        return spoilt[-3:]

    with past.broker.tampering(spoil):
        newcomer.start()
        _waits_and_spools(past, newcomer, "the manager has not answered the registration")
    reply = topics.REGISTRATION_REPLY.address(spoilt[0].topic.rpartition("/")[2])
    said = {json.loads(message.payload).get("error") for message in past.broker.heard if message.topic == reply}
    assert {"unknown_token", "bad_proof", "malformed"} <= said
    _is_registered_at_last(past, newcomer)


@pytest.mark.parametrize("tampering", ["inject", "replay", "swap", "truncate"])
def test_no_reply_but_its_own_names_a_guard(past: HostileFleet, newcomer: GuardThread, tampering: str) -> None:
    """A reply that is forged, of another registration, to another guard, or truncated gives no identity."""
    other_id = past.registrations(VICTIM)[-1].topic.rpartition("/")[2]
    (theirs, *_) = past.heard(topics.REGISTRATION_REPLY, other_id)

    def answer(message: Message) -> list[Message]:
        """Put something else in the place of each reply."""
        if not is_of(message, [topics.REGISTRATION_REPLY]):
            return [message]
        client_id = topics.resolve(message.topic)[1]
        body = {**json.loads(theirs.payload), "clientId": client_id}
        body.pop("signature")
        below = topics.REGISTRATION_REPLY.below_root(client_id)
        return {
            "inject": [
                message._replace(
                    payload=message_codes.with_signature(FORGER.sign_key, below, json.dumps(body).encode())
                ),
                message._replace(payload=message.payload.replace(b'"session":0', b'"session":9')),
            ],
            "replay": [theirs, theirs],
            "swap": [message._replace(payload=theirs.payload)],
            "truncate": [message._replace(payload=message.payload[:-1])],
        }[tampering]

    with past.broker.tampering(answer):
        newcomer.start()
        _waits_and_spools(past, newcomer, "the manager has not answered the registration")
    _is_registered_at_last(past, newcomer)
    assert newcomer.status()["agentId"] != past.guards[VICTIM].status()["agentId"]


def _answered(fleet: HostileFleet, registration: Message) -> bytes:
    """Offer a registration once more, and return the answer to that."""
    client_id = registration.topic.rpartition("/")[2]
    known = len(fleet.heard(topics.REGISTRATION_REPLY, client_id))
    fleet.broker.publish(registration)
    (answer,) = eventually(lambda: fleet.heard(topics.REGISTRATION_REPLY, client_id)[known:], what="an answer")
    return answer.payload


def test_the_newest_registration_gets_the_same_reply_again(past: HostileFleet) -> None:
    """Byte for byte the same registration is answered byte for byte the same; an older one is called outdated."""
    oldest, *_, newest = past.registrations(VICTIM)
    before = past.facts()
    first, *_ = past.heard(topics.REGISTRATION_REPLY, newest.topic.rpartition("/")[2])
    assert _answered(past, newest) == first.payload
    assert json.loads(_answered(past, oldest))["error"] == "outdated"
    assert past.facts() == before


def test_a_removed_agent_is_not_brought_back(past: HostileFleet, newcomer: GuardThread) -> None:
    """Replayed messages of a removed guard (registration, presence, heartbeats, threats) bring nothing back."""
    newcomer.start().ready()
    newcomer.log.attack("198.51.100.78")
    eventually(lambda: past.stored(newcomer.hostname), what="a threat")
    settled(past, newcomer)
    agent_id = newcomer.status()["agentId"]
    newcomer.stop()
    rows = (topics.PRESENCE, topics.HEARTBEAT, topics.THREATS)
    kept = [message for row in rows for message in past.heard(row, agent_id)]
    kept += past.registrations(newcomer.hostname)
    past.manager.request("DELETE", f"/api/agents/{agent_id}", purge="true")
    before, refused, threats = past.facts()["agents"], past.count("dead_letters"), past.count("threats_stored")
    past.broker.publish(*kept)
    eventually(lambda: past.count("dead_letters") == refused + len(kept), what="all refused")
    assert past.facts()["agents"] == before
    assert past.count("threats_stored") == threats
