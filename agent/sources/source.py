"""The interface of a source of records, and what its `read` returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.events import Record

SourceState = Literal["ok", "missing", "unreadable", "silent", "unparsed"]


class SourceError(Exception):
    """A source cannot be read; the message says why and what to do.

    Attributes:
        state: The state that the source is in.
    """

    def __init__(self, message: str, state: SourceState = "unreadable") -> None:
        self.state: SourceState = state
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that were read together, and the position behind them.

    Attributes:
        records: In the order in which they were written.
        cursor: The source's position after these records, as text; committed together with what they lead to.
        lost: One sentence for each gap that is certain: records that were written and can never be read.
        more: There may be more to read at once.
    """

    records: Sequence[Record]
    cursor: str
    lost: Sequence[str] = field(default=())
    more: bool = False


class Source(Protocol):
    """One log that the guard reads. A source is built with the cursor of an earlier run, or with None."""

    @property
    def name(self) -> str:
        """The name in status, heartbeats and logs, such as ``journal`` or ``file:/var/log/auth.log``."""
        ...

    @property
    def needs(self) -> str:
        """The groups, files or capabilities that reading takes, in one phrase."""
        ...

    @property
    def due(self) -> float:
        """The time of the next read, on the monotonic clock."""
        ...

    def read(self, budget: int, now: float) -> Batch:
        """Return what is new, at most `budget` records.

        Raises:
            SourceError: the source cannot be read now; nothing is lost by it, and a later call tries again.
        """
        ...

    def close(self) -> None:
        """Release what the source holds open."""
        ...
