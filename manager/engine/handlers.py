"""What each message of an agent does: plain functions in one table. Each is given a verified, decoded message."""

from collections.abc import Callable
from typing import Any

from manager.domain.agent import Agent
from manager.engine import cloning, responding
from manager.engine.desk import Arrival, Desk
from schemas import codes
from schemas.keys import has_version_proof
from schemas.policy import PolicyApplied
from schemas.presence import Heartbeat, PolicyState, Presence
from schemas.threats import ThreatReport
from schemas.topics import HEARTBEAT, POLICY_APPLIED, PRESENCE, THREATS, Topic


def on_presence(desk: Desk, agent: Agent, message: Presence, _payload: bytes) -> None:
    """A birth, a sign-off or a last will."""
    liveness, now = desk.fleet.liveness, desk.batch.now
    session_before = agent.session
    match message.state:
        case "online":
            desk.batch.transition(liveness.birth(agent, message.session, now))
            if agent.session > session_before:
                sent_at = message.sent_at.timestamp()
                agent.clock.observe(now.wall, sent_at, message.uptime, message.session, fresh=False)
                cloning.observe(desk, agent, message.session, sent_at - message.uptime)
        case "offline":
            desk.batch.transition(liveness.sign_off(agent, message.session, now))
        case "lost":
            liveness.will(agent, message.session, now)
    if agent.session != session_before:
        desk.batch.save(agent)


def on_heartbeat(desk: Desk, agent: Agent, message: Heartbeat, _payload: bytes) -> None:
    """A sign of life with the host's vitals and what is in force."""
    now, session_before = desk.batch.now, agent.session
    accepted, transition = desk.fleet.liveness.heartbeat(agent, message.session, message.sequence, now)
    if not accepted:
        desk.fleet.counters["heartbeats_ignored"] += 1
        return
    desk.batch.transition(transition)
    if agent.session != session_before:
        desk.batch.save(agent)
    sent_at = message.sent_at.timestamp()
    agent.clock.observe(now.wall, sent_at, message.uptime, message.session, fresh=True)
    cloning.observe(desk, agent, message.session, sent_at - message.uptime)
    agent.last_heartbeat = now.wall
    vitals = agent.vitals
    vitals.cpu, vitals.memory, vitals.uptime, vitals.mode = message.cpu, message.memory, message.uptime, message.mode
    vitals.events_processed = message.events_processed
    vitals.events_total = (
        vitals.events_total + message.events_processed if message.events_total is None else message.events_total
    )
    vitals.outbox_size, vitals.outbox_dropped = message.outbox_size, message.outbox_dropped
    desk.fleet.held_back.said(agent.agent_id, message.session, message.outbox_size or 0, now)
    _compare_blocklist(desk, agent, message.blocklist_sequence or 0)
    desk.behind.add(agent.agent_id)
    if message.policy_version is not None:
        _compare(desk, agent, message, sent_at)


def on_policy_applied(desk: Desk, agent: Agent, message: PolicyApplied, _payload: bytes) -> None:
    """The fast word on what a policy came to; heartbeats say the same later."""
    at, _ = agent.clock.event_time(message.sent_at.timestamp(), desk.batch.now.wall)
    if not agent.in_force.hear(message.version, message.digest, message.state, message.error, at):
        desk.fleet.counters["policy_words_ignored"] += 1
        return
    _in_force(desk, agent)
    desk.batch.save(agent)
    desk.batch.event("policy_applied", agent, {"version": message.version, "state": message.state})


def on_threat(desk: Desk, agent: Agent, message: ThreatReport, payload: bytes) -> None:
    """A threat report: collected here, and looked up in the store together with the others of its batch."""
    if message.agent_id != agent.agent_id:
        desk.dead_letter(THREATS.below_root(agent.agent_id), "agentId is not the one of its topic", payload)
        desk.refused.append((agent.agent_id, message.id, "agentId is not the one of its topic"))
        return
    body = codes.without_mac(payload)
    desk.arrivals.append(Arrival(agent, message, codes.content_digest(body), body.decode()))


def _compare_blocklist(desk: Desk, agent: Agent, sequence: int) -> None:
    """Take an agent's word on its organization's blocklist; one that is behind gets the snapshot again."""
    if sequence != agent.in_force.blocklist_sequence:
        agent.in_force.blocklist_sequence = sequence
        responding.applied(desk, agent.agent_id, "blocklist", sequence)
    desk.messages.behind(agent.organization_id, sequence)


def _compare(desk: Desk, agent: Agent, message: Heartbeat, sent_at: float) -> None:
    """Hold what a heartbeat says is in force against the effective policy, and mend what differs."""
    version, digest = message.policy_version or 0, message.policy_digest
    policy = desk.fleet.policies.effective[agent.agent_id]
    force, now = agent.in_force, desk.batch.now.wall
    at, _ = agent.clock.event_time(sent_at, now)
    same = (version, digest, message.policy_state) == (force.version, force.digest, force.state)
    if force.take(version, digest, message.policy_state, force.error if same else None, at):
        _in_force(desk, agent)
    if version > policy.version or (version == policy.version and digest != policy.resolved.digest):
        if _proved(desk, agent, version, digest, message.version_proof):
            desk.fleet.counters["revisions_raised"] += 1
            desk.batch.save_policy(desk.fleet.policies.continue_above(agent.agent_id, version, now))
            desk.batch.changes.fleet_revision = desk.fleet.policies.revision
            desk.queue.add([agent.agent_id])
    elif (
        version < policy.version and policy.published and now - policy.updated_at > desk.fleet.settings.republish_after
    ):
        desk.fleet.counters["policies_republished"] += 1
        desk.queue.add([agent.agent_id])


def _in_force(desk: Desk, agent: Agent) -> None:
    if agent.in_force.state == PolicyState.APPLIED:
        responding.applied(desk, agent.agent_id, "policy", agent.in_force.version)


def _proved(desk: Desk, agent: Agent, version: int, digest: str | None, proof: str | None) -> bool:
    if digest is None or proof is None:
        return False
    return has_version_proof(desk.fleet.keyring.sign_key.public_key(), agent.agent_id, version, digest, proof)


HANDLERS: dict[Topic, Callable[[Desk, Agent, Any, bytes], None]] = {
    PRESENCE: on_presence,
    HEARTBEAT: on_heartbeat,
    THREATS: on_threat,
    POLICY_APPLIED: on_policy_applied,
}
"""Every topic that agents publish, and what its message does."""
