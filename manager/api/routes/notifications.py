"""Notification channels: state, history, tests and pauses; acknowledgement and mutes of what people are told."""

import asyncio
import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, StringConstraints

from manager.api.authorization import Admin, Responder, ScopedViewer, Viewer
from manager.api.bodies import read_body
from manager.api.envelope import ANY_LIST, answer, body_of, ok, page, page_of, record
from manager.api.errors import RoleRefused
from manager.api.parameters import Cursor, Limit
from manager.api.services import Services, WithServices
from manager.domain.access import Role
from manager.engine.notifications import (
    AcknowledgeNotifications,
    MuteNotifications,
    PauseNotifications,
    SendTest,
)
from manager.errors import NotFound
from schemas.identifiers import AgentId, OrganizationId
from schemas.limits import MESSAGE_LIMIT
from schemas.model import WireModel, iso

router = APIRouter(tags=["notifications"])

_TEST_WAIT = 12.0
"""Seconds for which a test waits for its delivery."""

_LOOK_EVERY = 0.1
_LONGEST_PAUSE = 30 * 86_400
_Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]

_TESTED = record(channel="string", delivered="boolean", reason="string?")
_PAUSED = record(channel="string", pausedUntil="string?")


class PauseBody(WireModel, extra="forbid"):
    """Body of a pause."""

    seconds: Annotated[float, Field(gt=0, le=_LONGEST_PAUSE)]


class AcknowledgementBody(WireModel, extra="forbid"):
    """Body of an acknowledgement: the group of a message, as the history shows it."""

    group: _Text


class MuteBody(WireModel, extra="forbid"):
    """Body of a mute; it holds for what all its members match. Without a topic, *got in* is still told."""

    seconds: Annotated[float, Field(ge=0, le=_LONGEST_PAUSE, description="0 ends a mute with the same members")]
    organization: OrganizationId | None = None
    site: _Name | None = None
    agent_id: AgentId | None = None
    topic: Literal["got_in", "we_hurt", "waits", "blind", "system", "flapping", "notice"] | None = None
    reason: _Text | None = None


@router.get("/api/notifications", responses=answer("The channels with their state.", ANY_LIST))
async def list_channels(services: WithServices, _caller: Viewer) -> Response:
    """The channels: where they deliver to (without secrets), whether they do, how far they are behind, and mutes."""
    mutes = await services.read(services.queries.mutes, services.clock())
    return ok([{**each, "mutes": mutes if each["judgement"] else []} for each in services.notifications.records()])


@router.get("/api/notifications/mutes", responses=answer("The mutes in force.", ANY_LIST))
async def list_mutes(services: WithServices, caller: ScopedViewer) -> Response:
    """The mutes in force: scope, topic, author, reason and end. They hold for every channel that people read."""
    return ok(await services.read(services.queries.mutes, services.clock(), caller.organizations))


@router.delete("/api/notifications/mutes/{mute_id}", responses=answer("The mute has ended.", record(mutedUntil="null")))
async def unmute(mute_id: str, services: WithServices, caller: Responder) -> Response:
    """End a mute; what stands is told then."""
    mutes = await services.read(services.queries.mutes, services.clock())
    ended = next((each for each in mutes if each["id"] == mute_id), None)
    if ended is None:
        raise NotFound(
            f"no mute {mute_id[:64]!r} is in force; `panguard manager notifications list` shows those that are"
        )
    scope = (ended["organizationId"], ended["site"], ended["agentId"], ended["topic"])
    await services.engine.submit(MuteNotifications(None, caller.name, *scope))
    return ok({"mutedUntil": None})


