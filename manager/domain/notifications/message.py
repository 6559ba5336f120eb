"""Messages that channels deliver: parts of plain text and of quoted text from outside, before any channel's dialect."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from manager.domain.notifications.event import Event
from schemas.threats import Severity

MOST_LINES = 10
"""The maximum number of lines of a message."""


class Plain(NamedTuple):
    """Text of the manager's own."""

    text: str


class Quoted(NamedTuple):
    """Text from outside, such as a user name: a channel shows it as code, cut and without controls or markup."""

    text: str


Part: TypeAlias = Plain | Quoted
Line: TypeAlias = tuple[Part, ...]


class Change(StrEnum):
    """The change of a group that a message tells."""

    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"
    DIGEST = "digest"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one channel.

    Attributes:
        id: Stable over repeated deliveries: the CloudEvents id, and part of the Message-ID of a mail.
        group: The group that the message belongs to, such as one incident; messages of one group form a thread.
        change: The change of the group.
        severity: The severity of the newest event of the group.
        title: The first line.
        lines: The lines below it, at most `MOST_LINES` together with the title.
        at: When the newest of its events happened, in seconds since 1970.
        organization_id: The organization that it is about; None for all.
        command: The command that undoes or acts, or None.
        link: The address of a page, which changes nothing when it is opened, or None.
        event: The event, in a message to a channel for machines.
    """

    id: str
    group: str
    change: Change
    severity: Severity
    title: Line
    lines: tuple[Line, ...] = ()
    at: float = 0.0
    organization_id: str | None = None
    command: str | None = None
    link: str | None = None
    event: Event | None = None
