"""Data types of detection: record, event, finding, verdict. No I/O, no clock.

Origins, records and events are never changed. They are not frozen, because a frozen dataclass takes three times as
long to make, and there is one for each line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

NOTHING_VOUCHED: frozenset[str] = frozenset()
"""The vouched fields of an event whose writer is not proven: none."""

Severity = Literal["low", "medium", "high", "critical"]


@dataclass(slots=True)
class RecordOrigin:
    """The writer of a record: source, process and user; an attribute is None if the source does not know it.

    Attributes:
        source: The name of the source, such as ``journal`` or ``file:/var/log/auth.log``.
        identifier: The syslog identifier (the program name that the writer gave).
        exe: The path of the writer's executable, within the writer's own root directory.
        uid: The writer's user id.
        cgroup: The writer's control group.
        pid: The writer's process id.
    """

    source: str
    identifier: str | None = None
    exe: str | None = None
    uid: int | None = None
    cgroup: str | None = None
    pid: int | None = None


@dataclass(slots=True)
class Record:
    """One record of a source: a line of a log file, or an entry of the journal.

    Attributes:
        text: The line with its header, or the journal's message without one.
        origin: The writer.
        at: Epoch seconds by the source's own clock; None if only the text has a time stamp.
        live: The source was read to its end before this record came, so it was written just now.
        vouched: The source proves the writer (design of the guard, section 1).
        needs_witness: The writer counts as proven only if the kernel confirms that this host answered the address.
        cut: The end of the text is missing, so a parser must not rely on it.
    """

    text: str
    origin: RecordOrigin
    at: float | None = None
    live: bool = False
    vouched: bool = False
    needs_witness: bool = False
    cut: bool = False


class EventKind(StrEnum):
    """The kinds of events that parsers make.

    Each kind's docstring lists its fields; unknown ones are absent. ``sourceIp`` is a normalised address, ``port`` the
    peer's port, ``pid`` the process id of the writer; ``valid_user`` is 0 or 1.
    """

    __hash__ = (
        str.__hash__
    )  # the hash of an enumeration is a slow Python function, and kinds are looked up for every line

    LOGIN_FAILED = "login_failed"
    """sshd refused a credential: user, sourceIp, port, method, valid_user."""

    LOGIN_SUCCEEDED = "login_succeeded"
    """sshd accepted a credential: user, sourceIp, port, method."""

    INVALID_USER = "invalid_user"
    """The client named a user who does not exist: user, sourceIp, port."""

    USER_REFUSED = "user_refused"
    """The client named a user who may not log in by ssh: user, sourceIp, reason."""

    MAX_ATTEMPTS = "max_attempts"
    """A connection used up its authentication attempts: user, sourceIp, port, valid_user."""

    CONNECTION_CLOSED = "connection_closed"
    """A connection ended before authentication: sourceIp, port; user and valid_user where it had named one."""

    SSH_SESSION_ENDED = "ssh_session_ended"
    """The connection of a user who had logged in by ssh ended: user, sourceIp, port."""

    PENALTY = "penalty"
    """sshd dropped a connection of a source that it penalizes (sshd 9.8 and later): sourceIp, port, reason."""

    MAX_STARTUPS = "max_startups"
    """sshd dropped a connection because too many are starting; sourceIp and port where the line names them."""

    BANNER_FAULT = "banner_fault"
    """A peer sent no SSH identification, or a wrong one: sourceIp, port."""

    KEY_EXCHANGE_FAULT = "key_exchange_fault"
    """The key exchange failed: sourceIp, port."""

    AUTH_TIMEOUT = "auth_timeout"
    """A peer did not log in within sshd's LoginGraceTime: sourceIp, port."""

    CONNECTION_REFUSED = "connection_refused"
    """sshd's TCP wrapper refused a peer: sourceIp."""

    SUDO_FAILED = "sudo_failed"
    """A wrong password, or no right to use sudo: user (who invoked it), target_user, reason."""

    SUDO_RUN = "sudo_run"
    """A command ran by sudo: user, target_user."""

    SU_FAILED = "su_failed"
    """A wrong password for su: user, target_user."""

    LOCAL_LOGIN_FAILED = "login_local_failed"
    """A wrong password at a console: user; tty."""

    SESSION_OPENED = "session_opened"
    """PAM opened a session: user, service."""

    SESSION_CLOSED = "session_closed"
    """PAM closed a session: user, service."""


@dataclass(slots=True)
class Event:
    """One event on the host, parsed from one record.

    Attributes:
        at: Epoch seconds.
        kind: The kind; it determines the fields.
        fields: See `EventKind`.
        vouched: The names of the fields whose writer is proven.
        count: The number of occurrences: syslog daemons fold equal messages into one line.
        origin: The writer of the record; None for an event that was read back from the guard's database.
    """

    at: float
    kind: EventKind
    fields: Mapping[str, str | int]
    vouched: frozenset[str] = NOTHING_VOUCHED
    count: int = 1
    origin: RecordOrigin | None = None

    def text(self, name: str) -> str:
        """The text of a field; empty if it is absent."""
        return str(self.fields.get(name, ""))

    def number(self, name: str) -> int | None:
        """The number of a field; None if it is absent or text."""
        value = self.fields.get(name)
        return value if isinstance(value, int) else None


@dataclass(frozen=True, slots=True)
class Finding:
    """The match of a detection rule. Times are epoch seconds of the events.

    Attributes:
        rule_id: The rule, as `docs/detections.md` names it.
        type: The kind of threat.
        severity: low, medium, high or critical.
        confidence: The rule's confidence, 0 to 100; `agent.analyze.analyzer` adjusts it.
        technique: MITRE ATT&CK id.
        count: Events (failures, connections or addresses, by rule) since the attack began.
        first_seen: The time of the first event.
        last_seen: The time of the latest event.
        evidence: Keys as in the contract: `sourceIp`, `targetService`, `user`, `lastLogin`, …; unknown ones are absent.
        target: The key in `evidence` that an automatic action may aim at; None if there is no single culprit.
        vouched: The keys in `evidence` whose writer is proven.
        acquainted: Known users log in from the source, which lowers the confidence.
        throttle: The source should be throttled instead of blocked.
    """

    rule_id: str
    type: str
    severity: Severity
    confidence: int
    technique: str
    count: int
    first_seen: float
    last_seen: float
    evidence: Mapping[str, str | int]
    target: str | None = None
    vouched: frozenset[str] = NOTHING_VOUCHED
    acquainted: bool = False
    throttle: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A detected threat, not yet a report; see `Finding` for the common attributes.

    Attributes:
        confidence: 0 to 100, adjusted by other knowledge of the target.
        detected_at: Epoch seconds of the event that met the rule.
    """

    type: str
    technique: str
    severity: Severity
    confidence: int
    rule_id: str
    count: int
    first_seen: float
    last_seen: float
    detected_at: float
    evidence: Mapping[str, str | int]
    target: str | None = None
    vouched: frozenset[str] = NOTHING_VOUCHED
    throttle: bool = False
