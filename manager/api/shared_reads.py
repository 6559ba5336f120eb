"""Shared reads: many clients that ask the same at once cost one read of the store, and none gets an old answer."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

APART = 1.0
"""Seconds between the begins of two reads of one kind."""


class SharedReads(Generic[T]):
    """Runs one read at a time for each key; a caller gets the result of a read that began after it had asked.

    The first caller after a while is served at once; those that ask while a read runs share the next one, which begins
    `apart` seconds after the begin of the last. So the number of clients does not change the number of reads.

    Args:
        apart: seconds between the begins of two reads of one key.
    """

    def __init__(self, apart: float = APART) -> None:
        self._apart = apart
        self._next: dict[Hashable, asyncio.Task[T]] = {}
        self._began: dict[Hashable, float] = {}
        self._running: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a read that begins after this call; raises what the read raises."""
        task = self._next.get(key)
        if task is None:
            task = asyncio.create_task(self._run(key, read), name="shared-read")
            self._next[key] = task
        return await asyncio.shield(task)

    async def _run(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        try:
            running = self._running.get(key)
            if running is not None:
                await asyncio.wait([running])
            await asyncio.sleep(max(0.0, self._began.get(key, -self._apart) + self._apart - loop.time()))
        finally:
            task = self._next.pop(key)  # from here on a caller needs a later read
        self._running[key], self._began[key] = task, loop.time()
        try:
            return await read()
        finally:
            if self._running.get(key) is task:
                del self._running[key]
            for old in [each for each, began in self._began.items() if began < loop.time() - self._apart]:
                if old not in self._running:
                    del self._began[old]
