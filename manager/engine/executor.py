"""What each command does: plain functions in one table, in the same transaction as the messages beside them."""

from collections.abc import Callable
from functools import partial
from typing import Any

from manager.domain.agent import Agent
from manager.domain.policies import Scope
from manager.domain.tokens import Token
from manager.engine import legacy, legacy_commands, responding
from manager.engine.allowlist_actions import ChangeAllowlist, change_allowlist
from manager.engine.audit_rules import audited
from manager.engine.batch import HistoryLine
from manager.engine.commands import (
    AgentPolicy,
    CreateToken,
    DeregisterAgent,
    PolicySet,
    ReadPolicy,
    RemoveAgent,
    RevokeToken,
    SetPolicy,
)
from manager.engine.desk import Desk
from manager.engine.incident_actions import INCIDENT_ACTIONS, documents_changed
from manager.engine.policy_message import SECTIONS_LIMIT, sections_size
from manager.errors import Invalid, NotFound
from schemas.keys import EnrollmentToken
from schemas.topics import POLICY, PRESENCE


def execute(desk: Desk, request: Any) -> Any:
    """Carry out a command and return its answer.

    Raises:
        ManagerError: the command cannot be carried out; nothing was changed.
    """
    return audited(desk, request, _COMMANDS[type(request)])


def _agent(desk: Desk, agent_id: str) -> Agent:
    agent = desk.fleet.registry.find(agent_id)
    if agent is None:
        raise NotFound(f"Agent {agent_id} not found")
    return agent


def set_policy(desk: Desk, request: SetPolicy) -> PolicySet:
    """Take a policy document and publish to the agents whose effective policy it changes."""
    policies, now = desk.fleet.policies, desk.batch.now.wall
    scope = request.scope
    if scope.kind == "agent":
        _agent(desk, scope.target)
    largest = max(sections_size(resolved.sections) for resolved in policies.preview(scope, request.document))
    if largest > SECTIONS_LIMIT:
        raise Invalid(f"the effective policy would have {largest} bytes; at most {SECTIONS_LIMIT} fit in a message")
    revision = policies.set(scope, request.document, now, request.author)
    if revision is None:
        return PolicySet(policies.revision, changed=False, agents=0)
    agents = documents_changed(desk, [revision])
    data = {"scope": str(scope), "revision": policies.revision, "agents": agents}
    desk.batch.event("policy_created", data=data)
    return PolicySet(policies.revision, changed=True, agents=agents)


def remove_agent(desk: Desk, request: RemoveAgent) -> str:
    """Remove an agent for good: its record, its credential, its retained topics."""
    agent = _agent(desk, request.agent_id)
    fleet, batch = desk.fleet, desk.batch
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
    responding.carry_out(desk, fleet.responder.forget_agent(agent.agent_id))
    agent.state_since = batch.now.wall
    batch.changes.agents.pop(agent.agent_id, None)
    batch.changes.policies.pop(agent.agent_id, None)
    desk.behind.discard(agent.agent_id)
    batch.changes.removed.append(agent)
    batch.changes.history.append(HistoryLine(agent.agent_id, batch.now.wall, "agent_removed", request.author))
    batch.clear_retained(PRESENCE.address(agent.agent_id))
    batch.clear_retained(POLICY.address(agent.agent_id))
    batch.cut_off.append(agent.agent_id)
    batch.event("agent_removed", agent)
    return agent.agent_id


def deregister_agent(desk: Desk, request: DeregisterAgent) -> str:
    """Mark an agent as offline; its record is kept."""
    agent = _agent(desk, request.agent_id)
    desk.batch.transition(desk.fleet.liveness.leave(agent, desk.batch.now))
    return agent.agent_id


def create_token(desk: Desk, request: CreateToken) -> EnrollmentToken:
    """Make an enrollment token; only what verifies it is kept."""
    fleet = desk.fleet
    token = EnrollmentToken.new(fleet.keyring.sign_public, fleet.settings.ca_fingerprint)
    kept = Token(
        token_id=token.token_id,
        proof_key=token.proof_key,
        created_at=desk.batch.now.wall,
        organization_id=request.organization_id,
        site=request.site,
        tags=request.tags,
        expires_at=request.expires_at,
        max_uses=request.max_uses,
    )
    fleet.tokens[token.token_id] = kept
    desk.batch.changes.tokens[token.token_id] = kept
    return token


def revoke_token(desk: Desk, request: RevokeToken) -> str:
    """Let nobody register with a token any more; agents that did stay."""
    token = desk.fleet.tokens.get(request.token_id)
    if token is None:
        raise NotFound(f"Token {request.token_id} not found")
    if token.revoked_at is None:
        token.revoked_at = desk.batch.now.wall
        desk.batch.changes.tokens[token.token_id] = token
    return token.token_id


def read_policy(desk: Desk, request: ReadPolicy) -> AgentPolicy:
    """Return an agent's effective policy as it is sent."""
    agent = _agent(desk, request.agent_id)
    policy = desk.fleet.policies.effective[agent.agent_id]
    return AgentPolicy(agent.agent_id, policy.version, policy.resolved.digest, desk.press.document(policy))


_COMMANDS: dict[type, Callable[[Desk, Any], Any]] = {
    SetPolicy: set_policy,
    RemoveAgent: remove_agent,
    DeregisterAgent: deregister_agent,
    CreateToken: create_token,
    RevokeToken: revoke_token,
    ReadPolicy: read_policy,
    legacy_commands.RegisterAgent: legacy.register_agent,
    legacy_commands.TakeHeartbeat: legacy.take_heartbeat,
    legacy_commands.TakeReports: legacy.take_reports,
    legacy_commands.PollPolicy: legacy.poll_policy,
    legacy_commands.CreatePolicy: partial(legacy.create_policy, set_policy),
    ChangeAllowlist: partial(change_allowlist, set_policy),
    **INCIDENT_ACTIONS,
}
"""Every command, and what it does."""
