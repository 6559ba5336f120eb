"""Queue of successful logins for the heartbeats: the manager judges blocked addresses by later logins from them."""

from collections import OrderedDict
from dataclasses import dataclass

from agent.logs import EventLog
from schemas.limits import LOGINS_IN_HEARTBEAT
from schemas.model import utc
from schemas.presence import ReportedLogin

_log = EventLog("logins")

REPETITIONS = 3
"""The number of heartbeats that carry each login: a heartbeat may be lost."""

QUEUED = 1_000
_LONGEST_USER = 64

_Key = tuple[str, str, bool]


@dataclass(slots=True)
class _Queued:
    at: float
    left: int


class LoginReports:
    """Keeps the newest login of each address and user until it was in three heartbeats.

    A login that looks guessed is kept apart. A login that no heartbeat has carried goes before all repetitions, the
    newest first. At most 1,000 are queued: beyond that the oldest repetition is left out, and where there is none the
    oldest login, which is counted in `dropped` and logged.
    """

    def __init__(self) -> None:
        self._new: OrderedDict[_Key, _Queued] = OrderedDict()
        self._told: OrderedDict[_Key, _Queued] = OrderedDict()
        self.dropped = 0
        self._logged = 0

    def add(self, address: str, user: str, at: float, *, guessed: bool) -> None:
        """Queue a login.

        Args:
            address: The source.
            user: The user; a name without a character is not reported.
            at: Epoch seconds.
            guessed: The password looks guessed.
        """
        key = (address, user.encode("utf-8", "replace").decode()[:_LONGEST_USER], guessed)
        known = self._new.get(key) or self._told.get(key)
        if not key[1] or (known is not None and at <= known.at):
            return
        self._told.pop(key, None)
        self._new[key] = _Queued(at, REPETITIONS)
        self._new.move_to_end(key)
        if len(self._new) + len(self._told) > QUEUED:
            self.dropped += not self._told
            (self._told or self._new).popitem(last=False)

    def take(self) -> list[ReportedLogin]:
        """Return the logins of the next heartbeat, in order of their time."""
        if self.dropped > self._logged:
            _log.warning("logins_not_reported", count=self.dropped - self._logged, reason=f"more than {QUEUED} wait")
            self._logged = self.dropped
        taken = [self._new.popitem() for _ in range(min(LOGINS_IN_HEARTBEAT, len(self._new)))]
        again = min(LOGINS_IN_HEARTBEAT - len(taken), len(self._told))
        taken += [self._told.popitem(last=False) for _ in range(again)]
        for key, queued in taken:
            queued.left -= 1
            if queued.left:
                self._told[key] = queued
        return [
            ReportedLogin(source_ip=address, user=user, at=utc(queued.at), guessed=guessed)
            for (address, user, guessed), queued in sorted(taken, key=lambda each: each[1].at)
        ]
