"""Rules for successful ssh logins: after failures, as root by password, and from a new source."""

from typing import NamedTuple, Protocol

from agent.analyze.known_login_sources import Accounts, KnownLoginSources
from agent.detect.address_table import AddressState
from agent.detect.spray import Spray
from agent.detect.ssh_failures import SLOW_WINDOW
from agent.events import Event, Finding, Severity

MANY = 10
"""The number of failures of the source or user within a day from which a login of an unknown pair is critical."""

FEW = 3
"""The number of failures of the source within a day after which a login of a user new to it is critical."""


class LoggedIn(Protocol):
    """Called with each login: source address, user, epoch seconds, and whether the password looks guessed."""

    def __call__(self, address: str, user: str, at: float, *, guessed: bool) -> None:
        """Process one login."""
        ...


class _Rule(NamedTuple):
    rule_id: str
    type: str
    severity: Severity
    confidence: int


_AFTER_MANY = _Rule("sshd-login-after-failures", "login_after_failures", "critical", 90)
_AFTER_FEW = _AFTER_MANY._replace(confidence=75)
_AFTER_MISTAKES = _AFTER_MANY._replace(severity="low", confidence=30)
_ROOT = _Rule("sshd-root-password-login", "root_login", "medium", 50)
_NEW_SOURCE = _Rule("sshd-new-source", "new_source", "low", 40)
_BY_SECRET = ("password", "keyboard-interactive")


class SshLogins:
    """Judges each login by earlier failures and logins.

    - A login by a secret after failures is critical if user and source were not seen together within seven days, and
      the source failed `FEW` times within a day, or the user `MANY` times from anywhere. Else, after any failure of the
      source, it is low. Of a source that several persons log in from only the failures of the user himself count.
      A login after refused keys is not reported.
      Below `MANY` failures of the source itself it is to be throttled, never blocked: anybody can fail as a user from
      elsewhere, and would so have the user's next address blocked.
    - root by a secret, from a source that root was not seen at: medium.
    - A user with sudo who is known, from a source where the user was not seen: low.

    A login clears the failures of its user from its source. A critical login protects nothing and is reported once:
    afterwards the same user from the same source is known.

    Args:
        acquaintances: The known pairs of user and source; each login is added.
        accounts: The accounts of the host.
        spray: The failures by user.
        logged_in: Called with each login.
    """

    def __init__(
        self,
        acquaintances: KnownLoginSources,
        accounts: Accounts,
        spray: Spray,
        logged_in: LoggedIn | None = None,
    ) -> None:
        self._acquaintances = acquaintances
        self._accounts = accounts
        self._spray = spray
        self._logged_in = logged_in

    def observe(self, source: AddressState, event: Event) -> list[Finding]:
        """Judge a successful login; return its findings."""
        user, by_secret = event.text("user"), event.text("method").startswith(_BY_SECRET)
        known = self._acquaintances.knows(user, source.key, event.at)
        found = []
        after = self._after_failures(source, event, user, known=known) if by_secret else None
        if after is not None:
            found.append(after)
        if user == "root" and by_secret and not known:
            found.append(_finding(event, _ROOT))
        if not known and self._accounts.privileged(user) and self._acquaintances.has_logged_in(user, event.at):
            found.append(_finding(event, _NEW_SOURCE))
        critical = after is not None and after.severity == "critical"
        self._remember(source, event, user, critical=critical)
        return found

    def _after_failures(self, source: AddressState, event: Event, user: str, *, known: bool) -> Finding | None:
        failures = [old for old in source.failures if old.guess and 0 <= event.at - old.at <= SLOW_WINDOW]
        if self._acquaintances.shared(source.key, event.at):
            failures = [old for old in failures if old.user == user]
        of_source = sum(old.weight for old in failures)
        if failures and source.attack is not None and len(failures) == len(source.failures):
            of_source = max(of_source, source.attack.count)  # only the latest failures of an attack are kept
        of_user = self._spray.failures_of(user, event.at)
        count = max(of_source, of_user)
        rule = _AFTER_MANY if count >= MANY else _AFTER_FEW
        if known or (of_source < FEW and of_user < MANY):
            if not of_source:
                return None
            rule, count = _AFTER_MISTAKES, of_source
        return _finding(
            event, rule, count, min((old.at for old in failures), default=event.at), throttle=of_source < MANY
        )

    def _remember(self, source: AddressState, event: Event, user: str, *, critical: bool) -> None:
        if source.failures:
            source.failures = [old for old in source.failures if old.user != user]
        self._spray.forgive(user, source.key)
        trusted = self._acquaintances.remember(
            user, source.key, event.at, protects=self._accounts.ordinary(user), trusted=not critical
        )
        if self._logged_in is not None:
            self._logged_in(event.text("sourceIp"), user, event.at, guessed=not trusted)


def _finding(
    event: Event, rule: _Rule, count: int = 1, first_seen: float | None = None, *, throttle: bool = False
) -> Finding:
    return Finding(
        rule_id=rule.rule_id,
        type=rule.type,
        severity=rule.severity,
        confidence=rule.confidence,
        technique="T1078",
        count=count,
        first_seen=event.at if first_seen is None else first_seen,
        last_seen=event.at,
        evidence={
            "sourceIp": event.text("sourceIp"),
            "targetService": "sshd",
            "user": event.text("user"),
            "userExists": True,
            "method": event.text("method"),
        },
        target="sourceIp",
        throttle=throttle,
    )
