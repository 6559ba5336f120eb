"""Queue of successful logins for the heartbeats: the manager judges blocked addresses by later logins from them."""

from collections import OrderedDict
from dataclasses import dataclass

from schemas.model import utc
from schemas.presence import ReportedLogin

REPETITIONS = 3
"""The number of heartbeats that carry each login: a heartbeat may be lost."""

IN_HEARTBEAT = 16
QUEUED = 1_000
_LONGEST_USER = 64


@dataclass(slots=True)
class _Queued:
    at: float
    left: int


class LoginReports:
    """Keeps the newest login of each address and user until it was in three heartbeats.

    A login that looks guessed is kept apart. At most 1,000 are queued; the oldest is dropped and counted in `dropped`.
    """

    def __init__(self) -> None:
        self._queued: OrderedDict[tuple[str, str, bool], _Queued] = OrderedDict()
        self.dropped = 0

    def add(self, address: str, user: str, at: float, *, guessed: bool) -> None:
        """Queue a login.

        Args:
            address: The source.
            user: The user; a name without a character is not reported.
            at: Epoch seconds.
            guessed: The password looks guessed.
        """
        key = (address, user.encode("utf-8", "replace").decode()[:_LONGEST_USER], guessed)
        known = self._queued.get(key)
        if not key[1] or (known is not None and at <= known.at):
            return
        self._queued[key] = _Queued(at, REPETITIONS)
        self._queued.move_to_end(key)
        if len(self._queued) > QUEUED:
            self._queued.popitem(last=False)
            self.dropped += 1

    def take(self) -> list[ReportedLogin]:
        """Return the logins of the next heartbeat, the first queued first."""
        taken = []
        for key in list(self._queued)[:IN_HEARTBEAT]:
            queued = self._queued[key]
            queued.left -= 1
            if not queued.left:
                del self._queued[key]
            taken.append(ReportedLogin(source_ip=key[0], user=key[1], at=utc(queued.at), guessed=key[2]))
        return taken
