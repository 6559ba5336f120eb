"""What a malicious broker does with messages: one small function for each kind of tampering, in one table.

The first five make offers of their own out of what the broker has heard; what passes through meanwhile stays honest.
`Withheld` and `Held` stand in the way of what passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from schemas import topics
from schemas.errors import TopicError
from schemas.topics import Topic
from tests.support.hostile.packets import Message

_PIECES = (0.25, 0.5, 0.9)


@dataclass(frozen=True)
class Known:
    """What the broker has to work with on one topic.

    Attributes:
        lie: A message of the broker's own making, coded with keys of its own.
        own: What was truly published there, oldest first.
        others: What was truly published for others on topics of the same kind.
    """

    lie: bytes
    own: Sequence[bytes]
    others: Sequence[bytes]


def inject(known: Known) -> list[bytes]:
    """Say what nobody said: a lie, the newest true message with one letter changed or one member added, garbage."""
    newest = known.own[-1]
    middle = len(newest) // 2
    changed = newest[:middle] + bytes([newest[middle] ^ 1]) + newest[middle + 1 :]
    longer = newest[:-1] + b',"version":1000}'
    return [known.lie, changed, longer, b"{}", b"\xff"]


def replay(known: Known) -> list[bytes]:
    """Say again what was said, twice."""
    return [*known.own, *known.own]


def reorder(known: Known) -> list[bytes]:
    """Say again what was said, the newest first."""
    return list(reversed(known.own))


def swap(known: Known) -> list[bytes]:
    """Say to, or for, the one what was said to, or for, the other."""
    return list(known.others)


def truncate(known: Known) -> list[bytes]:
    """Say a part of what was said."""
    newest = known.own[-1]
    return [newest[: int(len(newest) * part)] for part in _PIECES] + [newest[:-1]]


OFFERS: dict[str, Callable[[Known], list[bytes]]] = {
    "inject": inject,
    "replay": replay,
    "reorder": reorder,
    "swap": swap,
    "truncate": truncate,
}
"""The tamperings that offer something; the sixth is to withhold."""


def is_of(message: Message, rows: Sequence[Topic], identifier: str | None = None) -> bool:
    """Return whether a message is of one of these rows, and of this id if one is named."""
    try:
        row, found = topics.resolve(message.topic)
    except TopicError:
        return False
    return row in rows and identifier in (None, found)


@dataclass
class Withheld:
    """Withholds the messages of some rows, of one id or of everybody, and counts them."""

    rows: Sequence[Topic]
    identifier: str | None = None
    kept: list[Message] = field(default_factory=list)

    def __call__(self, message: Message) -> tuple[Message, ...]:
        """Keep it, or pass it on."""
        if not is_of(message, self.rows, self.identifier):
            return (message,)
        self.kept.append(message)
        return ()
