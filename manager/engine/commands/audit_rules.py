"""The audit log's rules: what each command that changes something is called there, and how what it changes stands.

The state is read before and after; a command that changed nothing leaves no entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from manager.domain.policies.fleet_policies import Scope
from manager.engine.commands.allowlist import ChangeAllowlist
from manager.engine.commands.audit import State, agent_state, entry_state, note
from manager.engine.commands.http_agent_requests import CreatePolicy
from manager.engine.commands.http_agents import scope_of
from manager.engine.commands.requests import (
    ApproveIncident,
    Broadcast,
    CreateToken,
    DeregisterAgent,
    FreezeResponses,
    RemoveAgent,
    RemoveBlock,
    RevokeToken,
    RollBack,
    SetPolicy,
    UndoIncident,
)
from manager.engine.context import Context
from schemas.keys import EnrollmentToken
from schemas.model import iso


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of command stands in the log.

    Attributes:
        action: What was done, such as ``policy.set``.
        target: What it was done to.
        state: How that stands; it is asked before and after.
        unless: Commands that need no entry.
    """

    action: Callable[[Any], str]
    target: Callable[[Any], str]
    state: Callable[[Context, Any], State]
    unless: Callable[[Context], bool] = lambda _desk: False


def audited(context: Context, request: Any, carry_out: Callable[[Context, Any], Any]) -> Any:
    """Carry out a command, and note what it changed; return its answer."""
    rule = _RULES.get(type(request))
    if rule is None:
        return carry_out(context, request)
    before = rule.state(context, request)
    value = carry_out(context, request)
    about = value if isinstance(request, CreateToken) else request
    after = rule.state(context, about)
    if (before != after or isinstance(request, Broadcast)) and not rule.unless(context):
        before, after = _changed(before, after)
        note(context, context.origin, rule.action(request), rule.target(about), before=before, after=after)
    return value


def _changed(before: State, after: State) -> tuple[State, State]:
    """Leave out what is the same before and after: of a policy document only the sections that changed."""
    if before is None or after is None:
        return before, after
    same = {name for name in before.keys() & after.keys() if before[name] == after[name]}
    return (
        {name: value for name, value in before.items() if name not in same},
        {name: value for name, value in after.items() if name not in same},
    )


def _document(context: Context, scope: Scope) -> State:
    document = context.fleet.policies.document(scope)
    return None if document is None else dict(document)


def _token_state(context: Context, about: CreateToken | RevokeToken | EnrollmentToken) -> State:
    token = context.fleet.tokens.get(getattr(about, "token_id", ""))
    if token is None:
        return None
    return {
        "organizationId": token.organization_id,
        "site": token.site,
        "tags": list(token.tags),
        "maxUses": token.max_uses,
        "expiresAt": None if token.expires_at is None else iso(token.expires_at),
        "revoked": token.revoked_at is not None,
    }


def _incident_state(context: Context, request: UndoIncident | ApproveIncident) -> State:
    responder = context.fleet.responder
    entries = [entry for entry in responder.entries if entry.incident_id == request.incident_id]
    response = responder.responses.get(request.incident_id)
    return {"state": None if response is None else str(response.state), "entries": len(entries)}


def _block_state(context: Context, request: RemoveBlock) -> State:
    entry = context.fleet.responder.entries.get(request.entry_id)
    return None if entry is None else entry_state(entry)


def _frozen(context: Context, _request: FreezeResponses) -> State:
    return {"frozen": context.fleet.responder.frozen}


def _revision(context: Context, _request: Any) -> State:
    return {"revision": context.fleet.policies.revision}


_RULES: dict[type, Rule] = {
    SetPolicy: Rule(
        lambda request: "policy.remove" if request.document is None else "policy.set",
        lambda request: str(request.scope),
        lambda context, request: _document(context, request.scope),
    ),
    CreatePolicy: Rule(
        lambda _request: "policy.set",
        lambda request: str(scope_of(request.organization_id, request.agent_id)),
        lambda context, request: _document(context, scope_of(request.organization_id, request.agent_id)),
    ),
    ChangeAllowlist: Rule(
        lambda request: "allowlist.add" if request.listed else "allowlist.remove",
        lambda request: str(request.scope),
        lambda context, request: _document(context, request.scope),
    ),
    RollBack: Rule(lambda _request: "policy.rollback", lambda request: f"revision {request.revision}", _revision),
    Broadcast: Rule(lambda _request: "policy.broadcast", lambda _request: "fleet", _revision),
    RemoveAgent: Rule(
        lambda _request: "agent.remove",
        lambda request: str(request.agent_id),
        lambda context, request: agent_state(context, request.agent_id),
    ),
    DeregisterAgent: Rule(
        lambda _request: "agent.deregister",
        lambda request: str(request.agent_id),
        lambda context, request: agent_state(context, request.agent_id),
        unless=lambda context: context.origin.actor != "admin",  # an agent that signs off has its own history
    ),
    CreateToken: Rule(lambda _request: "token.create", lambda token: str(token.token_id), _token_state),
    RevokeToken: Rule(lambda _request: "token.revoke", lambda request: str(request.token_id), _token_state),
    UndoIncident: Rule(lambda _request: "incident.undo", lambda request: str(request.incident_id), _incident_state),
    ApproveIncident: Rule(
        lambda _request: "incident.approve", lambda request: str(request.incident_id), _incident_state
    ),
    RemoveBlock: Rule(lambda _request: "block.remove", lambda request: str(request.entry_id), _block_state),
    FreezeResponses: Rule(
        lambda request: "responses.freeze" if request.frozen else "responses.thaw", lambda _request: "fleet", _frozen
    ),
}
