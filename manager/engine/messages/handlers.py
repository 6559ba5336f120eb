"""Handlers of agents' messages: `dispatch` verifies each message and calls the handler of its topic from one table."""

from collections.abc import Callable
from typing import Any

import structlog

from manager.domain.agents.agent import Agent, lasting_values
from manager.domain.agents.shared_values import shared_percentage
from manager.domain.ingest.topics import WORKER_LIFE
from manager.domain.instant import Instant
from manager.engine.commands import http_agents, signing_keys
from manager.engine.context import Context
from manager.engine.inbox import Inbound
from manager.engine.messages import clone_events, condition, gathered_life, logins, reports
from manager.engine.messages.registration import register
from manager.engine.messages.report_decoding import DecodedReport, UndecodedReport
from manager.engine.messages.verification import InvalidMessage, verified_ahead, verify
from manager.engine.policies import lost_reports, restored_store
from manager.engine.response import emergency_response
from schemas.fast_heartbeats import AnyHeartbeat
from schemas.keys import has_version_proof, public_sign_key
from schemas.model import seconds_since_1970
from schemas.policy import PolicyApplied
from schemas.presence import PolicyState, Presence
from schemas.topics import HEARTBEAT, POLICY_APPLIED, PRESENCE, REGISTRATION, THREATS, Topic

log = structlog.get_logger(__name__)


def on_presence(context: Context, agent: Agent, message: Presence, _payload: bytes) -> None:
    """Handle a birth, a sign-off or a last will."""
    liveness, now = context.fleet.liveness, context.batch.now
    session_before, heard_before = agent.session, agent.heard_monotonic
    match message.state:
        case "online":
            context.batch.transition(liveness.birth(agent, message.session, now))
            if agent.session > session_before:
                sent_at = message.sent_at.timestamp()
                clone_events.observe(context, agent, message.session, sent_at - message.uptime, heard_before)
                agent.clock.observe(now.wall, sent_at, message.uptime, message.session, fresh=False)
        case "offline":
            context.batch.transition(liveness.sign_off(agent, message.session, now))
        case "lost":
            liveness.will(agent, message.session, now)
    if agent.session != session_before:
        context.batch.save(agent)


def on_heartbeat(context: Context, agent: Agent, message: AnyHeartbeat, _payload: bytes) -> None:
    """Handle a heartbeat that this process received."""
    record_heartbeat(context, agent, message, context.batch.now)


def record_heartbeat(context: Context, agent: Agent, message: AnyHeartbeat, now: Instant) -> None:
    """Record a heartbeat: liveness, clock, vitals, and the policy in force.

    Args:
        context: the batch.
        agent: the sender.
        message: the verified heartbeat.
        now: the receipt by this process, or by the ingest worker that handed the heartbeat over.
    """
    fleet, session_before, heard_before = context.fleet, agent.session, agent.heard_monotonic
    accepted, transition = fleet.liveness.heartbeat(agent, message.session, message.sequence, now)
    if not accepted:
        fleet.counters["heartbeats_ignored"] += 1
        return
    if transition is not None:
        context.batch.transition(transition)
    if agent.session != session_before:
        context.batch.save(agent)
    lasting = lasting_values(agent)
    sent_at = seconds_since_1970(message.sent_at)
    clone_events.observe(context, agent, message.session, sent_at - message.uptime, heard_before)
    agent.clock.observe(now.wall, sent_at, message.uptime, message.session, fresh=True)
    fleet.clock_trust.observe(agent.agent_id, sent_at, now)
    agent.last_heartbeat = now.wall
    vitals = agent.vitals
    mode = (vitals.mode, message.mode)
    vitals.cpu, vitals.memory = shared_percentage(message.cpu), shared_percentage(message.memory)
    vitals.uptime, vitals.mode = message.uptime, message.mode
    vitals.count_events(message.events_processed, message.events_total)
    vitals.outbox_size, vitals.outbox_dropped = message.outbox_size, message.outbox_dropped
    condition.record(context, agent, message, mode)
    if message.logins is not None:
        logins.record(context, agent, message.logins)
    if message.receipt_mark is not None:
        lost_reports.compare(context, agent, message.receipt_mark)
    fleet.held_back.record_outbox(agent.agent_id, message.session, message.outbox_size or 0, now)
    _compare_blocklist_sequence(context, agent, message.blocklist_sequence or 0, message.policy_version or 0)
    if message.policy_version is not None:
        _compare_policy(context, agent, message, sent_at)
    context.unwritten.heartbeat(agent, lasting)


def on_policy_applied(context: Context, agent: Agent, message: PolicyApplied, _payload: bytes) -> None:
    """Handle an agent's acknowledgement that a policy is applied; heartbeats repeat it."""
    if message.sign_key is not None:
        signing_keys.record_trusted_key(context.fleet, agent, message.sign_key)
    at, _ = agent.clock.event_time(message.sent_at.timestamp(), context.batch.now.wall)
    if message.enforced is not None and at >= agent.in_force.reported_at:
        condition.record_enforced(context, agent, message.enforced)
        context.unwritten.stated.add(agent.number)
    if not agent.in_force.update_if_newer(message.version, message.digest, message.state, message.error, at):
        context.fleet.counters["policy_words_ignored"] += 1
        return
    _record_applied_policy(context, agent)
    context.batch.save_stated(agent)
    context.batch.event("policy_applied", agent, {"version": message.version, "state": message.state})