@router.get("/api/notifications/history", responses=page_of("Messages, newest first."))
async def list_messages(
    services: WithServices,
    _caller: Viewer,
    channel: Annotated[_Name | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Messages to people and messages that failed; those that machines took are only counted."""
    return page(*await services.read(services.queries.notifications, channel=channel, limit=limit, cursor=cursor))


@router.post("/api/notifications/{name}/test", responses=answer("Whether the test was delivered.", _TESTED))
async def send_test(name: str, services: WithServices, caller: Admin) -> Response:
    """Send a test through event table, notifier and channel, and wait for its delivery, at most 12 s."""
    _check_name(services, name)
    test_id = f"test-{secrets.token_hex(8)}"
    await services.engine.submit(SendTest(name, test_id, caller.name))
    loop = asyncio.get_running_loop()
    until = loop.time() + _TEST_WAIT
    while loop.time() < until:
        tried, reason = services.notifications.test_result(name, test_id)
        if tried:
            return ok({"channel": name, "delivered": reason is None, "reason": reason})
        await asyncio.sleep(_LOOK_EVERY)
    return ok({"channel": name, "delivered": False, "reason": _why_it_waits(services, name)})


@router.post(
    "/api/notifications/{name}/pause",
    responses=answer("The pause.", _PAUSED),
    openapi_extra=body_of("PauseBody"),
)
async def pause_channel(name: str, request: Request, services: WithServices, caller: Admin) -> Response:
    """Deliver nothing to a channel for a time; afterwards it gets what it has missed."""
    _check_name(services, name)
    wanted = await read_body(request, PauseBody, MESSAGE_LIMIT)
    return await _pause(services, name, services.clock() + wanted.seconds, caller.name)


@router.delete("/api/notifications/{name}/pause", responses=answer("The channel continues.", _PAUSED))
async def continue_channel(name: str, services: WithServices, caller: Admin) -> Response:
    """End a pause."""
    _check_name(services, name)
    return await _pause(services, name, None, caller.name)


@router.post(
    "/api/notifications/acknowledge",
    responses=answer("The group is acknowledged.", record(group="string")),
    openapi_extra=body_of("AcknowledgementBody"),
)
async def acknowledge(request: Request, services: WithServices, caller: Responder) -> Response:
    """Acknowledge a group of messages, by the id in the history: it is not escalated. 404 for an unknown group."""
    wanted = await read_body(request, AcknowledgementBody, MESSAGE_LIMIT)
    if not await services.read(services.queries.notification_group_is_stored, wanted.group):
        told = f"no message is of the group {wanted.group[:64]!r}"
        raise NotFound(f"{told}; `panguard manager notifications history` lists messages with their groups")
    await services.engine.submit(AcknowledgeNotifications(wanted.group, caller.name))
    return ok({"group": wanted.group})


@router.post(
    "/api/notifications/mute",
    responses=answer("The mute, or its end.", record(mutedUntil="string?")),
    openapi_extra=body_of("MuteBody"),
)
async def mute(request: Request, services: WithServices, caller: Responder) -> Response:
    """Tell people nothing of a site, an organization, an agent or a topic for a time: maintenance.

    A mute of `got_in` needs the role admin.
    """
    wanted = await read_body(request, MuteBody, MESSAGE_LIMIT)
    if wanted.topic == "got_in" and wanted.seconds and not caller.has(Role.ADMIN):
        raise RoleRefused(f"the access token {caller.name} has the role {caller.role}; to mute got_in needs admin")
    until = services.clock() + wanted.seconds if wanted.seconds else None
    await services.engine.submit(
        MuteNotifications(
            until, caller.name, wanted.organization, wanted.site, wanted.agent_id, wanted.topic, wanted.reason
        )
    )
    return ok({"mutedUntil": None if until is None else iso(until)})


async def _pause(services: Services, name: str, until: float | None, author: str) -> Response:
    await services.engine.submit(PauseNotifications(name, until, author))
    services.notifications.pause(name, until)
    return ok({"channel": name, "pausedUntil": None if until is None else iso(until)})


def _check_name(services: Services, name: str) -> None:
    """Refuse a channel that the manager does not have.

    Raises:
        NotFound: there is none with this name.
    """
    if name not in services.channels:
        has = ", ".join(sorted(services.channels)) or "none: define [notifications.NAME] in manager.toml"
        raise NotFound(f"there is no channel {name[:64]!r}; the manager has {has}")


def _why_it_waits(services: Services, name: str) -> str:
    state = next((each for each in services.notifications.records() if each["name"] == name), None)
    if state is None or state["state"] == "ok":
        return "it is not delivered yet"
    if state["state"] == "paused":
        return f"the channel is paused until {state['pausedUntil']}"
    return f"it waits behind others: the channel fails since {state['failingSince']}: {state['reason']}"
