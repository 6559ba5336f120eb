"""The manager's time as its messages show it, so that a block's end does not depend on this host's wall clock."""

from datetime import datetime

from agent.clock import Clock


class ManagerTime:
    """The largest (`sentAt` - own monotonic clock) over the manager's verified messages.

    A message that was delayed, or retained by the broker, can only show an earlier time than a prompt one, and the
    largest difference counts. A block's rest is so never shorter than signed, and at most longer by the shortest delay.
    A message of a greater number that was sent at an earlier time shows that the manager's clock was set back: what
    was learned before does not count any more.

    Args:
        clock: The host's clocks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset: float | None = None
        self.latest = float("-inf")
        """The latest `sentAt`, in epoch seconds."""

        self._numbered: dict[str, tuple[int, float]] = {}

    def observe(self, sent_at: datetime | None, series: str = "", number: int = 0) -> None:
        """Learn from a verified message; managers before 0.3 send no `sentAt`.

        Args:
            sent_at: The time of sending by the manager's clock.
            series: The kind of message, such as `policy`, whose numbers rise; empty for one without numbers.
            number: Its number.
        """
        if sent_at is None:
            return
        moment = sent_at.timestamp()
        if series:
            greatest, at = self._numbered.get(series, (number, moment))
            if number > greatest and moment < at:
                self._offset, self.latest = None, float("-inf")
            if number >= greatest:
                self._numbered[series] = number, moment
        self.latest = max(self.latest, moment)
        offset = moment - self._clock.monotonic()
        self._offset = offset if self._offset is None else max(offset, self._offset)

    @property
    def known(self) -> float | None:
        """The manager's time now in epoch seconds; None before its first message."""
        return None if self._offset is None else self._clock.monotonic() + self._offset

    def latest_now(self) -> float:
        """Return the later of the manager's time and this host's wall clock: the one by which signing keys end."""
        return max(self._clock.wall(), self.known or 0.0)

    def now(self) -> float:
        """Return the manager's time; this host's wall clock before its first message."""
        known = self.known
        return self._clock.wall() if known is None else known
