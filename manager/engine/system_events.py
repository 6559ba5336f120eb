"""System events: trouble of store, broker and certificates, told with the first batch that can be committed."""

from collections import deque
from typing import Any

from manager.domain.instant import Instant
from manager.engine.context import Context
from schemas.model import iso

_MOST = 100


class SystemEvents:
    """Gathers events that happen outside a batch; only the engine's thread uses it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_MOST)
        self._broker_lost = False
        self.store_problem: tuple[str, float] | None = None
        """Why the store cannot commit, and since when, in seconds since 1970; None while it can."""

    def store_failed(self, reason: str, now: Instant) -> None:
        """Tell, once it is over, that the store could not commit, and since when."""
        self.store_problem = reason, now.wall
        self._waiting.append(("store_unavailable", {"reason": reason, "since": iso(now.wall)}))

    def store_works(self) -> None:
        """Tell that the store commits again."""
        self.store_problem = None
        self._waiting.append(("store_available", {}))

    def broker_lost(self) -> None:
        """Tell that the broker is not connected any more."""
        self._broker_lost = True
        self._waiting.append(("broker_unavailable", {"reason": "the connection to the broker ended"}))

    def broker_connected(self) -> None:
        """Tell that the broker is connected again, if it was lost."""
        if self._broker_lost:
            self._broker_lost = False
            self._waiting.append(("broker_available", {}))

    def certificate(self, door: str, expires_at: float, days_left: int | None) -> None:
        """Tell that the certificate of a door expires in some days; with None, that it was replaced."""
        data: dict[str, Any] = {"name": door, "expiresAt": iso(expires_at)}
        if days_left is None:
            self._waiting.append(("certificate_renewed", data))
        else:
            reason = f"the certificate of {door} expires in {days_left} days"
            self._waiting.append(("certificate_expiring", {**data, "daysLeft": days_left, "reason": reason}))

    def tick(self, context: Context, _now: Instant) -> None:
        """Add the gathered events to a batch."""
        while self._waiting:
            name, data = self._waiting.popleft()
            context.batch.event(name, data=data)
