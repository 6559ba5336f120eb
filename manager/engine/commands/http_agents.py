"""Commands of HTTP agents: register, heartbeat, reports, policy poll (lifecycle page, phases 1 to 4)."""

import hmac

import structlog

from manager.domain.agents.agent import Agent, Credential, Door, State, StatedPolicy, credential_of, lasting_values
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.registry import (
    AcceptedRegistration,
    RefusedRegistration,
    RegistrationRequest,
    RepeatedRegistration,
    Takeover,
)
from manager.domain.agents.tokens import Token
from manager.domain.correlation.reports import is_late
from manager.domain.instant import Instant
from manager.engine.agent_record import agent_record
from manager.engine.commands.fleet import find_agent
from manager.engine.commands.http_agent_requests import (
    EnrollmentLimited,
    HeartbeatRecorded,
    PollPolicy,
    RecordHeartbeat,
    RecordRefusedRegistration,
    RegisterAgent,
    Registered,
    StoreReports,
    TokenRefused,
)
from manager.engine.commands.requests import AgentPolicy
from manager.engine.context import TIMESTAMP_AS_GIVEN, Context, ReceivedReport, Submission
from manager.engine.messages import condition, http_heartbeats, logins
from manager.engine.messages.registration import new_agent_id, record_enrollment
from manager.engine.policies import lost_reports, restored_store
from manager.engine.policies.merged_policy import merged_policy, merged_version, sequence_of
from manager.engine.response import emergency_response
from manager.errors import Conflict
from schemas.fast_http_heartbeats import AnyHttpHeartbeat
from schemas.generations import StoreGeneration
from schemas.identifiers import DEFAULT_ORGANIZATION
from schemas.keys import AgentKeys, new_secret
from schemas.model import seconds_since_1970
from schemas.presence import PolicyState

log = structlog.get_logger(__name__)

_LOGGED = 512
"""The maximum length of a heartbeat's logged errors, in characters."""

_UNKNOWN = "this manager knows no such enrollment token; ask its operator for one"
_TOKEN_REASONS = {
    "unknown_token": None,
    "expired_token": "the enrollment token has expired; ask for a new one",
    "used_token": "the enrollment token's uses are used up; ask for a new one",
}


def register_agent(context: Context, request: RegisterAgent) -> Registered | TokenRefused | EnrollmentLimited:
    """Register or reconnect an agent (lifecycle page, phase 1); a refusal is recorded for operators.

    Raises:
        Conflict: an instance of this host is online, and the request does not prove that it is the same one.
    """
    try:
        answer = _register(context, request)
    except Conflict as conflict:
        _record_refusal(context, request, str(conflict))
        raise
    match answer:
        case TokenRefused():
            _record_refusal(context, request, answer.reason or _UNKNOWN)
        case EnrollmentLimited():
            _record_refusal(context, request, answer.reason)
    return answer


def record_refused_registration(context: Context, request: RecordRefusedRegistration) -> None:
    """Record a registration that was refused before its body was read."""
    fleet = context.fleet
    fleet.counters["registrations_refused"] += 1
    now = context.batch.now.wall
    fleet.refused_registrations.record(
        None, None, door=Door.HTTP, origin=request.address, reason=request.reason, at=now
    )


def _record_refusal(context: Context, request: RegisterAgent, reason: str) -> None:
    fleet, host = context.fleet, request.host
    fleet.counters["registrations_refused"] += 1
    fleet.refused_registrations.record(
        host.hostname,
        request.organization_id,
        door=Door.HTTP,
        origin=request.address,
        reason=reason,
        at=context.batch.now.wall,
    )


