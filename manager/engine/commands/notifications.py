"""Commands of the notifier and of people on notifications."""

from typing import Any

from manager.engine.commands.audit import add_entry
from manager.engine.context import Context
from manager.engine.notifications import (
    AcknowledgeNotifications,
    MuteNotifications,
    PauseNotifications,
    RecordNotifications,
    SendTest,
    TellChannelState,
)


def record_notifications(context: Context, request: RecordNotifications) -> None:
    """Write a channel's cursor and messages with this batch."""
    context.batch.changes.notifications.append(request)


def pause_notifications(context: Context, request: PauseNotifications) -> float | None:
    """Write until when a channel is paused."""
    changes = context.batch.changes
    changes.notifications_paused[request.channel] = request.until
    after = {"until": request.until}
    add_entry(context, context.origin, "notifications.pause", request.channel, before=None, after=after)
    return request.until


def tell_test(context: Context, request: SendTest) -> None:
    """Store a test event for one channel; of a person's test there is an audit entry."""
    context.batch.event("notification_test", data={"channel": request.channel, "testId": request.test_id})
    if request.author is not None:
        add_entry(context, context.origin, "notifications.test", request.channel, before=None, after=None)


def acknowledge_notifications(context: Context, request: AcknowledgeNotifications) -> str:
    """Store the event that a person acknowledged a group of messages."""
    context.batch.event("notification_acknowledged", data={"group": request.group, "author": request.author})
    add_entry(context, context.origin, "notifications.acknowledge", request.group, before=None, after=None)
    return request.group


def mute_notifications(context: Context, request: MuteNotifications) -> float | None:
    """Write a mute, or its end, with the event on it."""
    context.batch.changes.mutes.append((request, context.batch.now.wall))
    members = {"site": request.site, "agentId": request.agent_id, "topic": request.topic, "reason": request.reason}
    data: dict[str, Any] = {name: value for name, value in members.items() if value is not None}
    data["author"] = request.author
    organization = request.organization_id
    if request.until is None:
        context.batch.event("notifications_unmuted", data=data, organization_id=organization)
    else:
        data["until"] = request.until
        context.batch.event("notifications_muted", data=data, organization_id=organization)
    after = {**data, "organizationId": organization}
    target = request.agent_id or request.site or organization or "fleet"
    add_entry(context, context.origin, "notifications.mute", target, before=None, after=after)
    return request.until


def tell_channel_state(context: Context, request: TellChannelState) -> None:
    """Store the event that a channel fails, or delivers again."""
    data = {"channel": request.channel}
    if request.reason is None:
        context.batch.event("channel_recovered", data=data)
    else:
        context.batch.event("channel_failing", data={**data, "reason": request.reason})
