"""The audit log's rules: what each command that changes something is called there, and how what it changes stands.

The state is read before and after; a command that changed nothing leaves no entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from manager.domain.policies import Scope
from manager.engine.allowlist_actions import ChangeAllowlist
from manager.engine.audit import State, agent_state, entry_state, note
from manager.engine.commands import CreateToken, DeregisterAgent, RemoveAgent, RevokeToken, SetPolicy
from manager.engine.desk import Desk
from manager.engine.incident_commands import (
    ApproveIncident,
    Broadcast,
    FreezeResponses,
    RemoveBlock,
    RollBack,
    UndoIncident,
)
from manager.engine.legacy import scope_of
from manager.engine.legacy_commands import CreatePolicy
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
    state: Callable[[Desk, Any], State]
    unless: Callable[[Desk], bool] = lambda _desk: False


def audited(desk: Desk, request: Any, carry_out: Callable[[Desk, Any], Any]) -> Any:
    """Carry out a command, and note what it changed; return its answer."""
    rule = _RULES.get(type(request))
    if rule is None:
        return carry_out(desk, request)
    before = rule.state(desk, request)
    value = carry_out(desk, request)
    about = value if isinstance(request, CreateToken) else request
    after = rule.state(desk, about)
    if (before != after or isinstance(request, Broadcast)) and not rule.unless(desk):
        before, after = _changed(before, after)
        note(desk, desk.origin, rule.action(request), rule.target(about), before=before, after=after)
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


def _document(desk: Desk, scope: Scope) -> State:
    document = desk.fleet.policies.document(scope)
    return None if document is None else dict(document)


def _token_state(desk: Desk, about: CreateToken | RevokeToken | EnrollmentToken) -> State:
    token = desk.fleet.tokens.get(getattr(about, "token_id", ""))
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


def _incident_state(desk: Desk, request: UndoIncident | ApproveIncident) -> State:
    responder = desk.fleet.responder
    entries = [entry for entry in responder.entries if entry.incident_id == request.incident_id]
    response = responder.record.get(request.incident_id)
    return {"state": None if response is None else str(response.state), "entries": len(entries)}


def _block_state(desk: Desk, request: RemoveBlock) -> State:
    entry = desk.fleet.responder.entries.get(request.entry_id)
    return None if entry is None else entry_state(entry)


def _frozen(desk: Desk, _request: FreezeResponses) -> State:
    return {"frozen": desk.fleet.responder.frozen}


def _revision(desk: Desk, _request: Any) -> State:
    return {"revision": desk.fleet.policies.revision}


_RULES: dict[type, Rule] = {
    SetPolicy: Rule(
        lambda request: "policy.remove" if request.document is None else "policy.set",
        lambda request: str(request.scope),
        lambda desk, request: _document(desk, request.scope),
    ),
    CreatePolicy: Rule(
        lambda _request: "policy.set",
        lambda request: str(scope_of(request.organization_id, request.agent_id)),
        lambda desk, request: _document(desk, scope_of(request.organization_id, request.agent_id)),
    ),
    ChangeAllowlist: Rule(
        lambda request: "allowlist.add" if request.listed else "allowlist.remove",
        lambda request: str(request.scope),
        lambda desk, request: _document(desk, request.scope),
    ),
    RollBack: Rule(lambda _request: "policy.rollback", lambda request: f"revision {request.revision}", _revision),
    Broadcast: Rule(lambda _request: "policy.broadcast", lambda _request: "fleet", _revision),
    RemoveAgent: Rule(
        lambda _request: "agent.remove",
        lambda request: str(request.agent_id),
        lambda desk, request: agent_state(desk, request.agent_id),
    ),
    DeregisterAgent: Rule(
        lambda _request: "agent.deregister",
        lambda request: str(request.agent_id),
        lambda desk, request: agent_state(desk, request.agent_id),
        unless=lambda desk: desk.origin.actor != "admin",  # an agent that signs off has its own history
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
