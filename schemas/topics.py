"""Topic table: publisher, readers, QoS, retain flag, code and model of every topic.

Subscriptions, the access lists of every broker, the decoders, and the generated reference are derived from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from schemas import limits
from schemas.blocklist import BlocklistChange, BlocklistSnapshot
from schemas.errors import TopicError
from schemas.fleet import FleetEvent
from schemas.identifiers import is_identifier
from schemas.model import WireModel
from schemas.policy import Policy, PolicyApplied
from schemas.presence import Heartbeat, ManagerKeys, ManagerPresence, Presence
from schemas.registration import Registration, RegistrationReply, Rejection
from schemas.threats import Receipt, ThreatReport, ThreatReportBatch

ROOT = "panguard/v1"
PREFIX = ROOT + "/"
MAX_TOPIC_LENGTH = 256


class Role(StrEnum):
    """Role of a client at a broker."""

    MANAGER = "manager"
    AGENT = "agent"
    REGISTERING = "registration"
    OBSERVER = "observer"


Code = Literal["mac", "proof", "signature", "none"]
Action = Literal["publish", "subscribe", "receive"]


@dataclass(frozen=True, slots=True, eq=False)
class Topic:
    """One row of the table, compared by identity. `pattern` is relative to the root and has at most one placeholder."""

    name: str
    pattern: str
    publisher: Role
    readers: frozenset[Role]
    qos: Literal[0, 1]
    retained: bool
    code: Code
    models: tuple[type[WireModel], ...]
    limit: int = limits.MESSAGE_LIMIT

    @property
    def placeholder(self) -> str | None:
        """The name of the id in the pattern, such as ``agentId``."""
        return self.pattern.partition("{")[2].partition("}")[0] or None

    def below_root(self, identifier: str | None = None) -> str:
        """Return the topic below the root, the form that message codes cover.

        Raises:
            TopicError: the id is missing or outside its grammar.
        """
        kind = self.placeholder
        if kind is None:
            return self.pattern
        if identifier is None or not is_identifier(kind, identifier):
            raise TopicError(f"{self.name} needs a {kind} of its grammar in its topic")
        return self.pattern.replace("{" + kind + "}", identifier)

    def address(self, identifier: str | None = None) -> str:
        """Return the full topic.

        Raises:
            TopicError: the id is missing or outside its grammar.
        """
        return PREFIX + self.below_root(identifier)

    @property
    def filter(self) -> str:
        """The filter that matches this topic for all ids."""
        kind = self.placeholder
        return PREFIX + (self.pattern if kind is None else self.pattern.replace("{" + kind + "}", "+"))


_M, _A, _R, _O = Role.MANAGER, Role.AGENT, Role.REGISTERING, Role.OBSERVER
_TO_ALL = frozenset({_M, _A, _R, _O})
_TO_MANAGER = frozenset({_M, _O})
_TO_AGENT = frozenset({_A, _O})

MANAGER_PRESENCE = Topic("manager_presence", "manager/presence", _M, _TO_ALL, 1, True, "none", (ManagerPresence,))
MANAGER_KEYS = Topic("manager_keys", "manager/keys", _M, _TO_ALL, 1, True, "signature", (ManagerKeys,))
REGISTRATION = Topic("registration", "registration/{clientId}", _R, frozenset({_M}), 1, False, "proof", (Registration,))
REGISTRATION_REPLY = Topic(
    "registration_reply",
    "registration/{clientId}/reply",
    _M,
    frozenset({_R}),
    1,
    False,
    "signature",
    (RegistrationReply, Rejection),
)
PRESENCE = Topic("presence", "agents/{agentId}/presence", _A, frozenset({_M, _A, _O}), 1, True, "mac", (Presence,))
HEARTBEAT = Topic("heartbeat", "agents/{agentId}/heartbeat", _A, _TO_MANAGER, 0, False, "mac", (Heartbeat,))
THREATS = Topic(
    "threats",
    "agents/{agentId}/threats",
    _A,
    _TO_MANAGER,
    1,
    False,
    "mac",
    (ThreatReport, ThreatReportBatch),
    limits.THREAT_LIMIT,
)
RECEIPTS = Topic("receipts", "agents/{agentId}/receipts", _M, _TO_AGENT, 1, False, "mac", (Receipt,))
POLICY = Topic("policy", "agents/{agentId}/policy", _M, _TO_AGENT, 1, True, "signature", (Policy,), limits.POLICY_LIMIT)
POLICY_APPLIED = Topic(
    "policy_applied", "agents/{agentId}/policy/applied", _A, _TO_MANAGER, 1, False, "mac", (PolicyApplied,)
)
BLOCKLIST = Topic(
    "blocklist",
    "organizations/{organizationId}/blocklist",
    _M,
    _TO_AGENT,
    1,
    True,
    "signature",
    (BlocklistSnapshot,),
    limits.BLOCKLIST_LIMIT,
)
BLOCKLIST_CHANGES = Topic(
    "blocklist_changes",
    "organizations/{organizationId}/blocklist/changes",
    _M,
    _TO_AGENT,
    1,
    False,
    "signature",
    (BlocklistChange,),
    limits.POLICY_LIMIT,
)
FLEET = Topic("fleet", "fleet/{event}", _M, _TO_MANAGER, 0, False, "none", (FleetEvent,))

TABLE = (
    MANAGER_PRESENCE,
    MANAGER_KEYS,
    REGISTRATION,
    REGISTRATION_REPLY,
    PRESENCE,
    HEARTBEAT,
    THREATS,
    RECEIPTS,
    POLICY,
    POLICY_APPLIED,
    BLOCKLIST,
    BLOCKLIST_CHANGES,
    FLEET,
)

_BY_SHAPE: dict[tuple[str, str, str, int], Topic] = {}
for _row in TABLE:
    _levels = _row.pattern.split("/")
    _BY_SHAPE[_levels[0], "" if _row.placeholder else _levels[1], "/".join(_levels[2:]), len(_levels)] = _row


def resolve(topic: str) -> tuple[Topic, str | None]:
    """Return the row of a full topic and the id in it.

    Raises:
        TopicError: the topic is not in the table, or an id in it is outside its grammar.
    """
    levels = topic.split("/", 6) if len(topic) <= MAX_TOPIC_LENGTH and topic.startswith(PREFIX) else []
    count = len(levels) - 2
    if count >= 2:  # noqa: PLR2004 -- every topic has two levels or more below the root
        tail = "/".join(levels[4:])
        row = _BY_SHAPE.get((levels[2], "", tail, count)) or _BY_SHAPE.get((levels[2], levels[3], tail, count))
        if row is not None:
            kind = row.placeholder
            if kind is None:
                return row, None
            if is_identifier(kind, levels[3]):
                return row, levels[3]
    raise TopicError("no topic of the table")


@dataclass(frozen=True, slots=True)
class Principal:
    """A connected client: its role, and its ids by placeholder name."""

    role: Role
    identifiers: Mapping[str, str]


def _speaks_for(principal: Principal, row: Topic, identifier: str | None) -> bool:
    kind = row.placeholder
    return (
        kind is None
        or principal.role in (Role.MANAGER, Role.OBSERVER)
        or (principal.identifiers.get(kind) == identifier)
    )


def may(principal: Principal, action: Action, topic: str) -> bool:
    """Return whether `principal` may publish to, or receive from, a topic, or subscribe to a filter."""
    if action == "subscribe":
        return topic in set(filters(principal)) or (principal.role is Role.OBSERVER and _observable(topic))
    try:
        row, identifier = resolve(topic)
    except TopicError:
        return False
    if action == "receive":
        return principal.role in row.readers and _speaks_for(principal, row, identifier)
    clears = principal.role is Role.MANAGER and is_cleared(row)
    allowed = row.publisher is principal.role or clears
    return allowed and _speaks_for(principal, row, identifier)


def is_cleared(row: Topic) -> bool:
    """Return whether the manager clears other publishers' retained messages on this topic.

    A removed agent leaves its retained messages; a registering client, which is unknown afterwards, may leave one at a
    broker that cannot forbid the retain flag.
    """
    return row.retained or row.publisher is Role.REGISTERING


def _observable(topic: str) -> bool:
    """Return whether an observer's filter stays within the root and outside `registration`."""
    return topic.startswith(PREFIX) and topic.removeprefix(PREFIX).split("/")[0] != "registration"


def may_retain(topic: str) -> bool:
    """Return whether messages of this topic may be retained; other topics reject the retain flag."""
    try:
        return resolve(topic)[0].retained
    except TopicError:
        return False


def filters(principal: Principal) -> Iterator[str]:
    """Yield the filters that a principal may subscribe to, derived from its role and ids."""
    if principal.role is not Role.MANAGER:
        yield PREFIX + "manager/+"
    if principal.role is Role.OBSERVER:
        yield PREFIX + "#"
    for row in TABLE:
        if principal.role not in row.readers:
            continue
        kind = row.placeholder
        if kind is None or principal.role in (Role.MANAGER, Role.OBSERVER):
            yield row.filter
        elif is_identifier(kind, principal.identifiers.get(kind, "")):
            yield row.address(principal.identifiers[kind])
