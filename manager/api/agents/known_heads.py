"""Known request heads: agents send the same head again and again, but for the body's length.

A head that the parser has read, and whose token was accepted, is kept. A request that begins with the same bytes means
the same, whatever its connection, so it needs no parser. Measured in docs/performance.md.
"""

from typing import Generic, TypeVar

T = TypeVar("T")

HEAD_LIMIT = 2048
"""The largest head that is kept, in bytes."""

HEADS_KEPT = 16_384
"""The number of heads that are kept; then those of the agent that was first known longest ago go."""

HEADS_OF_AGENT = 4
"""The number of heads of one agent that are kept; then its oldest goes. It needs two, for heartbeats and for events.
One that varies its heads, or whose proxy does, so displaces no others and fills no memory."""

BODY_LIMIT = 32 * 1024
"""The maximum body size in the fast lane, in bytes; the application serves requests with larger bodies."""

_METHOD = b"POST /"
_LINE, _END = b"\r\n", b"\r\n\r\n"
_LENGTH, _LENGTH_IN_LOWER_CASE = b"Content-Length: ", b"content-length: "
_LENGTH_DIGITS = 5


class KnownHeads(Generic[T]):
    """Heads as bytes without the digits of the content length, and what was made of each.

    Args:
        most: the number of heads that are kept.
    """

    def __init__(self, most: int = HEADS_KEPT) -> None:
        self._heads: dict[bytes, T] = {}
        self._of_agents: dict[str, list[bytes]] = {}
        self._most = most

    def keep(self, data: bytes, agent_id: str, head: T) -> None:
        """Keep what was made of the head of the one request that is the whole of `data`, if it can be found again.

        Args:
            data: the request.
            agent_id: its sender.
            head: what was made of its head.
        """
        found = _split(data)
        if found is None or not _begins_with_length(data):
            return
        if found[0] not in self._heads:
            self._add(found[0], agent_id)
        self._heads[found[0]] = head

    def _add(self, key: bytes, agent_id: str) -> None:
        """Make room for a new head of an agent."""
        own = self._of_agents.get(agent_id, [])
        if len(own) >= HEADS_OF_AGENT:
            del self._heads[own.pop(0)]
        elif len(self._heads) >= self._most:
            for other in self._of_agents.pop(next(iter(self._of_agents))):
                del self._heads[other]
            own = self._of_agents.get(agent_id, [])
        own.append(key)
        self._of_agents[agent_id] = own

    def find(self, data: bytes) -> tuple[T, bytes] | None:
        """Return head and body of the request in `data`, if that is a known head and exactly its body; else None."""
        found = _split(data)
        head = None if found is None else self._heads.get(found[0])
        return None if found is None or head is None else (head, found[1])


def _split(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the head without the first digits that a content length can be, and the body that is as long as they say.

    The digits end a first occurrence, so two heads without them are the same bytes only if both had them at one place.
    """
    end = data.find(_END, 0, HEAD_LIMIT)
    start = _length_at(data, end)
    if start < 0:
        return None
    stop = data.find(b"\r", start, start + _LENGTH_DIGITS + 1)
    digits = data[start:stop]
    if stop < 0 or not digits.isdigit():
        return None
    length, body = int(digits), data[end + len(_END) :]
    if length != len(body) or length > BODY_LIMIT:
        return None
    return data[:start] + data[stop:end], body


def _length_at(data: bytes, end: int) -> int:
    """Return the place of the digits in the head that ends at `end`; -1 without one."""
    if end < 0:
        return -1
    found = data.find(_LENGTH, 0, end)
    if found < 0:
        found = data.find(_LENGTH_IN_LOWER_CASE, 0, end)
    return -1 if found < 0 else found + len(_LENGTH)


def _begins_with_length(data: bytes) -> bool:
    """Return whether the place of the digits is a header of its own, not in the value of another one."""
    line = _length_at(data, data.find(_END)) - len(_LENGTH)
    return data.startswith(_METHOD) and data.startswith(_LINE, line - len(_LINE))