def _register(context: Context, request: RegisterAgent) -> Registered | TokenRefused | EnrollmentLimited:
    fleet, now = context.fleet, context.batch.now
    itself = fleet.registry.find(request.own_agent_id or "")
    token = _token(context, request, itself)
    if isinstance(token, TokenRefused):
        return token
    organization_id = _organization(request, token, itself)
    known = fleet.registry.find_by_hostname(organization_id, request.host.hostname)
    refusal = token.refuses(now.wall, is_new_agent=known is None) if token and itself is None else None
    if refusal is not None:
        return TokenRefused(_TOKEN_REASONS[refusal])
    rate = fleet.enrollment_rate
    if token is not None and known is None and (wait := rate.wait(token, now)):
        return EnrollmentLimited(rate.reason(token, wait), rate.limit_of(token), wait)
    credential = _credential(request, known)
    application = _application(request, token, organization_id, credential)
    same_place = request.trusted and known is not None and request.address in known.host.addresses
    takeover = Takeover.ALLOW if request.by_admin or same_place else fleet.settings.takeover
    decision = fleet.registry.register(application, takeover, new_agent_id(), now)
    if isinstance(decision, RefusedRegistration):
        raise Conflict(decision.reason)
    if isinstance(decision, AcceptedRegistration) and decision.is_new and token is not None:
        token.uses += 1
        fleet.enrollment_rate.record(token, now)
        context.batch.changes.tokens[token.token_id] = token
    is_new = not isinstance(decision, RepeatedRegistration) and decision.is_new
    replaced = not isinstance(decision, RepeatedRegistration) and decision.replaced
    agent = decision.agent
    fleet.refused_registrations.forget(request.host.hostname, agent.organization_id)
    record_enrollment(context, agent, is_new=is_new, replaced=replaced)
    context.read_sources(agent)
    record = agent_record(agent, fleet.policies.effective[agent.agent_id], fleet.clones.known.get(agent.agent_id))
    return Registered(record, AgentKeys.derive(credential.secret).http_token, is_new)


def _token(context: Context, request: RegisterAgent, itself: Agent | None) -> Token | TokenRefused | None:
    """Return the enrollment token that applies: the one in the request, or the one that this agent registered with."""
    tokens = context.fleet.tokens
    if itself is not None:
        return tokens.get(itself.token_id or "")
    if request.token is None:
        return None
    token = tokens.get(request.token.token_id)
    if token is None or not hmac.compare_digest(token.proof_key, request.token.proof_key):
        return TokenRefused(None)
    return token


def _organization(request: RegisterAgent, token: Token | None, itself: Agent | None) -> str:
    """Return the organization: the agent's own, else the token's, else the one that the request names."""
    if itself is not None:
        return itself.organization_id
    return (token.organization_id if token else None) or request.organization_id or DEFAULT_ORGANIZATION


def _credential(request: RegisterAgent, known: Agent | None) -> Credential:
    """Return the credential that the request proved, or a new one."""
    if request.own_agent_id is None:
        return credential_of(new_secret())
    if known is None or known.agent_id != request.own_agent_id:
        raise Conflict("this token is another agent's; register with the enrollment token")
    return known.credential


def _application(
    request: RegisterAgent, token: Token | None, organization_id: str, credential: Credential
) -> RegistrationRequest:
    return RegistrationRequest(
        host=token.place(request.host) if token else request.host,
        organization_id=organization_id,
        credential=credential,
        token_id=token.token_id if token else None,
        door=Door.HTTP,
    )


def record_heartbeat(context: Context, request: RecordHeartbeat) -> HeartbeatRecorded:
    """Record a heartbeat and return the policy that the agent should have (lifecycle page, phase 2)."""
    agent, heartbeat = _record_contact(context, request.agent_id), request.heartbeat
    if request.dropped:
        context.fleet.counters["heartbeat_values_dropped"] += len(request.dropped)
        log.info("heartbeat_values_dropped", agent_id=agent.agent_id, values="; ".join(request.dropped)[:_LOGGED])
    _take_heartbeat(context, agent, heartbeat, context.batch.now)
    policy = context.fleet.policies.effective[agent.agent_id]
    clone = context.fleet.clones.known.get(agent.agent_id)
    pending = _pending(context, agent, heartbeat.policy_version)
    return HeartbeatRecorded(agent_record(agent, policy, clone), pending, _generation_asked(context))


