"""Stored events as the notifier reads them, and the alerting that was chosen for each."""

import json
from dataclasses import dataclass
from typing import Any

import structlog

from manager.domain.notifications.event import Event
from manager.domain.notifications.judgement import QuietHours
from manager.domain.notifications.message import Change, Message, Plain, Quoted
from manager.engine.notifications import ToldEvent
from schemas.model import iso
from schemas.threats import Severity

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChosenEvent:
    """An event, the channels that the policy chose for it, and the quiet hours of that policy.

    Attributes:
        event: The event.
        channels: The names of the channels.
        severe: Whether it reaches the minimum severity.
        quiet: The quiet hours; None for none.
    """

    event: Event
    channels: frozenset[str] = frozenset()
    severe: bool = False
    quiet: QuietHours | None = None


def chosen_event(row: ToldEvent) -> ChosenEvent:
    """Return the event of a row of the event table; of a damaged row what can be read."""
    try:
        return _chosen_event(row)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        log.error("event_unreadable", sequence=row.sequence)  # noqa: TRY400 -- the row may hold anything
        return ChosenEvent(Event(row.sequence, row.at, row.name, Severity.LOW))


def _chosen_event(row: ToldEvent) -> ChosenEvent:
    document = json.loads(row.document)
    event = Event(
        row.sequence,
        row.at,
        row.name,
        Severity(row.severity),
        row.organization_id,
        _text(document.get("agentId")),
        _text(document.get("hostname")),
        row.site,
        dict(document.get("data") or {}),
    )
    if row.alerting is None:
        return ChosenEvent(event)
    alerting = json.loads(row.alerting)
    quiet = _quiet(alerting.get("quietHours"))
    return ChosenEvent(event, frozenset(alerting["channels"]), alerting["severe"] is True, quiet)


def event_message(event: Event) -> Message:
    """Return the message to a channel for machines on one event; its id is the event's for good."""
    return Message(
        id=f"event-{event.sequence}-{round(event.at * 1000):x}",
        group=event.name,
        change=Change.TEST if event.name == "notification_test" else Change.OPENED,
        severity=event.severity,
        title=(Plain(event.name.replace("_", " ")),),
        at=event.at,
        organization_id=event.organization_id,
        event=event,
    )


def message_of_test(event: Event) -> Message:
    """Return the message to a channel for people on a test event."""
    return Message(
        id=f"test-{event.sequence}-{round(event.at * 1000):x}",
        group="test",
        change=Change.TEST,
        severity=event.severity,
        title=(Plain("Test: notifications to this channel work"),),
        lines=((Plain("Nothing happened. This message went through the event table, the notifier and the channel."),),),
        at=event.at,
    )


def dropped_message(event: Event, after: int, *, for_machines: bool) -> Message:
    """Return the message on events after a sequence that were deleted before a channel had read them."""
    return Message(
        id=f"dropped-{after}",
        group=event.name,
        change=Change.OPENED,
        severity=event.severity,
        title=(Plain(f"{event.data['count']} events not told"),),
        lines=((Plain("They were deleted before this channel had read them: it was gone for too long."),),),
        at=event.at,
        event=event if for_machines else None,
    )


def store_message(reason: str, since: float) -> Message:
    """Return the message to people on a store that cannot commit: it cannot pass through the event table."""
    return Message(
        id=f"store-{round(since * 1000):x}",
        group="store",
        change=Change.OPENED,
        severity=Severity.CRITICAL,
        title=(Plain("The manager's store cannot commit"),),
        lines=(
            (Plain(f"Since {iso(since)}: "), Quoted(reason)),
            (Plain("Guards keep their reports and go on; nothing new is recorded, and no other message is sent."),),
        ),
        at=since,
        command="panguard manager now",
    )


def _text(value: Any) -> str | None:
    """Return a text, None for anything else: ids are members of sets, and a name is joined to others."""
    return value if isinstance(value, str) else None


def _quiet(value: Any) -> QuietHours | None:
    if value is None:
        return None
    try:
        return QuietHours(_minute(value["start"]), _minute(value["end"]), value["timeZone"])
    except ValueError:  # a zone that this host does not know any more
        return None


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
