"""The stored events that a client of the event stream has missed."""

from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

from manager.api.ports import Queries
from manager.engine.events import StoredEvent

_PAGE = 200
_LONGEST_NUMBER = 19
P = ParamSpec("P")
T = TypeVar("T")


class Read(Protocol):
    """Runs a query in a thread."""

    def __call__(self, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Return the query's result."""
        ...


class Backlog(NamedTuple):
    """The events that a client has missed.

    Attributes:
        after: The client resumes after this sequence.
        missed: The number of stored events after it that the client may see.
        dropped: The number of events that were deleted before the client could read them.
        resumed: Whether the client named an event of this store.
    """

    after: int
    missed: int = 0
    dropped: int = 0
    resumed: bool = False


class EventPage(NamedTuple):
    """Some events in order, the sequence up to which the table was read, and whether there were no more."""

    events: list[StoredEvent]
    reached: int
    is_last: bool


class StoredEvents:
    """Reads the event table for one client.

    Args:
        queries: reads the store.
        read: runs a query in a thread.
        organizations: the only organizations whose events the client may see; None for all.

    Raises:
        StoreUnavailable: by both methods, if the store cannot be read.
    """

    def __init__(self, queries: Queries, read: Read, organizations: Collection[str] | None) -> None:
        self._queries = queries
        self._read = read
        self._organizations = organizations

    async def backlog(self, last_id: str | None, newest: int) -> Backlog:
        """Return the events since the one with an id.

        With an id that this store has not given, those among the `newest` events of the table; without one, none.
        """
        lowest, highest = await self._read(self._queries.event_bounds)
        if last_id is None:
            return Backlog(highest)
        last = last_sequence(last_id, highest)
        after = max(lowest - 1, highest - newest if last is None else last)
        missed = await self._read(self._queries.count_events, after=after, organizations=self._organizations)
        return Backlog(after, missed, 0 if last is None else after - last, last is not None)

    async def after(self, sequence: int) -> EventPage:
        """Return the first events after a sequence that the client may see."""
        _, highest = await self._read(self._queries.event_bounds)  # first: later events are not read to the end
        events = await self._read(self._queries.events, after=sequence, organizations=self._organizations, limit=_PAGE)
        is_last = len(events) < _PAGE
        reached = max(sequence, highest) if is_last else events[-1].sequence
        return EventPage([each for each in events if each.sequence <= reached], reached, is_last)


def last_sequence(last_id: str, highest: int) -> int | None:
    """Return the sequence that an id of the stream names; None for an id that this store has not given."""
    if not last_id.isascii() or not last_id.isdecimal() or len(last_id) > _LONGEST_NUMBER:
        return None
    return last if (last := int(last_id)) <= highest else None
