"""Stored events, in the order of their sequences."""

from collections.abc import Collection

from manager.engine.events import StoredEvent
from manager.storage.queries.reader import Reader, json_list


def bounds(reader: Reader) -> tuple[int, int]:
    """Return the lowest and the highest sequence; (1, 0) where there is no event."""
    ((lowest,),) = reader.select("events.lowest")
    ((highest,),) = reader.select("events.highest")
    return (1 if lowest is None else int(lowest)), int(highest)


def after(reader: Reader, sequence: int, organizations: Collection[str] | None, limit: int) -> list[StoredEvent]:
    """Return the first events after a sequence, of some organizations or of all."""
    params = {"after": sequence, "organizations": json_list(organizations), "limit": limit}
    return [StoredEvent(*row) for row in reader.select("events.after", params)]


def count_after(reader: Reader, sequence: int, organizations: Collection[str] | None) -> int:
    """Return the number of events after a sequence, of some organizations or of all."""
    params = {"after": sequence, "organizations": json_list(organizations)}
    ((count,),) = reader.select("events.count_after", params)
    return int(count)
