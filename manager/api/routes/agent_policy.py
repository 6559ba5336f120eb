"""An agent's effective policy, as agents poll it (lifecycle page, phase 4): the new one, or 304."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from manager.api.auth import AdminOrOwn
from manager.api.described import answer
from manager.api.envelope import ok
from manager.api.services import WithServices
from manager.engine.commands import AgentPolicy, ReadPolicy

router = APIRouter(tags=["policies"])

_ANSWERS = {
    **answer("The effective policy; its version is the ETag, too."),
    304: {"description": "The agent has the newest version."},
}
_Version = Annotated[int | None, Query(ge=0, description="the version that the agent has")]
_VersionHeader = Annotated[int | None, Header(alias="X-Policy-Version", ge=0)]
_Match = Annotated[str | None, Header(alias="If-None-Match", max_length=1024)]


@router.get("/api/policy/agent/{agent_id}", responses=_ANSWERS)
async def poll_policy(
    agent_id: str,
    services: WithServices,
    _caller: AdminOrOwn,
    version: _Version = None,
    x_policy_version: _VersionHeader = None,
    if_none_match: _Match = None,
) -> Response:
    """The agent's policy, unless it has it: the query counts before `If-None-Match`, and that before the header."""
    policy: AgentPolicy = await services.door.submit(ReadPolicy(agent_id))
    headers = {"ETag": f'"{policy.version}"', "Cache-Control": "no-cache"}
    if _is_current(policy.version, version, if_none_match, x_policy_version):
        return Response(status_code=304, headers=headers)
    return ok(_legacy_superset(policy), headers=headers)


def _is_current(version: int, asked: int | None, match: str | None, header: int | None) -> bool:
    if asked is not None:
        return asked == version
    if match is not None:
        tags = {tag.strip().removeprefix("W/").strip('"') for tag in match.split(",")}
        return "*" in tags or str(version) in tags
    return header == version


def _legacy_superset(policy: AgentPolicy) -> dict[str, object]:
    """Return the document with the names that earlier guards read beside its own."""
    return {
        **policy.document,
        "policyId": f"pol-{policy.digest[:16]}",
        "policyVersion": policy.version,
        "version": policy.version,
        "appliedAt": policy.document["updatedAt"],
    }
