"""Subscriptions of a fleet's managers, and topics between them, to which agents have no access."""

from collections.abc import Sequence
from typing import TypeAlias

from schemas.errors import TopicError
from schemas.identifiers import is_identifier
from schemas.limits import KIB
from schemas.topics import HEARTBEAT, PREFIX, TABLE, THREATS, Role, Topic, resolve

WORKER_LIFE = Topic(
    "worker_life",
    "ingest/{clientId}/life",
    Role.MANAGER,
    frozenset({Role.MANAGER}),
    0,
    False,
    "mac",
    (),
    256 * KIB,
)
"""The heartbeats that an ingest worker has verified, gathered for the leader."""

Filters: TypeAlias = Sequence[tuple[str, int]]
"""Topic filters, each with the QoS of its subscription."""

ALL: Filters = [(row.filter, row.qos) for row in TABLE if Role.MANAGER in row.readers and row.publisher != Role.MANAGER]
"""The subscriptions of the only manager: every topic on which other clients publish for the manager."""

_SPLIT = [(row.filter, row.qos) for row in (THREATS, HEARTBEAT)]

OF_THE_LEADER: Filters = [*(each for each in ALL if each not in _SPLIT), (WORKER_LIFE.filter, WORKER_LIFE.qos)]
"""The subscriptions that the leader has beside those of an ingest process."""

SHARED_BY_ANY = [f"$share/+/{row.filter}" for row in (THREATS, HEARTBEAT, WORKER_LIFE)]
"""The shared subscriptions of the processes of all databases, as patterns for access control."""

_NOTHING = f"{PREFIX}nothing"


def shared(group: str) -> Filters:
    """Return the subscriptions of an ingest process: the broker gives each message to one process of the group.

    Each database has a group of its own. Else a session that another database's leader left at the broker would take
    messages away from this one's processes.
    """
    return [(f"$share/{group}/{topic_filter}", qos) for topic_filter, qos in _SPLIT]


def shared_probe(group: str) -> str:
    """Return the subscription by which a process finds out whether the broker delivers to shared subscriptions."""
    return f"$share/{group}/{WORKER_LIFE.filter}"


def unwanted(filters: Filters, possible: Filters) -> list[str]:
    """Return the possible filters that a process may have left in its session, and has no more; at least one."""
    wanted = {topic_filter for topic_filter, _ in filters}
    return [each for each, _ in possible if each not in wanted] or [_NOTHING]


_BEGIN, _END = f"{PREFIX}ingest/", "/life"


def resolve_received(topic: str) -> tuple[Topic, str | None]:
    """Return the row of a topic of the table or of an ingest worker, and the id in it.

    Raises:
        TopicError: it is neither.
    """
    if topic.startswith(_BEGIN) and topic.endswith(_END):
        identifier = topic[len(_BEGIN) : -len(_END)]
        if is_identifier("clientId", identifier):
            return WORKER_LIFE, identifier
        raise TopicError("no topic of an ingest worker")
    return resolve(topic)


_MOST_KNOWN = 65_536
"""Topics with an entry: some 300 bytes each."""


class ReceivedTopics(dict[bytes, tuple[Topic, str, str] | None]):
    """Topics as they arrive, each with its row, the id in it, and the topic below the root; None for one of no client.

    An entry is made when it is first asked for, while there is room. Topics of no client are not kept. Those for which
    there is no room are resolved each time, 2 µs; with room made for them a larger fleet would find none of its own.
    """

    def __missing__(self, topic: bytes) -> tuple[Topic, str, str] | None:
        """Return the entry of a topic that is not known yet."""
        try:
            text = topic.decode()
            row, identifier = resolve_received(text)
        except (TopicError, UnicodeDecodeError):
            return None
        if identifier is None or (row.publisher is Role.MANAGER and row is not WORKER_LIFE):
            return None
        known = row, identifier, text[len(PREFIX) :]
        if len(self) < _MOST_KNOWN:
            self[topic] = known
        return known