def on_threats(context: Context, agent: Agent, found: list[DecodedReport | UndecodedReport], _payload: bytes) -> None:
    """Collect the reports of a message; all reports of the batch are looked up in the store together."""
    received, refused = reports.received(agent, found)
    context.reports += received
    for each in refused:
        _refuse_report(context, agent, each)


def _refuse_report(context: Context, agent: Agent, refused: UndecodedReport) -> None:
    """Keep a report that can never be stored as a dead letter; refuse it to its guard if it has an id."""
    context.dead_letter(THREATS.below_root(agent.agent_id), refused.reason, refused.body)
    if refused.report_id is not None:
        context.refused.append((agent.agent_id, refused.report_id, refused.reason))


def _compare_blocklist_sequence(context: Context, agent: Agent, sequence: int, version: int) -> None:
    """Record the agent's blocklist sequence; publish the snapshot again if it is behind, continue above one ahead.

    An agent that was moved states the sequence of its former organization until it has taken the policy (of this
    version, or a later one) that names the new one: until then a higher sequence counts as none.
    """
    fleet = context.fleet
    known = fleet.blocklists.sequences.get(agent.organization_id, 0)
    if sequence == known == agent.in_force.blocklist_sequence:
        return
    may_be_former = agent.registered_in is not None and version < fleet.policies.effective[agent.agent_id].version
    if may_be_former and sequence > known:
        sequence = 0
    if sequence != agent.in_force.blocklist_sequence:
        agent.in_force.blocklist_sequence = sequence
        emergency_response.record_applied(context, agent.agent_id, "blocklist", sequence)
    if sequence > known:
        restored_store.follow_sequence(context, agent, sequence)
    context.blocklist_messages.publish_if_behind(agent.organization_id, sequence)


def _compare_policy(context: Context, agent: Agent, message: AnyHeartbeat, sent_at: float) -> None:
    """Compare the policy in force with the effective policy, and publish again or continue above it."""
    version, digest = message.policy_version or 0, message.policy_digest
    policy = context.fleet.policies.effective[agent.agent_id]
    force, now = agent.in_force, context.batch.now.wall
    at, _ = agent.clock.event_time(sent_at, now)
    error = force.error
    if error is not None and (version, digest, message.policy_state) != (force.version, force.digest, force.state):
        error = None
    if force.update(version, digest, message.policy_state, error, at):
        _record_applied_policy(context, agent)
    if version > policy.version or (version == policy.version and digest != policy.resolved.digest):
        key = _prover(context, agent, version, digest, message.version_proof)
        if key is not None:  # a thief's versions are followed within bounds, so that the guard obeys again
            restored_store.follow_policy(context, agent, version, proven=not _is_compromised(context, key))
    elif (
        version < policy.version
        and policy.published
        and abs(now - policy.updated_at) > context.fleet.settings.republish_after
    ):
        context.fleet.counters["policies_republished"] += 1
        context.policy_queue.add([agent.agent_id])


def _record_applied_policy(context: Context, agent: Agent) -> None:
    if agent.in_force.state == PolicyState.APPLIED:
        emergency_response.record_applied(context, agent.agent_id, "policy", agent.in_force.version)


def _prover(context: Context, agent: Agent, version: int, digest: str | None, proof: str | None) -> str | None:
    """Return the manager's signing key, active or former, that has signed an agent's policy version."""
    if digest is None or proof is None:
        return None
    keys = context.fleet.signing_keys
    known = (keys.public, *(each.public for each in keys.former))
    proves = (key for key in known if has_version_proof(public_sign_key(key), agent.agent_id, version, digest, proof))
    return next(proves, None)


def _is_compromised(context: Context, key: str) -> bool:
    return any(each.compromised for each in context.fleet.signing_keys.former if each.public == key)


HANDLERS: dict[Topic, Callable[[Context, Agent, Any, bytes], None]] = {
    PRESENCE: on_presence,
    HEARTBEAT: on_heartbeat,
    THREATS: on_threats,
    POLICY_APPLIED: on_policy_applied,
}
"""The handler of each topic that agents publish."""


def dispatch(context: Context, message: Inbound) -> None:
    """Handle one message; an invalid one becomes a dead letter and changes nothing."""
    row = message.row
    context.fleet.counters[row.name] += 1
    if row is REGISTRATION:
        register(context, message)
        return
    if row is WORKER_LIFE:
        gathered_life.collect(context, message)
        return
    if not message.payload and row is PRESENCE:
        return  # the echo of a cleared presence
    find = context.fleet.registry.find
    found = verified_ahead(find, message) or verify(find, row, message.identifier, message.topic, message.payload)
    if isinstance(found, InvalidMessage):
        if found.unknown_agent and row is PRESENCE:
            context.batch.clear_retained(row.address(message.identifier))
        context.dead_letter(message.topic, found.reason, message.payload)
        return
    HANDLERS[row](context, found.agent, found.content, message.payload)


def record_gathered(context: Context) -> None:
    """Record the heartbeats that ingest workers handed over in the batch, each agent's in the order of its numbers."""
    for agent, heartbeat, received in gathered_life.take(context):
        try:
            record_heartbeat(context, agent, heartbeat, received)
        except Exception:
            log.exception("message_failed", topic=HEARTBEAT.below_root(agent.agent_id))
            context.fleet.counters["messages_failed"] += 1
    for http_agent, sign, received in gathered_life.take_http(context):
        try:
            http_agents.record_handed_over(context, http_agent, sign, received)
        except Exception:
            log.exception("message_failed", topic=HEARTBEAT.below_root(http_agent.agent_id))
            context.fleet.counters["messages_failed"] += 1
