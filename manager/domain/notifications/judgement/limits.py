"""Limit on the number of messages: a sliding window; the last message that it allows is shared by all who wait.

What cannot wait for the window shares further messages at a spacing.
"""

from dataclasses import dataclass, field
from math import inf
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

    def room(self, groups: int, now: float, most: int, window: float, spacing: float = inf) -> Room:
        """Return the messages that `groups` may have now, if at most `most` are allowed in a window of seconds.

        Beyond them one is allowed when the last message is `spacing` seconds ago.
        """
        self.sent = [at for at in self.sent if now - at < window]
        left = most - len(self.sent)
        if groups <= left:
            return Room(groups, shared=False)
        if left <= 0 and now - self.sent[-1] >= spacing:
            return Room(1, shared=False) if groups == 1 else Room(0, shared=True)
        return Room(max(0, left - 1), shared=left > 0)

    def next_at(self, now: float, most: int, window: float, spacing: float = inf) -> float:
        """Return when the next message is allowed."""
        recent = [at for at in self.sent if now - at < window]
        return now if len(recent) < most else max(now, min(recent[-most] + window, recent[-1] + spacing))

    def count(self, messages: int, now: float) -> None:
        """Record messages that are sent now."""
        self.sent += [now] * messages
