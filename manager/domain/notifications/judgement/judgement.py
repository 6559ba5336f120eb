"""Judgement: decides of which events people are told, when, and in how many messages."""

from typing import Any, Self

from manager.domain.notifications.event import Event
from manager.domain.notifications.judgement.absorption import absorb
from manager.domain.notifications.judgement.clock_step import step_back
from manager.domain.notifications.judgement.escalation import escalate, escalation_due
from manager.domain.notifications.judgement.quiet_hours import QuietHours
from manager.domain.notifications.judgement.settings import JudgementSettings
from manager.domain.notifications.judgement.state import JudgementState, dump, load
from manager.domain.notifications.judgement.telling import next_due, tell
from manager.domain.notifications.message import Message


class Judgement:
    """The judgement of one channel that people read: a state machine of events and time.

    It is a function of its state, the events and the times: whoever stores `state()` with the messages in one
    transaction gets the same messages, with the same ids, after a crash. Times are seconds since 1970; where the clock
    steps back, what has happened counts as having happened just now.

    Args:
        settings: the channel's settings.
        state: what it remembers; None for a new channel.
    """

    def __init__(self, settings: JudgementSettings, state: JudgementState | None = None) -> None:
        self._settings = settings
        self._state = JudgementState() if state is None else state
        self._next = 0.0  # no effect of time alone before this; 0 is not calculated

    @classmethod
    def from_state(cls, value: dict[str, Any], settings: JudgementSettings) -> Self:
        """Return the judgement with a state that `state` returned.

        Raises:
            ValueError: it is no state.
        """
        return cls(settings, load(value))

    def state(self) -> dict[str, Any]:
        """Return everything that it remembers as a JSON value."""
        return dump(self._state)

    @property
    def due(self) -> float:
        """When `tick` or `escalations` have something to do next; infinity for never."""
        return min(self._next, escalation_due(self._state, self._settings))

    def take(self, event: Event, now: float, quiet: QuietHours | None = None) -> list[Message]:
        """Take the next event; return the messages that are due.

        Args:
            event: the event.
            now: the time.
            quiet: the quiet hours of the policy that chose the channel for this event; None for none.
        """
        messages = self.tick(now)
        self._state.sequence = event.sequence
        self._next = min(self._next, absorb(self._state, event, now, quiet))
        return messages + self.tick(now)

    def tick(self, now: float) -> list[Message]:
        """Return the messages that are due by time; to be called at `due`, and once all events are taken."""
        self._observe(now)
        if now < self._next:
            return []
        self._state.digest.start(now)
        messages = tell(self._state, self._settings, now)
        self._next = next_due(self._state, self._settings, now)
        return messages

    def escalations(self, now: float) -> list[Message]:
        """Return the messages to the second channel on groups that nobody acknowledged in time."""
        self._observe(now)
        if escalation_due(self._state, self._settings) > now:
            return []
        messages = escalate(self._state, self._settings, now)
        self._next = min(self._next, now)
        return messages

    def _observe(self, now: float) -> None:
        if now < self._state.latest:
            step_back(self._state, now)
            self._next = 0.0
        self._state.latest = now
