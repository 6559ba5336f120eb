"""A simulated agent's messages are the contract's, and it believes nothing that the manager has not signed."""

import json
import time

from schemas import message_codes, topics
from schemas.decoding import decode
from schemas.keys import ManagerKeyring, version_statement
from schemas.model import utc
from schemas.policy import Policy, PolicyApplied, default_sections, digest_of
from schemas.presence import Heartbeat, ManagerKeys, Presence
from schemas.registration import Registration
from schemas.succession import signed_link
from schemas.threats import Receipt, Refusal, ThreatReport
from simulate.agent import Agent, Tally
from simulate.identity import Identity
from simulate.ledger import Ledger
from simulate.outbox import Outbox
from simulate.schedule import detections
from simulate.verifier import Verifier
from tests.unit.simulate.plans import TOKEN, plan

KEYRING = ManagerKeyring(bytes(32))
AGENT_ID = "ag-0000000000000001"


def _agent() -> Agent:
    identity = Identity("sim-1-00000", agent_id=AGENT_ID)
    return Agent(0, identity, Outbox(30.0), Ledger(), Tally(), time.monotonic())


def _policy(
    version: int, agent_id: str = AGENT_ID, keyring: ManagerKeyring = KEYRING, digest: str = "", proven: int = 0
) -> bytes:
    """Return a signed policy at this agent's topic; `digest` and the proven version may be wrong on purpose."""
    digest = digest or digest_of(default_sections())
    proof = message_codes.to_base64url(keyring.sign_key.sign(version_statement(agent_id, proven or version, digest)))
    policy = Policy.model_validate(
        {"version": version, "digest": digest, "updated_at": utc(0), "scope": "global", "agent_id": agent_id,
         "version_proof": proof}
    )  # fmt: skip
    return message_codes.with_signature(keyring.sign_key, topics.POLICY.below_root(AGENT_ID), policy.body())


def test_a_registration_is_the_contracts() -> None:
    """It has the proof of the token, and the agent's secret sealed to the manager."""
    agent, client_id = _agent(), "0" * 32
    payload = agent.registration(TOKEN, KEYRING.seal_public, client_id)
    assert message_codes.has_proof(TOKEN.proof_key, topics.REGISTRATION.below_root(client_id), payload)
    registration = decode(Registration, payload, topics.REGISTRATION.limit)
    assert KEYRING.unseal(registration.sealed_secret, client_id) == agent.identity.secret


def test_signs_of_life_are_the_contracts() -> None:
    """Presence and heartbeats carry the session; a heartbeat's sequence rises, and begins anew with a session."""
    agent = _agent()
    agent.begin_session()
    presence = decode(Presence, agent.presence("lost"), topics.PRESENCE.limit)
    beats = [decode(Heartbeat, agent.heartbeat(), topics.HEARTBEAT.limit) for _ in range(2)]
    assert (presence.state, presence.session) == ("lost", 1)
    assert [(beat.session, beat.sequence) for beat in beats] == [(1, 1), (1, 2)]
    agent.begin_session()
    assert decode(Heartbeat, agent.heartbeat(), topics.HEARTBEAT.limit).sequence == 1


def test_reports_are_the_contracts() -> None:
    """A report carries its attacker, vouches for it where that is planned, and claims no block that was not set."""
    agent = _agent()
    made = list(detections(plan(agents=1, threats=20, unvouched=0.5)))
    for each in made:
        agent.detected(each)
    bodies = [agent.signed_by_agent(body) for _, body in agent.outbox.take(0.0)]
    for each, body in zip(made, bodies, strict=True):
        report = decode(ThreatReport, agent.coded(topics.THREATS, body), topics.THREATS.limit)
        assert (report.agent_id, report.threat.evidence["sourceIp"]) == (AGENT_ID, each.source_ip)
        assert report.response.outcome == "would_be_taken"  # type: ignore[union-attr]
        assert json.loads(body)["threat"].get("vouched") == (["sourceIp"] if each.is_vouched else None)
    assert len(agent.ledger.entries) == agent.ledger.waiting == 20


