"""Rule for managers that share a broker by mistake: two fleets, or a copied data directory.

Both would answer the same agents. A manager's presence contains the ids of its store and of its process, and its start
time. The manager that started later does not connect, or disconnects.

Managers of one database are no rivals: each leadership has an epoch, and the presence of an earlier one is that
of a predecessor. Only a copy of the database shows the own store with the same epoch or a later one.
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
_REMEMBERED = 300.0
"""Seconds for which a manager that was refused is named; it tries again within seconds."""


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
        self._seen: tuple[float, str] | None = None

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
        if self._is_of_own_database(other):
            return None if _epoch(other) < _epoch(self._own) else self._sentence(other)
        if with_earlier_only and _order(other) > _order(self._own):
            return None
        return self._sentence(other)

    def note(self, payload: bytes) -> None:
        """Remember another manager at this broker, by a message that it has sent before it is refused."""
        other = _read(payload)
        if other is None or other.instance in (None, self._own.instance) or self._is_of_own_database(other):
            return
        whose = "with a copy of this store" if other.store_id == self._own.store_id else "of another store"
        sentence = (
            f"a manager {whose} ({other.store_id or 'unknown'}) tries to use this manager's broker, and one of the two"
            " is refused: give each manager a broker of its own, or stop one of them"
        )
        self._seen = self._clock(), sentence

    def warning(self) -> str | None:
        """Return the sentence on another manager that was heard of at this broker in the last minutes."""
        if self._seen is None or self._clock() - self._seen[0] > _REMEMBERED:
            return None
        return self._seen[1]

    def _is_of_own_database(self, other: ManagerPresence) -> bool:
        return other.store_id == self._own.store_id and None not in (other.epoch, self._own.epoch)

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


def _epoch(presence: ManagerPresence) -> int:
    return presence.epoch or 0


def _order(presence: ManagerPresence) -> tuple[float, str]:
    """Return the sort key by which both managers agree on the one that stays connected."""
    since = presence.since.timestamp() if presence.since is not None else 0.0
    return since, presence.instance or ""


def _read(payload: bytes) -> ManagerPresence | None:
    try:
        return decode(ManagerPresence, payload, MANAGER_PRESENCE.limit)
    except SchemaError:
        return None
