"""Audit rules: the audited action, target and state of each command that makes a change.

The state is read before and after the command; a command that changed nothing adds no entry.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from manager.domain.policies.fleet_policies import Scope
from manager.engine.commands.access_requests import CreateAccess, RevokeAccess, RotateAccess
from manager.engine.commands.audit import (
    AuditState,
    add_entry,
    agent_state,
    changed_members,
    entry_state,
    manual_state,
)
from manager.engine.commands.enrollment_tokens import find_token
from manager.engine.commands.http_agent_requests import CreatePolicy
from manager.engine.commands.incidents import surviving_incident
from manager.engine.commands.key_requests import RollBackKeys, RotateKeys
from manager.engine.commands.policies import scope_of
from manager.engine.commands.requests import (
    AcceptClock,
    ApproveIncident,
    Broadcast,
    ChangeAgent,
    ChangeAllowlist,
    CreateToken,
    DeregisterAgent,
    FreezeResponses,
    RemoveAgent,
    RemoveBlock,
    RevokeToken,
    RollBack,
    RotateToken,
    SetOrganizationResponse,
    SetPolicy,
    UndoIncident,
)
from manager.engine.context import Context
from manager.engine.fleet import UNCHOSEN_WARNING
from schemas.keys import EnrollmentToken
from schemas.model import iso


@dataclass(frozen=True, slots=True)
class AuditRule:
    """The audit entry of one kind of command.

    Attributes:
        action: Returns the action, such as ``policy.set``.
        target: Returns the target.
        state: Returns the target's state; called before and after the command.
        unless: Returns whether the command needs no entry.
    """

    action: Callable[[Any], str]
    target: Callable[[Any], str]
    state: Callable[[Context, Any], AuditState]
    unless: Callable[[Context], bool] = lambda _context: False


def audited(context: Context, request: Any, carry_out: Callable[[Context, Any], Any]) -> Any:
    """Execute a command, add an audit entry for its change, and return its answer."""
    rule = _RULES.get(type(request))
    if rule is None:
        return carry_out(context, request)
    before = rule.state(context, request)
    value = carry_out(context, request)
    about = _about(request, value)
    after = rule.state(context, about)
    if (before != after or isinstance(request, (Broadcast, RotateAccess, RotateToken))) and not rule.unless(context):
        before, after = changed_members(before, after)
        add_entry(context, context.origin, rule.action(request), rule.target(about), before=before, after=after)
    return value


def _about(request: Any, value: Any) -> Any:
    """Return what an entry is about: the request, or the token that it made or named."""
    if isinstance(request, (CreateToken, RotateToken)):
        return value
    return replace(request, token_id=value) if isinstance(request, RevokeToken) else request


def _document(context: Context, scope: Scope) -> AuditState:
    document = context.fleet.policies.document(scope)
    return None if document is None else dict(document)


def _token_state(context: Context, about: CreateToken | RotateToken | RevokeToken | EnrollmentToken) -> AuditState:
    if isinstance(about, CreateToken):
        return None
    token = find_token(context, about.token_id)
    return {
        "name": token.name,
        "organizationId": token.organization_id,
        "site": token.site,
        "tags": list(token.tags),
        "maxUses": token.max_uses,
        "rate": token.rate,
        "ephemeral": token.ephemeral,
        "rotatedAt": None if token.rotated_at is None else iso(token.rotated_at),
        "expiresAt": None if token.expires_at is None else iso(token.expires_at),
        "revoked": token.revoked_at is not None,
    }


def _access_state(context: Context, about: CreateAccess | RotateAccess | RevokeAccess) -> AuditState:
    token = context.fleet.access.get(about.name)
    if token is None:
        return None
    return {
        "role": str(token.role),
        "organizations": list(token.organizations) or "all",
        "rotatedAt": iso(token.rotated_at),
        "expiresAt": None if token.expires_at is None else iso(token.expires_at),
        "revoked": token.revoked_at is not None,
    }


def _incident_state(context: Context, request: UndoIncident | ApproveIncident) -> AuditState:
    incident_id = surviving_incident(context, request.incident_id).id
    responder = context.fleet.responder
    entries = [entry for entry in responder.entries if entry.incident_id == incident_id]
    response = responder.responses.get(incident_id)
    return {"state": None if response is None else str(response.state), "entries": len(entries)}


def _block_state(context: Context, request: RemoveBlock) -> AuditState:
    entries = context.fleet.responder.entries
    manual, entry = entries.manual.get(request.entry_id), entries.get(request.entry_id)
    if manual is not None:
        return manual_state(manual)
    return None if entry is None else entry_state(entry)


def _frozen(context: Context, _request: FreezeResponses) -> AuditState:
    return {"frozen": context.fleet.responder.frozen}


def _organization_response(context: Context, _request: SetOrganizationResponse) -> AuditState:
    chosen = UNCHOSEN_WARNING not in context.fleet.warnings
    return {"organizationResponse": context.fleet.responder.organization_response.value, "chosen": chosen}


def _clock_state(context: Context, _request: AcceptClock) -> AuditState:
    return {"trusted": context.fleet.clock_trust.is_trusted(context.batch.now)}


def _revision(context: Context, _request: Any) -> AuditState:
    return {"revision": context.fleet.policies.revision}


def _signing_keys(context: Context, _request: Any) -> AuditState:
    keys = context.fleet.signing_keys
    return {
        "signKey": keys.public,
        "number": keys.number,
        "compromised": [each.public for each in keys.former if each.compromised],
    }


_RULES: dict[type, AuditRule] = {
    SetPolicy: AuditRule(
        lambda request: "policy.remove" if request.document is None else "policy.set",
        lambda request: str(request.scope),
        lambda context, request: _document(context, request.scope),
    ),
    CreatePolicy: AuditRule(
        lambda _request: "policy.set",
        lambda request: str(scope_of(request.organization_id, request.agent_id)),
        lambda context, request: _document(context, scope_of(request.organization_id, request.agent_id)),
    ),
    ChangeAllowlist: AuditRule(
        lambda request: "allowlist.add" if request.listed else "allowlist.remove",
        lambda request: str(request.scope),
        lambda context, request: _document(context, request.scope),
    ),
    RollBack: AuditRule(lambda _request: "policy.rollback", lambda request: f"revision {request.revision}", _revision),
    Broadcast: AuditRule(lambda _request: "policy.broadcast", lambda _request: "fleet", _revision),
    ChangeAgent: AuditRule(
        lambda _request: "agent.set",
        lambda request: str(request.agent_id),
        lambda context, request: agent_state(context, request.agent_id),
    ),
    RemoveAgent: AuditRule(
        lambda _request: "agent.remove",
        lambda request: str(request.agent_id),
        lambda context, request: agent_state(context, request.agent_id),
    ),
    DeregisterAgent: AuditRule(
        lambda _request: "agent.deregister",
        lambda request: str(request.agent_id),
        lambda context, request: agent_state(context, request.agent_id),
        unless=lambda context: context.origin.actor.startswith("ag-"),  # the history records an agent that signs off
    ),
    CreateToken: AuditRule(lambda _request: "token.create", lambda token: str(token.token_id), _token_state),
    RotateToken: AuditRule(lambda _request: "token.rotate", lambda token: str(token.token_id), _token_state),
    RevokeToken: AuditRule(lambda _request: "token.revoke", lambda request: str(request.token_id), _token_state),
    CreateAccess: AuditRule(lambda _request: "access.create", lambda request: str(request.name), _access_state),
    RotateAccess: AuditRule(lambda _request: "access.rotate", lambda request: str(request.name), _access_state),
    RevokeAccess: AuditRule(lambda _request: "access.revoke", lambda request: str(request.name), _access_state),
    UndoIncident: AuditRule(
        lambda _request: "incident.undo", lambda request: str(request.incident_id), _incident_state
    ),
    ApproveIncident: AuditRule(
        lambda _request: "incident.approve", lambda request: str(request.incident_id), _incident_state
    ),
    RemoveBlock: AuditRule(lambda _request: "block.remove", lambda request: str(request.entry_id), _block_state),
    AcceptClock: AuditRule(lambda _request: "clock.accept", lambda _request: "manager", _clock_state),
    SetOrganizationResponse: AuditRule(
        lambda _request: "responses.organization", lambda _request: "fleet", _organization_response
    ),
    RotateKeys: AuditRule(lambda _request: "keys.rotate", lambda _request: "signing key", _signing_keys),
    RollBackKeys: AuditRule(lambda _request: "keys.rollback", lambda _request: "signing key", _signing_keys),
    FreezeResponses: AuditRule(
        lambda request: "responses.freeze" if request.frozen else "responses.thaw", lambda _request: "fleet", _frozen
    ),
}
