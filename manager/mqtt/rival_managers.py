"""Rule for managers that share a broker by mistake: two fleets, or a copied data directory.

Both would answer the same agents. A manager's presence contains the ids of its store and of its process, and its start
time. The manager that started later does not connect, or disconnects.
"""

import time
from collections.abc import Callable

from manager.engine.batch import Publication
from schemas.decoding import decode
from schemas.errors import SchemaError
from schemas.model import iso
from schemas.presence import ManagerPresence
from schemas.topics import MANAGER_PRESENCE

_BETWEEN_ANSWERS = 1.0


class RivalManagers:
    """Compares the presence of other managers with this one's.

    Args:
        presence: returns this manager's own presence, by state.
        clock: the monotonic clock.
    """

    def __init__(self, presence: Callable[[str], ManagerPresence], clock: Callable[[], float] = time.monotonic) -> None:
        self._presence = presence
        self._own = presence("offline")
        self._clock = clock
        self._next_answer = 0.0

    def publication(self, state: str, *, retained: bool = True) -> Publication:
        """Return this manager's presence as a message."""
        return Publication(MANAGER_PRESENCE.address(), self._presence(state).body(), retained=retained)

    def conflict(self, payload: bytes, *, with_earlier_only: bool = False) -> str | None:
        """Return the conflict with another manager in a presence message; None without one.

        Args:
            payload: the message.
            with_earlier_only: whether managers that started after this one are ignored, because they disconnect.
        """
        other = _read(payload)
        if other is None or other.state != "online" or other.instance in (None, self._own.instance):
            return None
        if with_earlier_only and _order(other) > _order(self._own):
            return None
        return self._sentence(other)

    def wants_answer(self, payload: bytes) -> bool:
        """Return whether this manager, if online, must republish its presence: another manager sent the message.

        At most one message a second is answered.
        """
        presence = _read(payload)
        if presence is None or (presence.instance == self._own.instance and presence.state == "online"):
            return False
        now = self._clock()
        if now < self._next_answer:
            return False
        self._next_answer = now + _BETWEEN_ANSWERS
        return True

    def _sentence(self, other: ManagerPresence) -> str:
        since = iso(other.since.timestamp()) if other.since is not None else "an unknown time"
        if other.store_id == self._own.store_id:
            return (
                f"another manager with a copy of this store ({other.store_id}) has been online at this broker"
                f" since {since}: stop one of the two"
            )
        return (
            f"a manager of another store ({other.store_id}) has been online at this broker since {since}:"
            " give each manager a broker of its own, or stop one of the two"
        )


def _order(presence: ManagerPresence) -> tuple[float, str]:
    """Return the sort key by which both managers agree on the one that stays connected."""
    since = presence.since.timestamp() if presence.since is not None else 0.0
    return since, presence.instance or ""


def _read(payload: bytes) -> ManagerPresence | None:
    try:
        return decode(ManagerPresence, payload, MANAGER_PRESENCE.limit)
    except SchemaError:
        return None
