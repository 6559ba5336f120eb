"""Selection of a channel's messages: for machines each event, for people those of a judgement."""

import json
from typing import NamedTuple, Protocol

import structlog

from manager.domain.notifications.event import Event
from manager.domain.notifications.judgement import ALWAYS_TAKEN, Judgement, JudgementSettings
from manager.domain.notifications.message import Message
from manager.notifications.told_events import ChosenEvent, event_message, message_of_test

log = structlog.get_logger(__name__)

_TO_ALL = frozenset({"notification_acknowledged", "notifications_muted", "notifications_unmuted"})
"""Events by which people steer the judgement: every judged channel takes them, whatever its policy names."""


class Selected(NamedTuple):
    """A message, and the sequence of the event up to which the channel has then taken all events.

    `second` is the channel that it goes to, where that is another one.
    """

    message: Message
    sequence: int
    second: str | None = None


class Selection(Protocol):
    """Chooses the messages of one channel."""

    def take(self, chosen: ChosenEvent, now: float) -> list[Selected]:
        """Return the messages that are due after the next event."""
        ...

    def tick(self, sequence: int, now: float) -> list[Selected]:
        """Return the messages that are due by time, once all events up to a sequence are taken."""
        ...

    @property
    def due(self) -> float:
        """When `tick` has something to do next; infinity for never."""
        ...

    @property
    def is_judged(self) -> bool:
        """Whether its messages come of a state, with which they must be stored before they are delivered."""
        ...

    def state(self) -> str | None:
        """Return what must be stored with the cursor, as JSON; None for nothing."""
        ...


class EachEvent:
    """Every event that the policy chooses, at once: for machines.

    Args:
        channel: the channel's name.
    """

    due = float("inf")
    is_judged = False

    def __init__(self, channel: str) -> None:
        self._channel = channel

    def take(self, chosen: ChosenEvent, now: float) -> list[Selected]:
        """Return the message on an event, if it was chosen."""
        del now
        event = chosen.event
        wanted = is_own_test(event, self._channel)
        if wanted is None:
            wanted = self._channel in chosen.channels and chosen.severe
        return [Selected(event_message(event), event.sequence)] if wanted else []

    def tick(self, sequence: int, now: float) -> list[Selected]:
        """Return nothing: nothing is due by time alone."""
        del sequence, now
        return []

    def state(self) -> None:
        """Return None: it remembers nothing."""


class Judged:
    """The messages of a judgement: for people.

    Args:
        channel: the channel's name.
        settings: those of the judgement.
        second: the channel of escalations.
        state: the stored state; None for a new channel.
    """

    is_judged = True

    def __init__(
        self, channel: str, settings: JudgementSettings, second: str | None = None, state: str | None = None
    ) -> None:
        self._channel = channel
        self._second = second
        self._judgement = _judgement(channel, settings, state)

    def take(self, chosen: ChosenEvent, now: float) -> list[Selected]:
        """Return the messages that are due after an event that the policy chose, or that ends what it chose."""
        event = chosen.event
        own_test = is_own_test(event, self._channel)
        if own_test is not None:
            return [Selected(message_of_test(event), event.sequence)] if own_test else []
        wanted = self._channel in chosen.channels and (chosen.severe or event.name in ALWAYS_TAKEN)
        if not wanted and event.name not in _TO_ALL:
            return []
        messages = self._judgement.take(event, now, chosen.quiet)
        return [Selected(message, event.sequence) for message in messages]

    def tick(self, sequence: int, now: float) -> list[Selected]:
        """Return the messages that are due by time, and the escalations to the second channel."""
        due = [Selected(message, sequence) for message in self._judgement.tick(now)]
        if self._second is not None:
            due += [Selected(message, sequence, self._second) for message in self._judgement.escalations(now)]
        return due

    @property
    def due(self) -> float:
        """When `tick` has something to do next; infinity for never."""
        return self._judgement.due

    def state(self) -> str:
        """Return the judgement's state as JSON."""
        return json.dumps(self._judgement.state(), ensure_ascii=False, separators=(",", ":"))


def _judgement(channel: str, settings: JudgementSettings, state: str | None) -> Judgement:
    """Return the judgement with a stored state; a new one where the state is damaged."""
    if state is None:
        return Judgement(settings)
    try:
        return Judgement.from_state(json.loads(state), settings)
    except (ValueError, RecursionError):
        log.error("judgement_begins_anew", channel=channel)  # noqa: TRY400 -- the state may hold anything
        return Judgement(settings)


def is_own_test(event: Event, channel: str) -> bool | None:
    """Return whether an event is a test of a channel, or the state of the channel itself; None for other events.

    A channel is not told of its own failures: the others are.
    """
    if event.name == "notification_test":
        return event.data.get("channel") == channel
    if event.name in {"channel_failing", "channel_recovered"} and event.data.get("channel") == channel:
        return False
    return None
