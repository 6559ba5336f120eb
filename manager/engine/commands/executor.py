"""What each command does: plain functions in one table, in the same transaction as the messages beside them."""

from collections.abc import Callable
from functools import partial
from typing import Any

from manager.domain.agents.agent import Agent
from manager.domain.agents.tokens import Token
from manager.domain.policies.fleet_policies import Scope
from manager.engine.batch import HistoryLine
from manager.engine.commands import http_agent_requests, http_agents
from manager.engine.commands.allowlist import ChangeAllowlist, change_allowlist
from manager.engine.commands.audit_rules import audited
from manager.engine.commands.incidents import INCIDENT_ACTIONS, documents_changed
from manager.engine.commands.requests import (
    AgentPolicy,
    CreateToken,
    DeregisterAgent,
    PolicySet,
    ReadPolicy,
    RemoveAgent,
    RevokeToken,
    SetPolicy,
)
from manager.engine.context import Context
from manager.engine.policies.message import SECTIONS_LIMIT, sections_size
from manager.engine.response import emergency_response
from manager.errors import Invalid, NotFound
from schemas.keys import EnrollmentToken
from schemas.topics import POLICY, PRESENCE


def execute(context: Context, request: Any) -> Any:
    """Carry out a command and return its answer.

    Raises:
        ManagerError: the command cannot be carried out; nothing was changed.
    """
    return audited(context, request, _COMMANDS[type(request)])


def _agent(context: Context, agent_id: str) -> Agent:
    agent = context.fleet.registry.find(agent_id)
    if agent is None:
        raise NotFound(f"Agent {agent_id} not found")
    return agent


def set_policy(context: Context, request: SetPolicy) -> PolicySet:
    """Take a policy document and publish to the agents whose effective policy it changes."""
    policies, now = context.fleet.policies, context.batch.now.wall
    scope = request.scope
    if scope.kind == "agent":
        _agent(context, scope.target)
    largest = max(sections_size(resolved.sections) for resolved in policies.preview(scope, request.document))
    if largest > SECTIONS_LIMIT:
        raise Invalid(f"the effective policy would have {largest} bytes; at most {SECTIONS_LIMIT} fit in a message")
    revision = policies.set(scope, request.document, now, request.author)
    if revision is None:
        return PolicySet(policies.revision, changed=False, agents=0)
    agents = documents_changed(context, [revision])
    data = {"scope": str(scope), "revision": policies.revision, "agents": agents}
    context.batch.event("policy_created", data=data)
    return PolicySet(policies.revision, changed=True, agents=agents)


def remove_agent(context: Context, request: RemoveAgent) -> str:
    """Remove an agent for good: its record, its credential, its retained topics."""
    agent = _agent(context, request.agent_id)
    fleet, batch = context.fleet, context.batch
    fleet.registry.remove(agent, batch.now.wall)
    fleet.liveness.forget(agent)
    fleet.clones.forget(agent.agent_id)
    fleet.held_back.forget(agent.agent_id)
    document = fleet.policies.set(Scope("agent", agent.agent_id), None, batch.now.wall, request.author) if (
        fleet.policies.document(Scope("agent", agent.agent_id)) is not None
    ) else None  # fmt: skip
    if document is not None:
        batch.changes.revisions.append(document)
        batch.changes.fleet_revision = fleet.policies.revision
    fleet.policies.forget(agent.agent_id)
    fleet.immunity.forget_agent(agent.agent_id)
    emergency_response.carry_out(context, fleet.responder.forget_agent(agent.agent_id))
    agent.state_since = batch.now.wall
    batch.changes.agents.pop(agent.agent_id, None)
    batch.changes.policies.pop(agent.agent_id, None)
    context.behind.discard(agent.agent_id)
    batch.changes.removed.append(agent)
    batch.changes.history.append(HistoryLine(agent.agent_id, batch.now.wall, "agent_removed", request.author))
    batch.clear_retained(PRESENCE.address(agent.agent_id))
    batch.clear_retained(POLICY.address(agent.agent_id))
    batch.cut_off.append(agent.agent_id)
    batch.event("agent_removed", agent)
    return agent.agent_id


def deregister_agent(context: Context, request: DeregisterAgent) -> str:
    """Mark an agent as offline; its record is kept."""
    agent = _agent(context, request.agent_id)
    context.batch.transition(context.fleet.liveness.leave(agent, context.batch.now))
    return agent.agent_id


def create_token(context: Context, request: CreateToken) -> EnrollmentToken:
    """Make an enrollment token; only what verifies it is kept."""
    fleet = context.fleet
    token = EnrollmentToken.new(fleet.keyring.sign_public, fleet.settings.ca_fingerprint)
    kept = Token(
        token_id=token.token_id,
        proof_key=token.proof_key,
        created_at=context.batch.now.wall,
        organization_id=request.organization_id,
        site=request.site,
        tags=request.tags,
        expires_at=request.expires_at,
        max_uses=request.max_uses,
    )
    fleet.tokens[token.token_id] = kept
    context.batch.changes.tokens[token.token_id] = kept
    return token


def revoke_token(context: Context, request: RevokeToken) -> str:
    """Let nobody register with a token any more; agents that did stay."""
    token = context.fleet.tokens.get(request.token_id)
    if token is None:
        raise NotFound(f"Token {request.token_id} not found")
    if token.revoked_at is None:
        token.revoked_at = context.batch.now.wall
        context.batch.changes.tokens[token.token_id] = token
    return token.token_id


def read_policy(context: Context, request: ReadPolicy) -> AgentPolicy:
    """Return an agent's effective policy as it is sent."""
    agent = _agent(context, request.agent_id)
    policy = context.fleet.policies.effective[agent.agent_id]
    return AgentPolicy(agent.agent_id, policy.version, policy.resolved.digest, context.serializer.document(policy))


_COMMANDS: dict[type, Callable[[Context, Any], Any]] = {
    SetPolicy: set_policy,
    RemoveAgent: remove_agent,
    DeregisterAgent: deregister_agent,
    CreateToken: create_token,
    RevokeToken: revoke_token,
    ReadPolicy: read_policy,
    http_agent_requests.RegisterAgent: http_agents.register_agent,
    http_agent_requests.TakeHeartbeat: http_agents.take_heartbeat,
    http_agent_requests.TakeReports: http_agents.take_reports,
    http_agent_requests.PollPolicy: http_agents.poll_policy,
    http_agent_requests.CreatePolicy: partial(http_agents.create_policy, set_policy),
    ChangeAllowlist: partial(change_allowlist, set_policy),
    **INCIDENT_ACTIONS,
}
"""Every command, and what it does."""
