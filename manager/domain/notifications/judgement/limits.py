"""Limit on the number of messages: a sliding window; the last message that it allows is shared by all who wait."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Room(NamedTuple):
    """The messages that a number of groups may have now.

    Attributes:
        single: the number of groups with a message of their own.
        shared: whether the others share one message; otherwise they wait.
    """

    single: int
    shared: bool


@dataclass(slots=True)
class MessageLimit:
    """The times of the messages in the window.

    Attributes:
        sent: these times, the oldest first.
    """

    sent: list[float] = field(default_factory=list)

    def room(self, groups: int, now: float, most: int, window: float) -> Room:
        """Return the messages that `groups` may have now, if at most `most` are allowed in a window of seconds."""
        self.sent = [at for at in self.sent if now - at < window]
        left = most - len(self.sent)
        if groups <= left:
            return Room(groups, shared=False)
        return Room(max(0, left - 1), shared=left > 0)

    def next_at(self, now: float, most: int, window: float) -> float:
        """Return when the next message is allowed."""
        recent = [at for at in self.sent if now - at < window]
        return now if len(recent) < most else recent[-most] + window

    def count(self, messages: int, now: float) -> None:
        """Record messages that are sent now."""
        self.sent += [now] * messages
