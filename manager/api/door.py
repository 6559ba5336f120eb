"""How a request reaches the engine's thread, and the answer the request: through the one inbox and back."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from manager.engine.inbox import Command
from manager.errors import StoreUnavailable

ANSWER_WITHIN = 5.0
"""Seconds that a request waits for its commit."""


class EngineDoor:
    """Puts commands into the inbox and waits for what the engine says after its commit.

    Args:
        submit: takes a command into the inbox; safe from any thread.
        wake: makes the engine look into its inbox now.
        answer_within: seconds after which a request is told that the store cannot commit. Its command stays in the
            inbox and may still be carried out: asking again is safe, for every command can be repeated.
    """

    def __init__(
        self, submit: Callable[[Command], None], wake: Callable[[], None], answer_within: float = ANSWER_WITHIN
    ) -> None:
        self._submit = submit
        self._wake = wake
        self._answer_within = answer_within

    async def submit(self, request: Any) -> Any:
        """Have the engine carry out a command and return its answer, once it is committed.

        Raises:
            ManagerError: what the engine refused it with.
            StoreUnavailable: there was no answer in time.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def reply(value: Any, error: Exception | None) -> None:
            with suppress(RuntimeError):  # the door closed while the engine was at it; nobody waits any more
                loop.call_soon_threadsafe(_settle, answer, value, error)

        self._submit(Command(request, reply))
        self._wake()
        try:
            return await asyncio.wait_for(answer, self._answer_within)
        except TimeoutError as error:
            raise StoreUnavailable("no answer of the engine in time") from error


def _settle(answer: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