def test_a_receipt_settles_refuses_and_defers() -> None:
    """Each id of a receipt is written into the ledger; deferred ones wait."""
    agent = _agent()
    for each in detections(plan(agents=1, threats=3)):
        agent.detected(each)
    stored, refused, deferred = (name for name, _ in agent.outbox.take(0.0))
    receipt = Receipt.model_validate(
        {"stored": [stored], "refused": [Refusal(id=refused, reason="no")],
         "deferred": [{"ids": [deferred], "retry_after": 5.0}]}
    )  # fmt: skip
    agent.take_receipt(receipt, 10.0)
    assert (agent.ledger.entries[stored].receipted_at, agent.ledger.entries[refused].refusal) == (10.0, "no")
    assert [name for name, _ in agent.outbox.take(14.9)] == []
    assert [name for name, _ in agent.outbox.take(15.0)] == [deferred]
    assert (agent.tally.receipts, agent.tally.deferred) == (1, 1)


def test_only_the_managers_newer_policy_is_taken() -> None:
    """It is verified, kept and answered; an older one, another agent's and a forged one change nothing."""
    agent, verifier = _agent(), Verifier(KEYRING.sign_public)
    applied = agent.take_policy(_policy(3), verifier)
    assert applied is not None
    assert decode(PolicyApplied, applied, topics.POLICY_APPLIED.limit).version == 3
    stranger = ManagerKeyring(bytes([1] * 32))
    wrong = [_policy(9, "ag-0000000000000002"), _policy(9, keyring=stranger), _policy(9, digest="0" * 64)]
    for payload in (_policy(3), _policy(2), *wrong, _policy(9, proven=8)):
        assert agent.take_policy(payload, verifier) is None
    beat = decode(Heartbeat, agent.heartbeat(), topics.HEARTBEAT.limit)
    assert (beat.policy_version, agent.tally.policies_applied, agent.tally.ignored) == (3, 1, 4)


def test_a_rotation_of_the_key_is_followed_by_all_agents() -> None:
    """One message of keys leads the verifier on; a policy of the new key that came before it is read again then."""
    before, after = KEYRING, ManagerKeyring(bytes([2] * 32))
    verifier, agent = Verifier(before.sign_public), _agent()
    policy = _policy(1, keyring=after)
    assert verifier.shared(topics.POLICY, AGENT_ID, policy) is None
    assert agent.take_policy(policy, verifier) is None
    link = signed_link(before.sign_key, after.sign_key, number=1, now=time.time())
    body = ManagerKeys(sign_key=after.sign_public, seal_key=after.seal_public, successions=[link]).body()
    keys = message_codes.with_signature(after.sign_key, topics.MANAGER_KEYS.below_root(), body)
    assert verifier.shared(topics.MANAGER_KEYS, None, keys) is not None
    assert verifier.sign_key == after.sign_public
    assert verifier.shared(topics.POLICY, AGENT_ID, policy) is not None
    applied = agent.take_policy(policy, verifier)
    assert applied is not None
    assert after.sign_public.encode() in applied
    assert agent.take_policy(policy, verifier) is None
    assert agent.take_policy(_policy(2, keyring=before), verifier) is not None


def test_a_policy_that_was_applied_is_acknowledged_again_under_a_new_key() -> None:
    """So the manager sees that this agent has changed over, though the version is the same."""
    after = ManagerKeyring(bytes([2] * 32))
    verifier, agent = Verifier(KEYRING.sign_public), _agent()
    assert agent.take_policy(_policy(1), verifier) is not None
    assert agent.take_policy(_policy(1), verifier) is None
    link = signed_link(KEYRING.sign_key, after.sign_key, number=1, now=time.time())
    body = ManagerKeys(sign_key=after.sign_public, seal_key=after.seal_public, successions=[link]).body()
    verifier.shared(
        topics.MANAGER_KEYS,
        None,
        message_codes.with_signature(after.sign_key, topics.MANAGER_KEYS.below_root(), body),
    )
    applied = agent.take_policy(_policy(1, keyring=after), verifier)
    assert applied is not None
    assert after.sign_public.encode() in applied