def record_handed_over(context: Context, agent: Agent, heartbeat: AnyHttpHeartbeat | None, received: Instant) -> None:
    """Record a heartbeat that an ingest worker received; or with None another request, which is a sign of life too.

    One from before the agent signed off keeps it offline. Of a heartbeat that a later one has overtaken only the events
    are counted. A stored time that lies in the future is of another clock, or of this one before it was set back: it
    tells no order.

    Args:
        context: the batch.
        agent: the sender.
        heartbeat: its heartbeat.
        received: the receipt by the worker, by this process's clocks.
    """
    now = context.batch.now.wall
    if agent.state is State.OFFLINE and received.wall <= agent.state_since <= now:
        context.fleet.counters["heartbeats_ignored"] += 1
        return
    _contact(context, agent, received)
    if heartbeat is None:
        return
    if agent.last_heartbeat is None or not received.wall < agent.last_heartbeat <= now:
        _take_heartbeat(context, agent, heartbeat, received)
    elif heartbeat.events_processed is not None and heartbeat.events_total is None:
        agent.vitals.count_events(heartbeat.events_processed, None)
        context.unwritten.vitals.add(agent.number)


def _take_heartbeat(context: Context, agent: Agent, heartbeat: AnyHttpHeartbeat, received: Instant) -> None:
    """Record what a heartbeat says: clock, vitals, condition, logins, the policy in force."""
    context.fleet.counters["heartbeat_http"] += 1
    lasting = lasting_values(agent)
    agent.last_heartbeat = received.wall
    http_heartbeats.observe_clock(agent, heartbeat, received.wall)
    if heartbeat.sent_at is not None:
        context.fleet.clock_trust.observe(agent.agent_id, seconds_since_1970(heartbeat.sent_at), received)
    mode = (agent.vitals.mode, heartbeat.mode or agent.vitals.mode)
    http_heartbeats.record_vitals(agent, heartbeat)
    condition.record(context, agent, heartbeat, mode)
    logins.record(context, agent, heartbeat.logins)
    if heartbeat.receipt_mark is not None:
        lost_reports.compare(context, agent, heartbeat.receipt_mark)
    if heartbeat.policy_version is not None:
        _record_policy_in_force(context, agent, heartbeat.policy_version, heartbeat)
    _record_acceptance(context, agent)
    context.unwritten.heartbeat(agent, lasting)


def _generation_asked(context: Context) -> StoreGeneration | None:
    """Return the generation of the store while it asks for reports again."""
    history, now = context.fleet.store_history, context.batch.now.wall
    return history.message(now, len(context.fleet.registry)) if history.is_asking(now) else None


def store_reports(context: Context, request: StoreReports) -> Submission:
    """Submit reports, which are all stored with this batch or not at all (lifecycle page, phase 3)."""
    agent = _record_contact(context, request.agent_id)
    context.fleet.counters["threats_http"] += len(request.reports)
    now = context.batch.now.wall
    reports = received_reports(agent, request, now)
    submission = Submission(reports, now)
    context.submissions.append(submission)
    return submission


def received_reports(agent: Agent, request: StoreReports, received: float) -> list[ReceivedReport]:
    """Return an agent's reports of one HTTP request, received at a time in seconds since 1970."""
    clocks = (
        event_clock(agent.clock, each.report.timestamp.timestamp(), request, received) for each in request.reports
    )
    pairs = zip(request.reports, clocks, strict=True)
    return [ReceivedReport(agent, *prepared, clock, request.resent) for prepared, clock in pairs]


def event_clock(known: ClockOffset, timestamp: float, request: StoreReports, received: float) -> ClockOffset:
    """Return the clock offset for a report over HTTP (the contract, section 5, "HTTP agents").

    In this order: the request's `sentAt`; the agent's known offset; none, if the timestamp is within 300 s of the
    receipt; the request's `reportedAt`; none, which makes an older report late. A timestamp further in the future has
    no known event time.

    Args:
        known: the agent's own offset.
        timestamp: the report's timestamp, in seconds since 1970.
        request: the reports of one HTTP request.
        received: when the manager received it, in seconds since 1970.
    """
    if request.sent_at is not None:
        return ClockOffset(received - request.sent_at)
    if known.seconds is not None:
        return known
    if is_late(timestamp, received) or is_late(received, timestamp):
        if request.reported_at is not None:
            return ClockOffset(received - request.reported_at)
        if timestamp > received:
            return ClockOffset()
    return TIMESTAMP_AS_GIVEN


