"""Rotation of the signing key at the manager: what it publishes, keeps and forgets, on a virtual clock."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from agent.clock import Clock
from agent.connection.identity import Enrolled
from agent.connection.key_succession import followed
from agent.policy.policy_store import PolicyStore
from agent.storage.database import Database
from manager.domain.response.manual_blocks import FLEET
from manager.domain.signing_keys import SIGNING_KEYS, RotationError, SigningKeys
from manager.engine.commands.block_requests import AddBlocks, NewBlock
from manager.engine.commands.key_requests import ReadKeys, RollBackKeys, RotateKeys
from manager.engine.commands.requests import AcceptClock, RemoveAgent
from manager.errors import Conflict
from schemas import message_codes, topics
from schemas.keys import ManagerKeyring, has_version_proof, public_sign_key, version_statement
from schemas.model import utc
from schemas.policy import PolicyApplied
from schemas.presence import PolicyState
from schemas.succession import PERIOD, TrustedKeys
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

DAY = 86_400.0


def _announced(bench: Bench) -> bytes:
    """Return the newest ManagerKeys of the broker."""
    return bench.publisher.take(topics.MANAGER_KEYS.address())[-1]


def _signer(topic: topics.Topic, identifier: str, payload: bytes, *keys: str) -> str | None:
    """Return which of these keys signed a message."""
    below = topic.below_root(identifier)
    return next((key for key in keys if message_codes.has_signature(public_sign_key(key), below, payload)), None)


def test_everything_is_signed_with_the_new_key_and_published_again(bench: Bench) -> None:
    """ManagerKeys comes first, then every policy and blocklist; a guard that pinned the old key takes all of them."""
    agents = [bench.enroll(f"srv-{number}") for number in range(3)]
    old = bench.keyring.sign_public
    bench.ask(AddBlocks(FLEET, (NewBlock("198.18.0.1", 3600.0, "seen"),), "test"))
    bench.pass_time(30)
    bench.publisher.published.clear()
    state = bench.ask(RotateKeys("test"))
    new = state["signKey"]
    assert (state["number"], state["canRollBack"], new != old) == (1, True, True)
    bench.pass_time(15)
    first = bench.publisher.published[0]
    assert (first.topic, first.retained) == (topics.MANAGER_KEYS.address(), True)
    trusted, keys = followed(TrustedKeys(old), first.payload, bench.wall)
    assert keys is not None
    assert (trusted.current, trusted.accepted(bench.wall)) == (new, (new, old))
    for agent in agents:
        payload = bench.publisher.take(topics.POLICY.address(agent.agent_id))[-1]
        assert _signer(topics.POLICY, agent.agent_id, payload, old, new) == new
        document = json.loads(payload)
        proof = (agent.agent_id, document["version"], document["digest"], document["versionProof"])
        assert has_version_proof(public_sign_key(new), *proof)
    snapshot = bench.publisher.take(topics.BLOCKLIST.address("default"))[-1]
    assert _signer(topics.BLOCKLIST, "default", snapshot, old, new) == new


def test_a_crash_after_the_commit_loses_no_publication(bench: Bench) -> None:
    """The key is stored before anything is signed with it; what the broker did not get comes after the restart."""
    agent = bench.enroll("srv-1")
    bench.pass_time(30)
    bench.publisher.ready = False
    new = bench.ask(RotateKeys("test"))["signKey"]
    bench.publisher.ready = True
    bench.crash()
    assert bench.keyring.sign_public == new
    bench.pass_time(15)
    payload = bench.publisher.take(topics.POLICY.address(agent.agent_id))[-1]
    assert _signer(topics.POLICY, agent.agent_id, payload, new) == new


def test_a_dry_run_changes_nothing(bench: Bench) -> None:
    """Neither key nor store nor broker; what cannot be done is refused in a dry run, too."""
    before, published = bench.keyring.sign_public, list(bench.publisher.published)
    assert bench.ask(RotateKeys("test", dry_run=True))["signKey"] == before
    with pytest.raises(Conflict, match="no rotation is under way"):
        bench.ask(RollBackKeys("test", dry_run=True))
    assert bench.publisher.published == published
    assert bench.store.sealed is not None
    assert bench.store.sealed.get(SIGNING_KEYS) is None


def test_a_token_that_names_the_former_key_registers_within_30_days(bench: Bench) -> None:
    """The reply is signed with the new key, to which ManagerKeys leads; a secret sealed to the former key opens."""
    token, sealed_to = bench.token(), bench.keyring.seal_public
    old = bench.keyring.sign_public
    bench.ask(RotateKeys("test"))
    new = bench.keyring.sign_public
    assert bench.keyring.seal_public != sealed_to
    agent = SimulatedAgent("late", token, sealed_to, uptime_from=bench.wall)
    client_id, payload = agent.registration(bench.wall)
    bench.receive(topics.REGISTRATION, client_id, payload)
    (reply,) = bench.publisher.take(topics.REGISTRATION_REPLY.address(client_id))
    assert _signer(topics.REGISTRATION_REPLY, client_id, reply, old, new) == new
    assert "agentId" in json.loads(reply)
    assert followed(TrustedKeys(token.sign_key), _announced(bench), bench.wall)[0].current == new
    assert bench.token().sign_key == new


@pytest.mark.parametrize(("days", "changes_over"), [(0.0, True), (29.0, True), (30.0, False), (31.0, False)])
def test_a_guard_that_was_away_changes_over_within_30_days(bench: Bench, days: float, changes_over: bool) -> None:
    """One that returns on day 29 has the new key without a registration; on day 31 it trusts the old one alone."""
    old = bench.keyring.sign_public
    new = bench.ask(RotateKeys("test"))["signKey"]
    bench.elapsed += days * DAY
    bench.ask(AcceptClock("test"))
    bench.pass_time(120, step=60)
    bench.engine.connected(bench.now, fresh=False)
    trusted, keys = followed(TrustedKeys(old), _announced(bench), bench.wall)
    assert (trusted.current == new, keys is not None) == (changes_over, changes_over)


def test_the_old_key_is_gone_after_30_days(bench: Bench) -> None:
    """Its seed is in no store, nothing leads to it, and who has changed over refuses what a thief signs with it."""
    old, seed = bench.keyring.sign_public, bench.keyring.seed
    bench.ask(RotateKeys("test"))
    trusted, _ = followed(TrustedKeys(old), _announced(bench), bench.wall)
    bench.began += PERIOD - 1
    assert trusted.accepted(bench.wall) == (trusted.current, old)
    bench.began += 1
    assert trusted.accepted(bench.wall) == (trusted.current,)
    with pytest.raises(Conflict, match="no rotation is under way"):
        bench.ask(RollBackKeys("test"))
    bench.pass_time(120, step=60)
    assert _kept(bench).former[0].seed == seed  # the clock has jumped, and nobody has confirmed it
    bench.ask(AcceptClock("test"))
    bench.pass_time(120, step=60)
    assert _kept(bench).former == ((old, None, False),)
    assert "successions" not in json.loads(_announced(bench))
    bench.crash()
    assert bench.ask(ReadKeys())["former"] == [{"signKey": old, "until": None, "compromised": False}]


def test_a_rollback_makes_the_old_key_the_active_one(bench: Bench) -> None:
    """Guards that had changed over come back, those that were away never left; it is a link of its own."""
    old = bench.keyring.sign_public
    new = bench.ask(RotateKeys("test"))["signKey"]
    rotated = _announced(bench)
    changed, _ = followed(TrustedKeys(old), rotated, bench.wall)
    state = bench.ask(RollBackKeys("test"))
    assert (state["signKey"], state["number"], state["canRollBack"]) == (old, 2, False)
    back = _announced(bench)
    for trusted in (changed, TrustedKeys(old)):
        after, keys = followed(trusted, back, bench.wall)
        assert keys is not None
        assert after.current == old
        assert followed(after, rotated, bench.wall)[0] == after  # the rotation cannot be played again
    with pytest.raises(Conflict, match="is a rollback itself"):
        bench.ask(RollBackKeys("test"))
    bench.crash()
    assert bench.keyring.sign_public == old
    assert new in followed(changed, back, bench.wall)[0].accepted(bench.wall)


@pytest.mark.parametrize("stored_before", [False, True])
def test_a_rollback_is_not_taken_back_when_the_rotation_has_ended(stored_before: bool) -> None:
    """Rotated on day 0 and rolled back on day 29: on no day after it is the key that was given up active again."""
    first = SigningKeys(bytes([1]) * 32)
    back = first.rotate(bytes([2]) * 32, 0.0).rollback(29 * DAY)
    if stored_before:  # keys that were stored without the mark get it from their links
        text = json.loads(back.dump())
        del text["is_rolled_back"]
        back = SigningKeys.load(json.dumps(text).encode())
    for day in (29.5, 30.5, 58.5):
        back = SigningKeys.load(back.at(day * DAY).dump())
        with pytest.raises(RotationError, match="is a rollback itself"):
            back.rollback(day * DAY)
    again = back.rotate(bytes([3]) * 32, 58.5 * DAY)
    assert again.rollback(58.6 * DAY).public == first.public


def test_a_key_that_was_given_up_is_refused_at_once(bench: Bench) -> None:
    """With `compromised` a guard refuses the former key as soon as it has the new one, and nothing leads back."""
    old = bench.keyring.sign_public
    bench.ask(RotateKeys("test", compromised=True))
    trusted, _ = followed(TrustedKeys(old), _announced(bench), bench.wall)
    assert trusted.accepted(bench.wall) == (bench.keyring.sign_public,)
    assert _kept(bench).former == ((old, None, True),)
    with pytest.raises(Conflict, match="given up as compromised"):
        bench.ask(RollBackKeys("test"))


def test_the_state_counts_who_has_changed_over(bench: Bench) -> None:
    """By what guards say when they acknowledge a policy; who has said nothing is unknown."""
    agents = [bench.enroll(f"srv-{number}") for number in range(3)]
    old = bench.keyring.sign_public
    new = bench.ask(RotateKeys("test"))["signKey"]
    for agent, key in zip(agents, (new, old), strict=False):
        applied = PolicyApplied(
            version=1, digest="0" * 64, state=PolicyState.APPLIED, sent_at=utc(bench.wall), sign_key=key
        )
        body = agent.coded(topics.POLICY_APPLIED, applied.body())
        bench.receive(topics.POLICY_APPLIED, agent.agent_id, body)
    state = bench.ask(ReadKeys())
    assert state["agents"] == {"changed": 1, "former": 1, "foreign": 0, "unknown": 1, "http": 0}
    assert state["behind"] == [{"agentId": agents[1].agent_id, "hostname": "srv-1"}]


def _states(bench: Bench, agent: SimulatedAgent, key: str) -> None:
    """Have an agent state the signing key that it trusts."""
    applied = PolicyApplied(
        version=1, digest="0" * 64, state=PolicyState.APPLIED, sent_at=utc(bench.wall), sign_key=key
    )
    bench.receive(topics.POLICY_APPLIED, agent.agent_id, agent.coded(topics.POLICY_APPLIED, applied.body()))


def test_a_store_from_before_a_rotation_is_told(bench: Bench) -> None:
    """Agents that agree on a key which the store has never had are counted and named, until none states it."""
    agents = [bench.enroll(f"srv-{number}") for number in range(8)]
    key = ManagerKeyring(bytes([5]) * 32).sign_public
    for agent in agents[:2]:
        _states(bench, agent, key)
    assert bench.ask(ReadKeys())["agents"]["foreign"] == 2
    warning = bench.fleet.foreign_key_warning()
    assert warning is not None
    assert warning.startswith("2 agents state that they trust the same signing key")
    assert "(srv-0, srv-1)" in warning
    assert "restore a later copy" in warning
    for agent in agents[2:]:
        _states(bench, agent, key)
    assert "(srv-0, srv-1, srv-2, srv-3, srv-4 and 3 more)" in (bench.fleet.foreign_key_warning() or "")
    for agent in agents:
        assert bench.fleet.foreign_key_warning() is not None
        _states(bench, agent, bench.keyring.sign_public)
    assert bench.fleet.foreign_key_warning() is None


def test_the_invented_key_of_one_agent_is_no_claim_on_the_store(bench: Bench) -> None:
    """Nobody is told to restore a store because one agent states keys; the warning names it, and goes with it."""
    liar, _other = bench.enroll("srv-1"), bench.enroll("srv-2")
    for number in (5, 6):
        _states(bench, liar, ManagerKeyring(bytes([number]) * 32).sign_public)
        warning = bench.fleet.foreign_key_warning()
        assert warning is not None
        assert "stated by srv-1, and by no second agent" in warning
        assert "restore a later copy" not in warning
    bench.ask(RemoveAgent(liar.agent_id, "test"))
    assert bench.fleet.foreign_key_warning() is None
    assert not bench.fleet.trusted_keys.stated


def test_keys_that_the_store_gets_are_not_foreign_any_more(bench: Bench) -> None:
    """A statement is judged again when the keys change; a key that was foreign and becomes known ends the warning."""
    agent = bench.enroll("srv-1")
    with patch("manager.engine.commands.signing_keys.secrets.token_bytes", return_value=bytes([5]) * 32):
        _states(bench, agent, ManagerKeyring(bytes([5]) * 32).sign_public)
        assert bench.fleet.foreign_key_warning() is not None
        bench.ask(RotateKeys("test"))
    assert bench.fleet.foreign_key_warning() is None
    assert bench.ask(ReadKeys())["agents"]["changed"] == 1


def test_rotations_are_audited_without_secrets(bench: Bench) -> None:
    """Who did it, from which key to which."""
    old, seed = bench.keyring.sign_public, bench.keyring.seed
    bench.ask(RotateKeys("test"))
    bench.ask(ReadKeys())
    ((action, before, after),) = bench.rows("SELECT action, before, after FROM audit_entry WHERE action LIKE 'keys.%'")
    assert action == "keys.rotate"
    assert json.loads(before)["signKey"] == old
    assert json.loads(after)["signKey"] == bench.keyring.sign_public
    told = f"{before}{after}{bench.ask(ReadKeys())}{_kept(bench)}"
    assert seed.hex() not in told
    assert bench.keyring.seed.hex() not in told


def test_a_wrong_clock_dates_no_rotation(bench: Bench) -> None:
    """Guards refuse a rotation that has ended by their clocks, so the manager refuses to begin it."""
    agents = [bench.enroll(f"srv-{number}") for number in range(3)]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall - 40 * DAY))
    with pytest.raises(Conflict, match="set the clock first"):
        bench.ask(RotateKeys("test"))


def test_a_guard_obeys_across_a_rotation_and_never_an_older_policy(bench: Bench, tmp_path: Path) -> None:
    """The version stands: a policy of before, played again under the old or the new key, is outdated."""
    agent = bench.enroll("srv-1")
    old = bench.keyring.sign_public
    bench.pass_time(15)
    first = bench.publisher.take(topics.POLICY.address(agent.agent_id))[-1]
    ignored: Counter[str] = Counter()
    clock = Clock(wall=lambda: bench.wall, monotonic=lambda: bench.elapsed)
    store = PolicyStore(Database.open(tmp_path / "guard.db"), clock, lambda _effective: [], ignored)
    enrolled = Enrolled(agent.agent_id, "default", old)
    store.pin(enrolled)
    answer = store.receive(first)
    assert answer is not None
    assert answer.sign_key == old
    bench.ask(RotateKeys("test"))
    bench.pass_time(15)
    again = bench.publisher.take(topics.POLICY.address(agent.agent_id))[-1]
    assert store.receive(again) is None
    trusted, _ = followed(TrustedKeys(old), _announced(bench), bench.wall)
    store.pin(enrolled.trusting(trusted))
    answer = store.receive(again)
    assert answer is not None
    assert (answer.version, answer.sign_key) == (store.version, trusted.current)
    assert dict(ignored) == {"policy_forged": 1}
    bench.elapsed += PERIOD
    assert store.receive(first) is None
    assert ignored["policy_forged"] == 2


@pytest.mark.parametrize("ahead", [5, 2_000_000])
def test_a_thiefs_policy_is_followed_within_bounds(bench: Bench, ahead: int) -> None:
    """A guard that obeyed a version which a thief signed obeys the manager again; the numbers cannot be used up."""
    agent = bench.enroll("srv-1")
    thief = ManagerKeyring(bench.keyring.seed)
    bench.ask(RotateKeys("test", compromised=True))
    bench.pass_time(15)
    revision = bench.fleet.policies.revision
    version, digest = revision + ahead, "1" * 64
    proof = message_codes.to_base64url(thief.sign_key.sign(version_statement(agent.agent_id, version, digest)))
    stated = {"policy_version": version, "policy_digest": digest, "policy_state": PolicyState.APPLIED}
    heartbeat = agent.heartbeat(bench.wall, **stated, version_proof=proof)
    bench.receive(topics.HEARTBEAT, agent.agent_id, heartbeat)
    assert (bench.fleet.policies.revision > version) == (ahead == 5)
    assert bench.fleet.counters["claims_ignored"] == (ahead != 5)


def _kept(bench: Bench) -> Any:
    assert bench.store.sealed is not None
    value = bench.store.sealed.get(SIGNING_KEYS)
    assert value is not None
    return SigningKeys.load(value)


def test_the_keyring_of_a_seed_is_the_signing_keys_own() -> None:
    """The public key that guards pin comes from the seed alone."""
    assert SigningKeys(bytes(32)).public == ManagerKeyring(bytes(32)).sign_public
