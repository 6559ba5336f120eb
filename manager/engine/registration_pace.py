"""How many registrations a batch may take: as many as the broker is told of without holding up what else it is told."""

from manager.domain.instant import Instant
from manager.engine.ports import Doorkeeper

_UNHURRIED = 1.0
"""Seconds between two registrations while the broker has not caught up with those before."""


class RegistrationPace:
    """Follows the broker.

    Args:
        doorkeeper: knows how many agents more the broker can be told of just now.
        usual: registrations that one batch takes at most.
    """

    def __init__(self, doorkeeper: Doorkeeper, usual: int) -> None:
        self._doorkeeper = doorkeeper
        self._usual = usual
        self._next = 0.0

    @property
    def is_held(self) -> bool:
        """Whether the broker has to catch up first."""
        return self._doorkeeper.room == 0

    def take(self, now: Instant) -> int:
        """Return how many registrations the next batch may have: one now and then while the broker catches up."""
        room = self._doorkeeper.room
        if room != 0:
            return self._usual if room is None else min(room, self._usual)
        if now.monotonic < self._next:
            return 0
        self._next = now.monotonic + _UNHURRIED
        return 1
