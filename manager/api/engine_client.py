"""Client of the engine's thread: submits commands to the inbox and delivers their replies to the server's event loop.

Commands that arrive close together wake the engine once, and the replies of one batch wake the loop once.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from manager.api.command_group import CommandGroup
from manager.api.ports import FutureLike
from manager.engine.inbox import Command
from manager.engine.origin import current_origin
from manager.errors import CommitPending, ManagerError, ManagerStops, StoreUnavailable

REPLY_TIMEOUT = 5.0
"""The maximum wait of a request for its commit in seconds."""

_EXPIRY_INTERVAL = 0.25
_STOPS = "the manager stops or hands the lead over"


class EngineClient:
    """Submits commands and waits for the engine's reply, which follows the commit.

    Args:
        submit: puts a command into the inbox; safe from any thread.
        wake: makes the engine read its inbox now.
        reply_timeout: seconds after which a request fails. Its command is withdrawn from the inbox; if the engine has
            carried it out already, the request fails with CommitPending.
        max_waiting: requests that may wait for a reply at once; more fail with StoreUnavailable and change nothing.
    """

    def __init__(
        self,
        submit: Callable[[Command], None],
        wake: Callable[[], None],
        reply_timeout: float = REPLY_TIMEOUT,
        max_waiting: int = 20_000,
    ) -> None:
        self._reply_timeout = reply_timeout
        self._max_waiting = max_waiting
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[float, FutureLike, Command]] = deque()
        self._group = CommandGroup(submit, wake, self._waiting)
        self._replies: deque[tuple[FutureLike, Any, Exception | None]] = deque()
        self._delivery_scheduled = False
        self._expiry_scheduled = False
        self._is_closed = False

    async def submit(self, request: Any) -> Any:
        """Submit a command and return the engine's reply, after the commit.

        Raises:
            ManagerError: the engine refused the command.
            StoreUnavailable: no reply in time, or too many waiting requests; nothing was changed.
            CommitPending: no reply in time; the command was executed, and its commit is pending.
        """
        future = asyncio.get_running_loop().create_future()
        self.submit_nowait(request, future)
        return await future

    def submit_nowait(self, request: Any, future: FutureLike) -> None:
        """Submit a command; `future` gets the engine's reply, after the commit.

        Raises:
            StoreUnavailable: too many requests wait, or the engine takes no more.
        """
        if self._is_closed:
            raise ManagerStops(_STOPS)
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        if len(self._waiting) >= self._max_waiting:
            self._expire_waiting()
            if len(self._waiting) >= self._max_waiting:
                raise StoreUnavailable("too many requests wait for the engine")
        command = Command(request, partial(self._reply, future), current_origin.get())
        self._waiting.append((loop.time() + self._reply_timeout, future, command))
        self._group.add(command, loop)
        if not self._expiry_scheduled:
            self._expiry_scheduled = True
            loop.call_later(min(self._reply_timeout, _EXPIRY_INTERVAL), self._expire_waiting)

    def close(self) -> None:
        """Refuse the commands that the engine has not taken, and every later one. Safe from any thread.

        The engine has made its last step, or makes it without what has not arrived yet.
        """
        self._is_closed = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: no request waits any more
                self._loop.call_soon_threadsafe(self._refuse_waiting)

    def _refuse_waiting(self) -> None:
        self._deliver()
        while self._waiting:
            _, future, command = self._waiting.popleft()
            if not future.done():
                future.set_exception(ManagerStops(_STOPS) if command.claim() else CommitPending(_STOPS))

    def _reply(self, future: FutureLike, value: Any, error: Exception | None) -> None:
        """Queue a reply; called in the engine's thread."""
        self._replies.append((future, value, error))
        if not self._delivery_scheduled and self._loop is not None:
            self._delivery_scheduled = True
            with suppress(RuntimeError):  # the loop is closed: no request waits any more
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._delivery_scheduled = False  # before the deque is read: a later append schedules again
        replies = self._replies
        while replies:
            future, value, error = replies.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()

    def _expire_waiting(self) -> None:
        """Fail the requests that waited too long, and run again later while any request waits."""
        loop, waiting = self._loop, self._waiting
        if loop is None:
            return
        now = loop.time()
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            _, future, command = waiting.popleft()
            if not future.done():
                future.set_exception(_withdraw(command))
        self._expiry_scheduled = bool(waiting)
        if waiting:
            loop.call_later(min(_EXPIRY_INTERVAL, max(0.0, waiting[0][0] - now)), self._expire_waiting)


def _withdraw(command: Command) -> ManagerError:
    """Withdraw a command, and return the error that its sender gets."""
    if command.claim():
        return StoreUnavailable("no reply from the engine in time; the command is withdrawn")
    return CommitPending("no reply from the engine in time; the command waits for its commit")
