"""The interface of a source of records, and the batch that its `read` returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.events import Record

SourceState = Literal[
    "ok", "missing", "unreadable", "silent", "dropping", "unparsed", "clock", "ineffective", "stopped"
]
"""The states of a source. `silent`: records were written and did not reach the guard (a quiet log is `ok`). `dropping`:
records were recently lost: the logging daemon dropped them, or they were removed before they were read. `clock`: the
host's clock was recently set. Two are states of the fence: `ineffective`, an address that it blocks still gets through;
`stopped`, by `panic`."""


LOOK_BACK_RECORDS = 200_000
"""The maximum number of records of the look back at a guard's first start: the newest ones."""


BUSY_FOR = 300.0
"""Seconds after a record for which a log counts as busy: the failures that complete an attack follow within them."""


class ReadPace:
    """The times at which a log is read: a busy one twice as often as one that is at rest.

    Reading more often costs CPU at rest. A notification would come later than the next read: journald notifies of new
    entries after up to 250 ms.

    Args:
        interval: Seconds between two reads of a log at rest.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._busy_until = float("-inf")

    def next(self, now: float, *, has_records: bool = False) -> float:
        """Return the time of the next read; `now` is the time of this one, on the monotonic clock."""
        if has_records:
            self._busy_until = now + BUSY_FOR
        return now + (self._interval / 2 if now < self._busy_until else self._interval)


class SourceError(Exception):
    """A source cannot be read; the message says why and what to do.

    Attributes:
        state: The resulting state of the source.
    """

    def __init__(self, message: str, state: SourceState = "unreadable") -> None:
        self.state: SourceState = state
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that were read together, and the position after them.

    Attributes:
        records: In the order in which they were written.
        cursor: The source's position after these records, as text; committed together with their results.
        lost: A description of each certain gap: records that were written and can never be read.
        more: There may be more records to read at once.
        keep: The cursor must be committed even without records.
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
        """The groups, files or capabilities needed for reading, in one phrase."""
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
        """Return the new records, at most `budget`.

        Raises:
            SourceError: the source cannot be read now; nothing is lost, and a later call tries again.
        """
        ...

    def skip_to_end(self) -> None:
        """Skip the unread records; ends a look back that takes too long."""
        ...

    def check(self, now: float) -> tuple[SourceState, str] | None:
        """Return state and reason of a problem that `read` does not raise as an error; None without one.

        Called every few seconds.
        """
        ...

    def close(self) -> None:
        """Release the source's resources."""
        ...
