"""Console sessions: browsers that are signed in, each standing for the access token that it signed in with."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

SESSION_LIFETIME = 12 * 3600.0
"""Seconds after its opening at which a session ends (wire.md, section 5)."""

SESSION_IDLE = 30 * 60.0
"""Seconds without a request after which a session ends (wire.md, section 5)."""

SESSIONS_OF_TOKEN = 50
"""The maximum number of sessions of one token; another one ends the one that was idle longest."""


@dataclass(slots=True)
class ConsoleSession:
    """One signed-in browser. Times are seconds since 1970.

    `id` is the SHA-256 of its cookie in hexadecimal, `token_digest` that of the text of the token it was opened with.
    """

    id: str
    token_digest: bytes = field(repr=False)
    opened_at: float
    used_at: float

    def is_live(self, now: float) -> bool:
        """Return whether it has neither reached its lifetime nor been idle for too long."""
        return now < self.opened_at + SESSION_LIFETIME and now < self.used_at + SESSION_IDLE

    @property
    def ends_at(self) -> float:
        """When it ends without another request."""
        return min(self.opened_at + SESSION_LIFETIME, self.used_at + SESSION_IDLE)


class ConsoleSessions:
    """All sessions, by id.

    One thread changes it; others may call `find` and `note_use` at the same time.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, ConsoleSession] = {}
        self._written: dict[str, float] = {}

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._by_id)

    def load(self, sessions: Iterable[ConsoleSession]) -> None:
        """Add the stored sessions."""
        for session in sessions:
            self._add(session)

    def open(self, session: ConsoleSession) -> ConsoleSession | None:
        """Add a session; return the one of the same token that it ends, if there are too many."""
        own = [each for each in self._by_id.values() if each.token_digest == session.token_digest]
        ended = min(own, key=lambda each: each.used_at) if len(own) >= SESSIONS_OF_TOKEN else None
        if ended is not None:
            self.close(ended.id)
        self._add(session)
        return ended

    def close(self, session_id: str) -> ConsoleSession | None:
        """End a session and return it; None if there is none."""
        self._written.pop(session_id, None)
        return self._by_id.pop(session_id, None)

    def find(self, session_id: str) -> ConsoleSession | None:
        """Return the session with an id, one that has ended by time too."""
        return self._by_id.get(session_id)

    def note_use(self, session: ConsoleSession, now: float) -> None:
        """Record a request of a session in memory; `used` yields it for the store."""
        session.used_at = max(session.used_at, now)

    def used(self) -> list[ConsoleSession]:
        """Return the sessions that were used since the last call."""
        used = [each for each in self._by_id.values() if each.used_at != self._written[each.id]]
        self._written.update((each.id, each.used_at) for each in used)
        return used

    def __iter__(self) -> Iterator[ConsoleSession]:
        """Iterate over a copy of the sessions."""
        return iter(list(self._by_id.values()))

    def _add(self, session: ConsoleSession) -> None:
        self._written[session.id] = session.used_at
        self._by_id[session.id] = session
