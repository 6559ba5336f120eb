"""The detector of attacks on logins: ssh, sudo, su and the console."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from agent.analyze.known_login_sources import Accounts, KnownLoginSources
from agent.detect.address_table import AddressState, AddressTable, Failure
from agent.detect.local_failures import LocalFailures
from agent.detect.spray import Spray
from agent.detect.ssh_connection import SshConnection
from agent.detect.ssh_failures import WINDOW, SshFailures
from agent.detect.ssh_logins import LoggedIn, SshLogins
from agent.detect.ssh_scans import SshScans
from agent.detect.ssh_sessions import SuspiciousSessions
from agent.events import Event, EventKind, Finding
from agent.parse.addresses import source_of

GRACE = 120.0
"""Seconds that sshd gives a connection to log in (the default of LoginGraceTime)."""

_WAITING = 10_000
_PENALTY_WEIGHT = 2
_USERS_IN_VAIN = 3
_ENDS = 8
_LOCAL = frozenset({EventKind.SUDO_FAILED, EventKind.SU_FAILED, EventKind.LOCAL_LOGIN_FAILED})
_CONTACTS = frozenset(
    {
        EventKind.BANNER_FAULT,
        EventKind.KEY_EXCHANGE_FAULT,
        EventKind.AUTH_TIMEOUT,
        EventKind.MAX_STARTUPS,
        EventKind.CONNECTION_REFUSED,
    }
)
OBSERVED = (
    _LOCAL
    | _CONTACTS
    | {
        EventKind.LOGIN_FAILED,
        EventKind.LOGIN_SUCCEEDED,
        EventKind.INVALID_USER,
        EventKind.USER_REFUSED,
        EventKind.MAX_ATTEMPTS,
        EventKind.CONNECTION_CLOSED,
        EventKind.PENALTY,
        EventKind.SSH_SESSION_ENDED,
    }
)
"""The kinds of events that the detector processes; others are ignored."""


class LoginDetector:
    """Applies all rules about logins, separately to events with a proven writer and to other events.

    So a line that anybody could write neither adds to the failures that sshd itself logged for an address, nor protects
    an address. Findings from proven events are vouched, the others are not.

    Args:
        accounts: The accounts of the host.
        logged_in: Called with each ssh login from a proven event.
    """

    def __init__(self, accounts: Accounts, logged_in: LoggedIn | None = None) -> None:
        self._vouched = _LoginRules(accounts, logged_in)
        self._claimed = _LoginRules(accounts)

    def observe(self, event: Event) -> Sequence[Finding]:
        """Process one event; return the findings of the rules that it meets."""
        if event.kind not in OBSERVED:
            return ()
        if ("user" if event.kind in _LOCAL else "sourceIp") not in event.vouched:
            return self._claimed.observe(event)
        return [_vouch(finding) for finding in self._vouched.observe(event)]

    def finish(self) -> Sequence[Finding]:
        """Count the connections that offered keys and have no logged end."""
        return [*self._claimed.finish(), *map(_vouch, self._vouched.finish())]


class _LoginRules:
    """All login rules with their state, for events with a proven writer or for other events."""

    def __init__(self, accounts: Accounts, logged_in: LoggedIn | None = None) -> None:
        acquaintances = KnownLoginSources()
        self._table = AddressTable()
        self._failures = SshFailures(acquaintances)
        self._spray = Spray(self._table)
        self._logins = SshLogins(acquaintances, accounts, self._spray, logged_in)
        self._sessions = SuspiciousSessions()
        self._contacts = SshScans()
        self._local = LocalFailures(accounts)
        self._waiting: deque[tuple[AddressState, SshConnection, Failure]] = deque()

    def observe(self, event: Event) -> list[Finding]:
        """Process one event; return the findings of the rules that it meets."""
        if event.kind in _LOCAL:
            return self._local.observe(event)
        address = str(event.fields.get("sourceIp", ""))
        if not address:
            return []
        found = self._expire(event.at) if self._waiting else []
        if event.kind is EventKind.SSH_SESSION_ENDED:
            return found + self._sessions.end(event)
        source = self._table.touch(address if ":" not in address else source_of(address))
        if event.kind is EventKind.PENALTY:
            return found + self._penalty(source, event)
        if event.kind in _CONTACTS:
            return found + self._contact(source, event)
        return found + self._connection(source, event)

    def finish(self) -> list[Finding]:
        """Count the connections whose end was not logged."""
        return self._expire(float("inf"))

    def _connection(self, source: AddressState, event: Event) -> list[Finding]:
        """Process an event about a connection that names a user, or about its end."""
        kind, fields = event.kind, event.fields
        port, pid = fields.get("port"), fields.get("pid")
        port, pid = port if isinstance(port, int) else None, pid if isinstance(pid, int) else None
        connection = source.connection(port, pid, event.at)
        if kind is EventKind.LOGIN_SUCCEEDED:
            connection.log_in()
            logins = self._logins.observe(source, event)
            self._sessions.begin(event, critical=any(each.severity == "critical" for each in logins))
            return logins
        before, failure = connection.failures, _failure(event)
        if kind is EventKind.LOGIN_FAILED:
            waited = connection.waits
            connection.refuse(str(event.fields.get("method", "")), event.count, by_pam=port is None)
            if not failure.valid_user:
                connection.name_invalid_user()
            if not waited and connection.waits:
                self._wait(source, connection, failure)
        elif kind is EventKind.INVALID_USER or kind is EventKind.USER_REFUSED:
            connection.name_invalid_user()
        elif kind is EventKind.MAX_ATTEMPTS:
            connection.use_up_attempts()
        elif not connection.logged_in:
            return self._end(source, connection, failure)
        return self._count(source, connection, failure, before)

    def _end(self, source: AddressState, connection: SshConnection, failure: Failure) -> list[Finding]:
        """Process the end of a connection that did not log in."""
        before, ended = connection.failures, connection.ended
        connection.end()
        if failure.user and not failure.valid_user:
            connection.name_invalid_user()
        found = self._count(source, connection, failure, before)
        if ended or not connection.named_valid_user_in_vain:
            return found
        if not connection.contacted:
            connection.contacted = True
            found += self._contacts.observe(source, failure.address, failure.at)
        return found + (self._in_vain(source, failure) if failure.user else [])

    def _in_vain(self, source: AddressState, failure: Failure) -> list[Finding]:
        """Count connections that named a valid user and did not log in; from three such users on they are failures."""
        recent = [end for end in source.ends or () if abs(failure.at - end.at) <= WINDOW]
        ends = source.ends = [*recent[1 - _ENDS :], failure._replace(weight=1)]
        if len({end.user for end in ends}) < _USERS_IN_VAIN:
            return []
        source.ends = [end._replace(weight=0) for end in ends]  # 0: already counted
        return [finding for end in ends if end.weight for finding in self._failed(source, end)]

    def _contact(self, source: AddressState, event: Event) -> list[Finding]:
        """Process a contact that names no user."""
        port, pid = event.number("port"), event.number("pid")
        if port is not None or event.kind is EventKind.AUTH_TIMEOUT:
            connection = source.connection(port, pid, event.at)
            connection.contacted = True
            if event.kind is EventKind.AUTH_TIMEOUT:
                before = connection.failures
                connection.end()
                found = self._count(source, connection, _failure(event), before)
                if connection.failures:
                    return found
        return self._contacts.observe(source, event.text("sourceIp"), event.at, event.count)

    def _penalty(self, source: AddressState, event: Event) -> list[Finding]:
        """Process a penalized source's dropped connection: two failures if it failed before, else one contact."""
        if any(0 <= event.at - old.at <= WINDOW and old.guess for old in source.failures):
            return self._failed(source, _failure(event)._replace(weight=_PENALTY_WEIGHT * event.count))
        return self._contacts.observe(source, event.text("sourceIp"), event.at, event.count)

    def _count(self, source: AddressState, connection: SshConnection, failure: Failure, before: int) -> list[Finding]:
        added = connection.failures - before
        if added <= 0:
            return []
        if added != failure.weight or not connection.guessed:
            failure = failure._replace(weight=added, guess=connection.guessed)
        return self._failed(source, failure)

    def _failed(self, source: AddressState, failure: Failure) -> list[Finding]:
        found = self._failures.observe(source, failure)
        return found + self._spray.observe(source, failure)

    def _wait(self, source: AddressState, connection: SshConnection, failure: Failure) -> None:
        self._waiting.append((source, connection, failure))
        if len(self._waiting) > _WAITING:
            self._waiting.popleft()

    def _expire(self, at: float) -> list[Finding]:
        """Count the connections that offered keys and whose end was not logged within the login grace time."""
        found: list[Finding] = []
        while self._waiting and at - self._waiting[0][2].at > GRACE:
            source, connection, failure = self._waiting.popleft()
            if connection.waits:
                before = connection.failures
                connection.end()
                found += self._count(source, connection, failure, before)
        return found


def _failure(event: Event) -> Failure:
    fields = event.fields
    valid = event.kind is not EventKind.INVALID_USER and fields.get("valid_user", 1) == 1
    return Failure(event.at, event.count, str(fields.get("user", "")), str(fields["sourceIp"]), True, valid)


def _vouch(finding: Finding) -> Finding:
    return replace(finding, vouched=frozenset(finding.evidence))