def poll_policy(context: Context, request: PollPolicy) -> AgentPolicy:
    """Return an agent's policy; the poll is a sign of life and states the version in force (lifecycle, phase 4)."""
    agent = _record_contact(context, request.agent_id)
    if len(request.versions) == 1:
        _record_policy_in_force(context, agent, request.versions[0], None)
        _record_acceptance(context, agent)
        context.unwritten.stated.add(agent.number)
    version = merged_version(context, agent)
    if version in request.versions:
        digest = context.fleet.policies.effective[agent.agent_id].resolved.digest
        return AgentPolicy(agent.agent_id, version, digest, {})
    return _hand_over(context, agent)


def _record_contact(context: Context, agent_id: str) -> Agent:
    agent = find_agent(context, agent_id)
    _contact(context, agent, context.batch.now)
    return agent


def _contact(context: Context, agent: Agent, received: Instant) -> None:
    agent.door = Door.HTTP
    transition = context.fleet.liveness.contact(agent, received)
    if transition is not None:
        context.batch.transition(transition)


def _record_policy_in_force(context: Context, agent: Agent, stated: int, heartbeat: AnyHttpHeartbeat | None) -> None:
    """Record the policy in force; a version without a digest means the policy that was sent with this version.

    The merged policy of a version has the organization's blocklist up to the sequence of that number.
    """
    force = agent.in_force
    if stated > merged_version(context, agent):
        restored_store.follow_policy(context, agent, stated, proven=False)
    elif heartbeat is None or heartbeat.policy_state != PolicyState.FAILED:
        force.blocklist_sequence = max(force.blocklist_sequence, min(stated, sequence_of(context, agent)))
    policy = context.fleet.policies.effective[agent.agent_id]
    version, digest = stated, heartbeat.policy_digest if heartbeat is not None else None
    state = heartbeat.policy_state if heartbeat is not None else None
    if stated == merged_version(context, agent):
        version = policy.version
        if digest is None or digest == _handed_digest(context, agent):
            digest = policy.resolved.digest
    if (version, digest) != (force.version, force.digest):
        force.stated = StatedPolicy(version, digest, PolicyState.APPLIED, force.error).shared()
        force.applied_at = context.batch.now.wall
        context.batch.event("policy_applied", agent, {"version": version, "state": state or PolicyState.APPLIED})
    if heartbeat is not None and state is not None:
        force.restate(state, heartbeat.policy_error)


def _record_acceptance(context: Context, agent: Agent) -> None:
    """Record the responses that an agent has accepted with the policy and the blocklist in force."""
    force = agent.in_force
    if force.state == PolicyState.APPLIED:
        emergency_response.record_applied(context, agent.agent_id, "policy", force.version)
    emergency_response.record_applied(context, agent.agent_id, "blocklist", force.blocklist_sequence)


def _pending(context: Context, agent: Agent, stated: int | None) -> tuple[AgentPolicy, ...]:
    """Return the policy that an agent lacks, if it is urgent or the agent has applied policies before."""
    policy, force = context.fleet.policies.effective[agent.agent_id], agent.in_force
    newest, sequence = merged_version(context, agent), sequence_of(context, agent)
    known = stated
    if known is None:
        current = force.version == policy.version and force.blocklist_sequence >= sequence
        known = max(newest if current else force.version, agent.handed_version)
    urgent = policy.urgent or sequence > policy.version
    if known >= newest or (known == 0 and not urgent):
        return ()
    return (_hand_over(context, agent),)


def _hand_over(context: Context, agent: Agent) -> AgentPolicy:
    policy = merged_policy(context, agent)
    agent.handed_version, agent.handed_digest = policy.version, policy.digest
    return policy


def _handed_digest(context: Context, agent: Agent) -> str | None:
    """Return the digest of the merged policy that was sent to the agent."""
    if agent.handed_version != merged_version(context, agent):
        _hand_over(context, agent)  # sent before a restart
    return agent.handed_digest
