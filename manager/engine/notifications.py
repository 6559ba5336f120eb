"""Rows of the notification tables, and the commands of the notifier that write them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Delivery(StrEnum):
    """The state of a message to a channel."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    GIVEN_UP = "given_up"


class ChannelCursor(NamedTuple):
    """The position of a channel in the event table.

    Attributes:
        channel: The channel's name.
        sequence: The sequence of the last event that it has taken.
        judgement: The state of its judgement as JSON; None for a channel without one.
        sent: The number of messages that were delivered.
        given_up: The number of messages that were given up.
        not_told: The number of events that were deleted before the channel had taken them.
        last_sent_at: When a message was last delivered, in seconds since 1970.
    """

    channel: str
    sequence: int
    judgement: str | None = None
    sent: int = 0
    given_up: int = 0
    not_told: int = 0
    last_sent_at: float | None = None


class StoredCursor(NamedTuple):
    """A channel's cursor, and the time until which it is paused, in seconds since 1970."""

    cursor: ChannelCursor
    paused_until: float | None


class NotificationRow(NamedTuple):
    """A message to a channel as it is stored; `content` is the message as JSON, times are seconds since 1970.

    `failed` are messages that the receiver refused for good, `given_up` those that were tried for too long.
    """

    channel: str
    message_id: str
    group_id: str
    state: Delivery
    attempts: int
    created_at: float
    next_at: float
    sent_at: float | None
    reason: str | None
    content: str


class ToldEvent(NamedTuple):
    """A stored event with the channels that were chosen for it; `alerting` and `document` are JSON."""

    sequence: int
    at: float
    name: str
    severity: str
    organization_id: str | None
    site: str | None
    alerting: str | None
    document: str


@dataclass(frozen=True, slots=True)
class RecordNotifications:
    """Write a channel's cursor and messages in one transaction. A message that is stored already is replaced."""

    cursor: ChannelCursor
    rows: tuple[NotificationRow, ...] = ()


@dataclass(frozen=True, slots=True)
class PauseNotifications:
    """Deliver nothing to a channel until a time, in seconds since 1970; None continues. Answered by the time."""

    channel: str
    until: float | None
    author: str


@dataclass(frozen=True, slots=True)
class SendTest:
    """Store an event that is told to one channel alone. Answered by None."""

    channel: str
    test_id: str
    author: str | None = None


@dataclass(frozen=True, slots=True)
class TellChannelState:
    """Store an event on a channel that fails (with the reason), or that delivers again (reason None)."""

    channel: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AcknowledgeNotifications:
    """Acknowledge a group of messages. Answered by the group."""

    group: str
    author: str


@dataclass(frozen=True, slots=True)
class MuteNotifications:
    """Tell people nothing of what all given members match until a time, in seconds since 1970; None ends the mute."""

    until: float | None
    author: str
    organization_id: str | None = None
    site: str | None = None
    agent_id: str | None = None
    topic: str | None = None
    reason: str | None = None
