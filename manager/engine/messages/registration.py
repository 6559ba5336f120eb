"""Registration over MQTT: verifies token, proof and sealed secret, asks the registry, publishes a signed reply."""

import secrets
from typing import Literal, get_args

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.domain.agents.registry import (
    AcceptedRegistration,
    RefusedRegistration,
    RegistrationRequest,
    RepeatedRegistration,
)
from manager.domain.agents.tokens import Token
from manager.domain.response import Subject
from manager.engine.batch import HistoryLine, Publication
from manager.engine.commands import audit
from manager.engine.context import Context
from manager.engine.fleet import placement_of
from manager.engine.inbox import Inbound
from manager.engine.response import emergency_response, manual_response
from schemas import message_codes
from schemas.decoding import DecodeError, decode
from schemas.errors import KeyMaterialError
from schemas.identifiers import DEFAULT_ORGANIZATION
from schemas.model import WireModel, utc
from schemas.registration import Registration, RegistrationReply, Rejection
from schemas.topics import REGISTRATION, REGISTRATION_REPLY

ErrorCode = Literal["bad_proof", "unknown_token", "expired_token", "used_token", "outdated", "conflict", "malformed"]

_REASONS = {
    "bad_proof": "the proof does not fit the token; copy the token whole, from this manager",
    "unknown_token": "this manager knows no such token; ask its operator for one",
    "expired_token": "the token has expired; ask for a new one",
    "used_token": "the token's uses are used up; ask for a new one",
    "malformed": "the registration is not of the documented form",
}
_CODES: tuple[str, ...] = get_args(ErrorCode)


class _RejectedError(Exception):
    """A rejected registration: error code and error message."""

    def __init__(self, error: str, reason: str | None = None) -> None:
        self.error = error
        self.reason = reason or _REASONS[error]
        super().__init__(self.reason)


def register(context: Context, message: Inbound) -> None:
    """Handle one registration; it always gets a reply."""
    registration = None
    try:
        registration = _decoded(message)
        _admit(context, message, registration)
    except _RejectedError as rejected:
        _record_refusal(context, message, registration, rejected.reason)
        context.dead_letter(message.topic, rejected.reason, message.payload)
        context.batch.clear_retained(
            REGISTRATION.address(message.identifier)
        )  # a client may have published it as a retained message
        rejection = Rejection(
            client_id=message.identifier,
            digest=message_codes.payload_digest(message.payload),
            error=rejected.error,  # type: ignore[arg-type]
            reason=rejected.reason,
            sent_at=utc(context.batch.now.wall),
        )
        _publish_reply(context, message.identifier, _signed(context, message.identifier, rejection))


def _record_refusal(context: Context, message: Inbound, registration: Registration | None, reason: str) -> None:
    fleet = context.fleet
    fleet.counters["registrations_refused"] += 1
    hostname = registration.hostname if registration is not None else None
    organization_id = registration.organization_id if registration is not None else None
    fleet.refused_registrations.record(
        hostname,
        organization_id,
        door=Door.MQTT,
        origin=message.identifier,
        reason=reason,
        at=context.batch.now.wall,
    )


def new_agent_id() -> str:
    """Return the id of a new agent: ``ag-`` and 64 random bits."""
    return f"ag-{secrets.token_hex(8)}"


def record_enrollment(context: Context, agent: Agent, *, is_new: bool, replaced: bool) -> None:
    """Record an enrollment by either door: agent record, broker access, history, effective policy, events.

    Live blocks of the agent's own addresses and gateways are withdrawn.

    Args:
        context: the batch that is decided.
        agent: the enrolled agent.
        is_new: whether the registry did not know it before.
        replaced: whether its credential replaced another one.
    """
    batch = context.batch
    batch.save(agent)
    if is_new:
        context.new_agents.add(agent.agent_id)
    if is_new or replaced:
        batch.admitted.append((agent, replaced))
        audit.record_enrollment(context, agent, is_new=is_new)
    event = "agent_registered" if is_new else "agent_reconnected"
    batch.changes.history.append(HistoryLine(agent.agent_id, batch.now.wall, event, agent.host.version))
    batch.event(event, agent, {"os": agent.host.os, "arch": agent.host.arch, "version": agent.host.version})
    batch.transition(context.fleet.liveness.registered(agent, batch.now))
    context.fleet.set_addresses(agent)
    policies, placement = context.fleet.policies, placement_of(agent)
    policy = policies.assign(agent.agent_id, placement, batch.now.wall)
    batch.save_policy(policy)
    emergency_response.publish_policies(context, policies.move(agent.agent_id, placement, batch.now.wall))
    own = context.fleet.addresses.indicators_of(agent.agent_id)
    withdrawn = context.fleet.responder.withdraw_unblockable(batch.now.wall, map(Subject.of, own))
    emergency_response.apply(context, withdrawn)
    manual_response.admit(context, agent, (indicator.value for indicator in own))
    if not policy.published:
        context.policy_queue.add([agent.agent_id])


