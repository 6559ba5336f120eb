"""A process of TCP proxies, one on each way of a member to a server; it holds, delays and cuts at its owner's word.

It reads commands from standard input and answers each with a line, both JSON. One event loop forwards all connections,
so that the faults of the network cost the machine little while there are none.
"""

import asyncio
import json
import sys
from collections import deque
from typing import Any, Literal, cast

import uvloop

Direction = Literal["server", "client"]

_HELD_MOST = 256 * 1024
"""Bytes of a connection that wait while nothing is carried; the sender's own buffers take the rest, as they do when the
network drops."""

_DELAYED_MOST = 256 * 1024 * 1024
"""The same of a delay line, which keeps the bandwidth."""


class Way:
    """One listening port, and its connections to one server."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        self.held: frozenset[str] = frozenset()
        self.ends: set[End] = set()

    def become(self, held: frozenset[str], delay: float) -> None:
        """Hold some directions from now on, and deliver late by so many seconds."""
        self.held, self.delay = held, delay
        for end in list(self.ends):
            end.flush()

    def cut(self) -> int:
        """End all connections at once, with what is on its way; return their number of ends."""
        ends, self.ends = self.ends, set()
        for end in ends:
            end.drop()
        return len(ends)


class End(asyncio.Protocol):
    """One end of a connection: what it receives is carried to the other end.

    Args:
        way: the way of the connection.
        direction: the side that what it receives is for.
    """

    def __init__(self, way: Way, direction: Direction) -> None:
        self._way = way
        self._direction = direction
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None
        self._line: deque[tuple[float, bytes | None]] = deque()
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the way; a client's end opens a connection to the server."""
        self.transport = cast("asyncio.Transport", transport)
        self._way.ends.add(self)
        if self._direction == "server":
            self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        other = End(self._way, "client")
        other.other = self
        try:
            await self._loop.create_connection(lambda: other, "127.0.0.1", self._way.target)
        except OSError:
            self.drop()
            return
        self.other = other
        if self.transport is None:
            other.drop()
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Carry bytes, now or later."""
        self._append(data)

    def eof_received(self) -> bool:
        """Carry the end of the stream behind its bytes."""
        self._append(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Carry the end of the connection behind its bytes."""
        self.transport = None
        self._way.ends.discard(self)
        if exc is not None or not self._line or self._line[-1][1] is not None:
            self._append(None)

    def pause_writing(self) -> None:
        """Read no more for this end while its buffer is full."""
        if self.other is not None:
            self.other.pause()

    def resume_writing(self) -> None:
        """Read again for this end."""
        if self.other is not None:
            self.other.flush()

    def drop(self) -> None:
        """End both sides of the connection now."""
        self._line.clear()
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.abort()

    def flush(self) -> None:
        """Carry what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, other = self._loop.time(), self.other
        if self._direction in self._way.held or other is None:
            return
        while self._line and self._line[0][0] <= now:
            _, data = self._line.popleft()
            if other.transport is None:
                self._line.clear()
            elif data is None:
                other.transport.close()
            else:
                self._waiting -= len(data)
                other.transport.write(data)
        if self._line:
            self._timer = self._loop.call_at(self._line[0][0], self.flush)
        if self._is_paused and self._waiting < self._most and self.transport is not None:
            self._is_paused = False
            self.transport.resume_reading()

    @property
    def _most(self) -> int:
        return _DELAYED_MOST if self._way.delay and self._direction not in self._way.held else _HELD_MOST

    def _append(self, data: bytes | None) -> None:
        other = self.other
        is_free = not self._line and not self._way.delay and self._direction not in self._way.held
        if is_free and data is not None and other is not None and other.transport is not None:
            other.transport.write(data)
            return
        due = self._loop.time() + self._way.delay
        self._line.append((max(due, self._line[-1][0] if self._line else 0.0), data))
        self._waiting += 0 if data is None else len(data)
        self.flush()
        if self._waiting >= self._most:
            self.pause()

    def pause(self) -> None:
        """Read no more for now."""
        if self.transport is not None and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()


class Proxies:
    """The ways, and the commands of their owner."""

    def __init__(self) -> None:
        self._ways: list[Way] = []

    async def serve(self) -> None:
        """Carry out one command after another, until there are no more."""
        loop = asyncio.get_running_loop()
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        while line := await commands.readline():
            answer = await self._obey(**json.loads(line))
            sys.stdout.write(f"{json.dumps(answer)}\n")
            sys.stdout.flush()

    async def _obey(self, do: str, **given: Any) -> int:
        if do == "open":
            way = Way(given["target"])
            self._ways.append(way)
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: End(way, "server"), "127.0.0.1", 0)
            return int(server.sockets[0].getsockname()[1])
        way = self._ways[given["way"]]
        if do == "cut":
            return way.cut()
        way.become(frozenset(given["held"]), given["delay"])
        return 0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Proxies().serve())
