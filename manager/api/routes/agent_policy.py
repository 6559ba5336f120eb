"""Policy poll of HTTP agents (lifecycle page, phase 4): the new effective policy, or 304."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from manager.api.agents.hot_routes import policy_record
from manager.api.authorization import ScopedViewer, ScopedViewerOrAgent, ScopedViewerOrSelf
from manager.api.envelope import answer, ok, record
from manager.api.scope import require_agent
from manager.api.services import WithServices
from manager.domain.policies.explain import SOURCES, Source
from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.commands.http_agent_requests import PollPolicy
from manager.engine.commands.requests import AgentPolicy, ExplainPolicy, Explanation, ReadPolicy
from schemas.presence import Count

router = APIRouter(tags=["policies"])

_ANSWERS = {
    **answer("The effective policy; its version is the ETag, too."),
    304: {"description": "The agent has the newest version."},
}
_RULES = answer("The Sigma rules in force, at the top level too.", rules={"type": "array", "items": {"type": "string"}})
_Version = Annotated[Count | None, Query(description="the agent's current version")]
_VersionHeader = Annotated[Count | None, Header(alias="X-Policy-Version")]
_Match = Annotated[str | None, Header(alias="If-None-Match", max_length=1024)]
_TAG = re.compile(r'(?:W/)?"?([0-9]{1,16})"?')


@router.get("/api/policy/agent/{agent_id}", responses=_ANSWERS)
async def poll_policy(
    *,
    agent_id: str,
    services: WithServices,
    caller: ScopedViewerOrSelf,
    version: _Version = None,
    x_policy_version: _VersionHeader = None,
    if_none_match: _Match = None,
) -> Response:
    """Return the agent's policy; 304 if the agent has this version already.

    The version in the query takes precedence over `If-None-Match`, and that over `X-Policy-Version`. A poll counts as a
    sign of life; the version that it names is recorded as the agent's version in force.
    """
    await require_agent(services, caller, agent_id)
    versions = _versions(version, if_none_match, x_policy_version)
    request = ReadPolicy(agent_id) if caller.agent_id is None else PollPolicy(agent_id, versions)
    policy: AgentPolicy = await services.engine.submit(request)
    headers = {"ETag": f'"{policy.version}"', "Cache-Control": "no-cache"}
    if policy.version in versions or (version is None and (if_none_match or "").strip() == "*"):
        return Response(status_code=304, headers=headers)
    return ok(policy_record(policy), 200, headers)


_MEMBERS = {"type": "string"}
_EXPLAINED = answer(
    "The agent's groups, the lowest priority first, and each value with the scope that set it.",
    {
        "type": "object",
        "required": ["agentId", "hostname", "organizationId", "version", "digest", "groups", "values"],
        "properties": {
            **dict.fromkeys(("agentId", "hostname", "organizationId", "digest"), _MEMBERS),
            "version": {"type": "integer"},
            "groups": {"type": "array", "items": _MEMBERS},
            "values": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["path", "value", "scope", "target", "setBy"],
                    "properties": {
                        "path": _MEMBERS,
                        "value": {},
                        "scope": {"enum": [*SOURCES]},
                        "target": {"type": ["string", "null"]},
                        "setBy": {"type": "array", "items": record(scope="string", target="string?")},
                    },
                },
            },
        },
    },
)


@router.get("/api/policies/agent/{agent_id}/explain", responses=_EXPLAINED)
async def explain_policy(agent_id: str, services: WithServices, caller: ScopedViewer) -> Response:
    """Each value of an agent's effective policy with the scope that set it, and all scopes that set or list it.

    Scopes are those of documents, `default`, `emergency` for the agent's own emergency entries and manual blocks,
    `blocklist` for its organization's, and `never` for the never list that HTTP agents get in their policy.
    """
    await require_agent(services, caller, agent_id)
    found: Explanation = await services.engine.submit(ExplainPolicy(agent_id))
    values = [
        {"path": each.path, "value": each.value, **_source(each.source), "setBy": [_source(by) for by in each.sources]}
        for each in found.values
    ]
    return ok(
        {
            "agentId": agent_id,
            "hostname": found.hostname,
            "organizationId": found.organization_id,
            "version": found.version,
            "digest": found.digest,
            "groups": list(found.groups),
            "values": values,
        }
    )


def _source(source: Source) -> dict[str, str | None]:
    return {"scope": source.kind, "target": source.target or None}


def _versions(asked: int | None, match: str | None, header: int | None) -> tuple[int, ...]:
    """Return the versions that a caller claims to have."""
    if asked is not None:
        return (asked,)
    if match is not None:
        found = (_TAG.fullmatch(tag.strip()) for tag in match.split(","))
        return tuple(int(tag[1]) for tag in found if tag)
    return () if header is None else (header,)


@router.get("/api/rules/latest", responses=_RULES)
async def latest_rules(services: WithServices, caller: ScopedViewerOrAgent) -> Response:
    """Detection rules for older guards, from the agent's own policy; for the admin, from the global policy."""
    if caller.agent_id is None:
        found = await services.read(services.queries.policy_document, GLOBAL)
        document = (found or {}).get("document") or {}
    else:
        policy: AgentPolicy = await services.engine.submit(ReadPolicy(caller.agent_id))
        document = dict(policy.document)
    rules = document.get("detection", {}).get("sigma", [])
    return ok({"rules": rules}, rules=rules)