def _decoded(message: Inbound) -> Registration:
    try:
        registration = decode(Registration, message.payload, REGISTRATION.limit)
    except DecodeError as error:
        raise _RejectedError("malformed", f"malformed registration: {error}") from error
    if registration.client_id != message.identifier:
        raise _RejectedError("malformed", "malformed registration: clientId is not the one of its topic")
    return registration


def _admit(context: Context, message: Inbound, registration: Registration) -> None:
    fleet, now = context.fleet, context.batch.now
    token = fleet.tokens.get(registration.token_id)
    if token is None:
        raise _RejectedError("unknown_token")
    if not message_codes.has_proof(token.proof_key, message.topic, message.payload):
        raise _RejectedError("bad_proof")
    application = _application(context, registration, token, message.payload)
    known = fleet.registry.find_by_hostname(application.organization_id, application.host.hostname)
    stamp = None if known is None else context.read_stamp(known)
    if stamp is not None and stamp.digest == application.digest:
        _publish_reply(context, message.identifier, stamp.reply)
        return
    error = token.refuses(now.wall, is_new_agent=known is None)
    if error is not None:
        raise _RejectedError(error)
    wait = fleet.enrollment_rate.wait(token, now) if known is None else 0.0
    if wait:  # "conflict" is the only error code after which guards of every release retry
        raise _RejectedError("conflict", fleet.enrollment_rate.reason(token, wait))
    decision = fleet.registry.register(application, fleet.settings.takeover, new_agent_id(), now)
    match decision:
        case RefusedRegistration():
            raise _RejectedError(decision.error, decision.reason)
        case RepeatedRegistration():
            _publish_reply(context, message.identifier, decision.stamp.reply)
        case AcceptedRegistration():
            _enroll(context, registration, application, decision)


def _enroll(
    context: Context, registration: Registration, application: RegistrationRequest, decision: AcceptedRegistration
) -> None:
    agent, now = decision.agent, context.batch.now
    if decision.is_new:
        token = context.fleet.tokens[registration.token_id]
        token.uses += 1
        context.fleet.enrollment_rate.record(token, now)
        context.batch.changes.tokens[token.token_id] = token
    context.fleet.refused_registrations.forget(registration.hostname, agent.organization_id)
    agent.clock.observe(now.wall, registration.sent_at.timestamp(), registration.uptime, agent.session, fresh=False)
    reply = _signed(
        context,
        registration.client_id,
        RegistrationReply(
            client_id=registration.client_id,
            agent_id=agent.agent_id,
            organization_id=agent.organization_id,
            session=agent.session,
            sent_at=utc(now.wall),
        ),
    )
    context.fleet.registry.stamp(agent, application, reply, now.wall)
    record_enrollment(context, agent, is_new=decision.is_new, replaced=decision.replaced)
    _publish_reply(context, registration.client_id, reply, agent.agent_id)


def _application(context: Context, registration: Registration, token: Token, payload: bytes) -> RegistrationRequest:
    try:
        secret = context.fleet.keyring.unseal(registration.sealed_secret, registration.client_id)
    except KeyMaterialError as error:
        raise _RejectedError("malformed", f"malformed registration: {error}") from error
    host = Host.of(
        hostname=registration.hostname,
        os=registration.os,
        arch=registration.arch,
        version=registration.version,
        reported_site=registration.site,
        reported_tags=tuple(dict.fromkeys(registration.tags)),
        addresses=tuple(registration.addresses),
        gateways=tuple(registration.gateways),
    )
    return RegistrationRequest(
        host=token.place(host),
        organization_id=token.organization_id or registration.organization_id or DEFAULT_ORGANIZATION,
        credential=credential_of(secret),
        token_id=registration.token_id,
        door=Door.MQTT,
        sent_at=registration.sent_at.timestamp(),
        digest=message_codes.content_digest(payload),
        token_created_at=token.created_at,
    )


def _signed(context: Context, client_id: str, answer: WireModel) -> bytes:
    return message_codes.with_signature(
        context.fleet.keyring.sign_key, REGISTRATION_REPLY.below_root(client_id), answer.body()
    )


def _publish_reply(context: Context, client_id: str, reply: bytes, agent_id: str | None = None) -> None:
    context.batch.publications.append(Publication(REGISTRATION_REPLY.address(client_id), reply, subject=agent_id))
