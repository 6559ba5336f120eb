"""Event time: the agent's timestamp corrected by the offset of its clock.

An agent's clock offset is the smallest (received - sentAt) since its clock last stepped: the message with the shortest
way is the most exact. A guard sends a heartbeat before it empties its outbox, so the offset is known before old reports
arrive (the contract, section 2, "Event time").
"""

from dataclasses import dataclass

STEP = 2.0
"""Seconds by which sentAt - uptime may move before the agent's clock counts as stepped."""


@dataclass(slots=True)
class ClockOffset:
    """Offset of one agent's clock; kept across sessions and restarts.

    `seconds` is added to the agent's time to get the manager's time; None while it is unknown. `origin` is
    sentAt - uptime, which moves only when the clock steps or the guard restarts.
    """

    seconds: float | None = None
    origin: float | None = None
    session: int = -1

    def observe(self, received: float, sent_at: float, uptime: float, session: int, *, fresh: bool) -> None:
        """Update the offset from a message that carries its sending time.

        Args:
            received: the manager's time.
            sent_at: the agent's time.
            uptime: seconds on the guard's monotonic clock at `sent_at`.
            session: the agent's session; a new one may be a restarted guard, whose uptime starts at zero.
            fresh: whether the message cannot have waited in a broker's queue (a heartbeat cannot, a birth can).
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
            return  # a restarted guard, and a message that may be old: the session's first heartbeat decides
        elif abs(measured - self.seconds) > STEP:
            self.seconds = measured
        else:
            self.seconds = min(self.seconds, measured)
        self.origin, self.session = origin, session

    def event_time(self, timestamp: float, received: float) -> tuple[float, bool]:
        """Return the event time of a report on the manager's clock, and whether the offset is known.

        Never later than `received`. It is `received`, and False, while no offset is known, and where the result would
        lie before 1970, which no correct clock shows.
        """
        if self.seconds is None or timestamp + self.seconds < 0:
            return received, False
        return min(timestamp + self.seconds, received), True
