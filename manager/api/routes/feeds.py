"""Feeds of the blocked addresses, for firewalls that run no guard."""

import hashlib
from math import inf
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from manager.api.authentication import Caller
from manager.api.authorization import Feed
from manager.api.envelope import ok
from manager.api.parameters import Organization
from manager.api.services import Services, WithServices
from manager.domain.response.feed import FeedFormat, merged_entries, render
from manager.domain.response.manual_blocks import written
from manager.engine.commands.block_requests import FeedContent, ReadFeed
from manager.engine.commands.requests import ReadOrganizations
from manager.errors import NotFound
from schemas.model import iso

router = APIRouter(tags=["blocks"])

_Format = Annotated[
    FeedFormat,
    Query(alias="format", description="plain: one network in a line; nft: a script; nginx: deny lines; json: records"),
]
_Match = Annotated[str | None, Header(alias="If-None-Match", max_length=1024)]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Networks in the blocklists, without what is never blocked. `ETag` names the content.",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object", "required": ["ok", "data"]}},
        },
    },
    304: {"description": "The content has the entity tag in `If-None-Match`."},
}


@router.get("/api/feeds/blocklist", responses=_ANSWERS)
async def blocklist_feed(
    services: WithServices,
    caller: Feed,
    format_: _Format = FeedFormat.PLAIN,
    organization_id: Organization = None,
    if_none_match: _Match = None,
) -> Response:
    """The addresses that the whole fleet or an organization blocks; with org_id those of that organization.

    The token is a bearer token, or the password of basic authentication.
    """
    organizations = await _organizations(services, caller, organization_id)
    content: FeedContent = await services.engine.submit(ReadFeed(organizations))
    return await services.read(_answer, content, services.clock(), format_, if_none_match)


async def _organizations(services: Services, caller: Caller, organization_id: str | None) -> frozenset[str] | None:
    """Return the organizations of a feed; None for all.

    Raises:
        NotFound: the token is not good for the organization, or nothing names it: an empty feed for a
            misspelled name would empty the firewall that reads it.
    """
    if organization_id is None:
        return caller.organizations
    if not caller.sees(organization_id) or organization_id not in await services.engine.submit(ReadOrganizations()):
        raise NotFound(f"Organization {organization_id} not found")
    return frozenset({organization_id})


def _answer(content: FeedContent, now: float, format_: FeedFormat, if_none_match: str | None) -> Response:
    """Return the feed in a format, or 304; called in a reader thread, because a feed may have thousands of lines."""
    entries = merged_entries(content.shared, content.parts, now)
    if format_ is FeedFormat.JSON:
        records = [{"value": written(entry.network), "expiresAt": _time(entry.expires_at)} for entry in entries]
        answer = ok(records)
    else:
        answer = Response(render(entries, format_), media_type="text/plain")
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if _matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer


def _time(at: float) -> str | None:
    return iso(at) if at < inf else None


def _matches(if_none_match: str | None, tag: str) -> bool:
    """Return whether `If-None-Match` names an entity tag (RFC 9110, section 13.1.2)."""
    given = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    return tag in given or given == ["*"]
