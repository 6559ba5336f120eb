"""The fleet's policies as a whole: list of documents, diff, rollback, drift, broadcast."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from manager.api.authorization import Admin, ScopedViewer
from manager.api.bodies import check_policy, read_body, read_document
from manager.api.envelope import ANY_LIST, answer, body_of, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit
from manager.api.scope import require_scope
from manager.api.services import Services, WithServices
from manager.domain.policies.document_check import Check
from manager.domain.policies.drift import Drift
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.engine.commands.requests import (
    Broadcast,
    PolicySet,
    Preview,
    Previewed,
    PreviewRollback,
    ReadDrift,
    RollBack,
)
from manager.errors import Invalid, NotFound
from schemas.identifiers import AgentId, OrganizationId
from schemas.limits import BODY_LIMIT
from schemas.model import WireModel, iso
from schemas.policy import PolicyDocument

router = APIRouter(tags=["policies"])


class RollbackBody(WireModel):
    """Body of a rollback: the revision whose documents are restored, and the reason for the history."""

    revision: int = Field(ge=1, le=2**53)
    message: Annotated[str, Field(max_length=256)] | None = None
    dry_run: bool = Field(default=False, description="change nothing, and count the agents whose policy would change")


class ComparisonBody(WireModel):
    """Body of a diff: two revisions (`from`, and `to` or the newest), or a scope and a document to try on it.

    A document that is null or missing stands for removing the scope's own. For a group it is the group's policy.
    """

    from_: int | None = Field(default=None, alias="from", ge=1, le=2**53)
    to: int | None = Field(default=None, ge=1, le=2**53)
    scope: Literal["global", "organization", "group", "agent"] | None = None
    target: OrganizationId | None = None
    document: PolicyDocument | None = None


@router.get("/api/policies", responses=page_of("The document of each scope, the last set first."))
async def list_documents(
    services: WithServices, caller: ScopedViewer, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """The scopes with a document of their own, and the documents."""
    return page(
        *await services.read(
            services.queries.policy_documents, organizations=caller.limit(None), limit=limit, cursor=cursor
        )
    )


_ROLLED_BACK = answer(
    "The fleet's revision after the change, and the number of agents with a new effective policy, or in a dry run"
    " of those that would have one.",
    record(revision="integer", changed="boolean", agents="integer"),
)


@router.post("/api/policies/rollback", responses=_ROLLED_BACK, openapi_extra=body_of("RollbackBody"))
async def roll_back(request: Request, services: WithServices, caller: Admin) -> Response:
    """Restore every document as it was at a revision, as new revisions."""
    wanted = await read_body(request, RollbackBody)
    restore = RollBack(wanted.revision, caller.name, wanted.message)
    asked = PreviewRollback(wanted.revision) if wanted.dry_run else restore
    done: PolicySet = await services.engine.submit(asked)
    return ok({"revision": done.revision, "changed": done.changed, "agents": done.agents})


@router.post(
    "/api/policies/broadcast", responses=answer("The number of policies that are published.", record(agents="integer"))
)
async def broadcast(services: WithServices, caller: Admin) -> Response:
    """Publish every agent's policy and every blocklist again."""
    return ok({"agents": await services.engine.submit(Broadcast(caller.name))})


_COMPARED = answer(
    "The differences, each with its path, such as blocklist.ips[203.0.113.7].",
    ANY_LIST,
    warnings={"type": "array", "items": {"type": "string"}},
)


@router.post("/api/policies/diff", responses=_COMPARED, openapi_extra=body_of("ComparisonBody"))
async def compare(request: Request, services: WithServices, caller: ScopedViewer) -> Response:
    """Differences between the documents of two revisions, or the effect of a document on the effective policies.

    A document that setting would refuse is refused here, too.
    """
    wanted, written = await read_document(request, ComparisonBody, BODY_LIMIT)
    if wanted.from_ is not None:
        return ok(
            await services.read(services.queries.policy_differences, wanted.from_, wanted.to, caller.limit(None)),
            warnings=[],
        )
    scope = await _scope(services, wanted)
    await require_scope(services, caller, scope)
    document, warnings = None, []
    if wanted.document is not None:
        check = await check_policy(request, written["document"])
        Check([f"document.{error}" for error in check.errors], []).raise_errors()
        document, warnings = wanted.document.sections(), [f"document.{warning}" for warning in check.warnings]
    if scope.kind == "group":
        document = await _group_with(services, scope, document)
    found: Previewed = await services.engine.submit(Preview(scope, document))
    where = {"scope": scope.kind, "target": scope.target or None}
    return ok([{**where, **difference._asdict()} for difference in found.differences], warnings=warnings)


async def _scope(services: Services, wanted: ComparisonBody) -> Scope:
    if wanted.scope is None:
        raise Invalid("scope: name a scope, or a revision to compare with in `from`")
    if wanted.scope == "global":
        return GLOBAL
    if wanted.target is None:
        raise Invalid(f"target: name the {wanted.scope}")
    if wanted.scope == "agent" and await services.read(services.queries.agent, wanted.target) is None:
        raise NotFound(f"Agent {wanted.target} not found")
    return Scope(wanted.scope, wanted.target)


async def _group_with(services: Services, scope: Scope, policy: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the document of a group with another policy; None stands for removing the group."""
    found = await services.read(services.queries.policy_document, scope)
    if found is None or found["document"] is None:
        raise NotFound(f"Group {scope.target} not found")
    return None if policy is None else {**found["document"], "policy": policy}


_After = Annotated[AgentId | None, Query(description="`nextCursor` of the page before")]


@router.get("/api/policies/drift", responses=page_of("Agents with drift, in the order of their ids."))
async def list_drift(
    services: WithServices, caller: ScopedViewer, limit: Limit = 200, cursor: _After = None
) -> Response:
    """Agents whose policy in force is not their effective policy, or that state another mode than it sets."""
    drifts: list[Drift] = await services.engine.submit(ReadDrift(caller.organizations))
    rest = sorted((drift for drift in drifts if drift.agent_id > (cursor or "")), key=lambda each: each.agent_id)
    shown = rest[:limit]
    hostnames = await services.read(services.queries.hostnames, [drift.agent_id for drift in shown])
    records = [_drift(drift, hostnames.get(drift.agent_id)) for drift in shown]
    return page(records, shown[-1].agent_id if len(rest) > limit else None)


def _drift(drift: Drift, hostname: str | None) -> dict[str, Any]:
    return {
        "agentId": drift.agent_id,
        "hostname": hostname,
        "version": drift.version,
        "digest": drift.digest,
        "since": iso(drift.since),
        "versionInForce": drift.version_in_force,
        "digestInForce": drift.digest_in_force,
        "state": drift.state,
        "error": drift.error,
        "blocklistSequence": drift.blocklist_sequence,
        "blocklistInForce": drift.blocklist_in_force,
        "mode": drift.mode,
        "policyMode": drift.policy_mode,
    }
