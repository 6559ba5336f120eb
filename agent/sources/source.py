"""The interface of a source of records, and what its `read` returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.events import Record

SourceState = Literal["ok", "missing", "unreadable", "silent", "dropping", "unparsed"]
"""`silent`: the writer has written, and nothing reached the guard; a quiet log is `ok`. `dropping`: the log's keeper
dropped records of a watched program lately."""


LOOK_BACK_RECORDS = 200_000
"""Records that are read back at a guard's first start, at most: the newest ones."""


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
        keep: The cursor is worth committing without records.
    """

    records: Sequence[Record]
    cursor: str
    lost: Sequence[str] = field(default=())
    more: bool = False
    keep: bool = False


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

    @property
    def looking_back(self) -> bool:
        """Whether records from before the guard's first start are being read: they lead to no action."""
        ...

    def read(self, budget: int, now: float) -> Batch:
        """Return what is new, at most `budget` records.

        Raises:
            SourceError: the source cannot be read now; nothing is lost by it, and a later call tries again.
        """
        ...

    def skip_to_end(self) -> None:
        """Leave out what was not read yet: the end of a look back that takes too long."""
        ...

    def check(self, now: float) -> tuple[SourceState, str] | None:
        """Return state and reason if nothing would reach the guard though `read` raises no error; None if all is well.

        Called every few seconds.
        """
        ...

    def close(self) -> None:
        """Release what the source holds open."""
        ...
