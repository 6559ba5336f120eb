"""Detects wrong passwords on the host itself: sudo, su and the console."""

from collections import OrderedDict
from dataclasses import dataclass, field

from agent.analyze.known_login_sources import Accounts
from agent.detect.address_table import Tally
from agent.events import Event, EventKind, Finding

THRESHOLD = 5
"""The number of failures of one user within `WINDOW` that counts as an attack."""

WINDOW = 300.0

USERS = 1_000
"""The maximum number of users; the one with the oldest failure is evicted."""

_CONFIDENCE = 70
_CONFIDENCE_FORBIDDEN = 60
_SERVICES = {
    EventKind.SUDO_FAILED: ("sudo", "T1548.003"),
    EventKind.SU_FAILED: ("su", "T1110.001"),
    EventKind.LOCAL_LOGIN_FAILED: ("login", "T1110.001"),
}


@dataclass(slots=True)
class _User:
    recent: list[tuple[float, int]] = field(default_factory=list)
    tally: Tally | None = None
    by_pam: int = 0
    newest: float = float("-inf")


class LocalFailures:
    """Counts wrong passwords by service and by the user who typed them.

    A failure that both PAM and the program log (sudo logs the sum of failures) counts once. A user who may not use sudo
    at all is reported at once.

    Args:
        accounts: The accounts of the host.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._users: OrderedDict[tuple[str, str], _User] = OrderedDict()

    def observe(self, event: Event) -> list[Finding]:
        """Count a failure of sudo, su or a console; return the findings that it completes."""
        if event.text("reason").startswith("user NOT"):
            return [self._finding(event, None)]
        user = self._user((event.kind, event.text("user")), event.at)
        count = self._weight(user, event)
        if not count:
            return []
        user.recent = [(at, weight) for at, weight in user.recent if abs(event.at - at) <= WINDOW]
        user.recent = [*user.recent, (event.at, count)][-THRESHOLD:]
        user.newest = max(user.newest, event.at)
        if user.tally is not None:
            user.tally.add(count, event.at)
        else:
            total = sum(weight for _, weight in user.recent)
            if total < THRESHOLD:
                return []
            user.tally = Tally(THRESHOLD, total, min(at for at, _ in user.recent))
        if not user.tally.due():
            return []
        return [self._finding(event, user.tally)]

    def _user(self, key: tuple[str, str], at: float) -> _User:
        user = self._users.get(key)
        if user is None or abs(at - user.newest) > WINDOW:
            user = self._users[key] = _User(newest=at)
        self._users.move_to_end(key)
        if len(self._users) > USERS:
            self._users.popitem(last=False)
        return user

    @staticmethod
    def _weight(user: _User, event: Event) -> int:
        if "pam" in event.fields:
            user.by_pam += event.count
            return event.count
        counted = min(user.by_pam, event.count)
        user.by_pam -= counted
        return event.count - counted

    def _finding(self, event: Event, tally: Tally | None) -> Finding:
        """Return the finding for many failures; without a tally, the finding for a user who may not use sudo."""
        service, technique = _SERVICES[event.kind]
        evidence: dict[str, str | int] = {"targetService": service}
        for key, name in (("user", event.text("user")), ("targetUser", event.text("target_user"))):
            if name or key == "user":
                evidence[key] = name
                exists = self._accounts.exists(name)
                if exists is not None:
                    evidence[f"{key}Exists"] = exists
        return Finding(
            rule_id="sudo-not-allowed" if tally is None else f"{service}-brute-force",
            type="privilege_misuse" if tally is None else "local_brute_force",
            severity="medium",
            confidence=_CONFIDENCE_FORBIDDEN if tally is None else _CONFIDENCE,
            technique=technique,
            count=event.count if tally is None else tally.count,
            first_seen=event.at if tally is None else tally.first_seen,
            last_seen=event.at,
            evidence=evidence,
        )
