"""How a request reaches the engine's thread, and the answer the request: through the one inbox and back.

Requests that come in one turn of the server's loop wake the engine once, and the answers to one batch wake the loop
once.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from manager.api.ports import Answer
from manager.engine.inbox import Command
from manager.engine.origin import current_origin
from manager.errors import StoreUnavailable

ANSWER_WITHIN = 5.0
"""Seconds that a request waits for its commit."""

_LOOK_EVERY = 0.25


class EngineClient:
    """Puts commands into the inbox and waits for what the engine says after its commit.

    Args:
        submit: takes a command into the inbox; safe from any thread.
        wake: makes the engine look into its inbox now.
        answer_within: seconds after which a request is told that the store cannot commit. Its command stays in the
            inbox and may still be carried out: asking again is safe, for every command can be repeated.
        most_waiting: requests that may wait for an answer at once; more are told the same, and change nothing.
    """

    def __init__(
        self,
        submit: Callable[[Command], None],
        wake: Callable[[], None],
        answer_within: float = ANSWER_WITHIN,
        most_waiting: int = 20_000,
    ) -> None:
        self._submit = submit
        self._wake = wake
        self._answer_within = answer_within
        self._most_waiting = most_waiting
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[float, Answer]] = deque()
        self._settled: deque[tuple[Answer, Any, Exception | None]] = deque()
        self._wake_due = False
        self._settling = False
        self._looking = False

    async def submit(self, request: Any) -> Any:
        """Have the engine carry out a command and return its answer, once it is committed.

        Raises:
            ManagerError: what the engine refused it with.
            StoreUnavailable: there was no answer in time, or too many wait for one.
        """
        answer = asyncio.get_running_loop().create_future()
        self.ask(request, answer)
        return await answer

    def ask(self, request: Any, answer: Answer) -> None:
        """Have the engine carry out a command, and tell its answer to `answer`, once it is committed.

        Raises:
            StoreUnavailable: too many wait for an answer.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        if len(self._waiting) >= self._most_waiting:
            self._look()
            if len(self._waiting) >= self._most_waiting:
                raise StoreUnavailable("too many requests wait for the engine")
        self._waiting.append((loop.time() + self._answer_within, answer))
        self._submit(Command(request, partial(self._reply, answer), current_origin.get()))
        if not self._wake_due:
            self._wake_due = True
            loop.call_soon(self._wake_engine)
        if not self._looking:
            self._looking = True
            loop.call_later(min(self._answer_within, _LOOK_EVERY), self._look)

    def _wake_engine(self) -> None:
        self._wake_due = False
        self._wake()

    def _reply(self, answer: Answer, value: Any, error: Exception | None) -> None:
        """Take the engine's answer, in the engine's thread."""
        self._settled.append((answer, value, error))
        if not self._settling and self._loop is not None:
            self._settling = True
            with suppress(RuntimeError):  # the door closed while the engine was at it; nobody waits any more
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._settling = False  # before the deque is looked at: what is appended from now on calls again
        settled = self._settled
        while settled:
            answer, value, error = settled.popleft()
            if answer.done():
                continue
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()

    def _look(self) -> None:
        """Tell those who have waited long enough, and look again while anybody waits."""
        loop, waiting = self._loop, self._waiting
        if loop is None:
            return
        now = loop.time()
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            _, answer = waiting.popleft()
            if not answer.done():
                answer.set_exception(StoreUnavailable("no answer of the engine in time"))
        self._looking = bool(waiting)
        if waiting:
            loop.call_later(min(_LOOK_EVERY, max(0.0, waiting[0][0] - now)), self._look)
