"""When a threat really happened: the agent's own time, mended by what is known of its clock.

An agent's clock offset is the smallest (received - sentAt) since its clock last stepped: the message that travelled
fastest says most. A guard sends a heartbeat before it empties its outbox, so the offset is known before old reports
arrive (the contract, section 2, "Event time").
"""

from dataclasses import dataclass

STEP = 2.0
"""Seconds by which sentAt - uptime may move before the clock counts as stepped."""


@dataclass(slots=True)
class ClockOffset:
    """What is known of one agent's clock; kept with the agent across sessions and restarts.

    `seconds` is added to the agent's time to get the manager's; None while nothing is known. `origin` is
    sentAt - uptime, which only moves when the clock steps or the guard starts anew.
    """

    seconds: float | None = None
    origin: float | None = None
    session: int = -1

    def observe(self, received: float, sent_at: float, uptime: float, session: int, *, fresh: bool) -> None:
        """Learn from a message that says when it was sent.

        Args:
            received: the manager's time.
            sent_at: the agent's time.
            uptime: seconds on the guard's monotonic clock at `sent_at`.
            session: the agent's session; a new one may be a restarted guard, whose uptime starts anew.
            fresh: whether it cannot have waited in a broker's queue (a heartbeat cannot, a birth can).
        """
        measured, origin = received - sent_at, sent_at - uptime
        moved = self.origin is None or abs(origin - self.origin) > STEP
        if self.seconds is None:
            self.seconds = measured
        elif not moved:
            self.seconds = min(self.seconds, measured)
        elif session == self.session:
            self.seconds = measured
        elif not fresh:
            self.seconds = min(self.seconds, measured)
            return  # the guard was restarted, and this may be old: the first heartbeat of the session decides
        elif abs(measured - self.seconds) > STEP:
            self.seconds = measured
        else:
            self.seconds = min(self.seconds, measured)
        self.origin, self.session = origin, session

    def event_time(self, timestamp: float, received: float) -> tuple[float, bool]:
        """Return when a report's threat happened, on the manager's clock, and whether that is known.

        Never later than `received`; `received` itself, and False, while no offset is known, and where the agent's words
        come to a time before 1970, of which no clock can be right.
        """
        if self.seconds is None or timestamp + self.seconds < 0:
            return received, False
        return min(timestamp + self.seconds, received), True
