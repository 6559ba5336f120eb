"""Commands to the engine's thread, and its replies."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from manager.api.engine_client import EngineClient
from manager.engine.inbox import Command
from manager.errors import NotFound, StoreUnavailable


class _Engine:
    """Answers each command from a thread of its own."""

    def __init__(self, answer: Callable[[Command], None]) -> None:
        self._answer = answer
        self._waiting: list[Command] = []
        self.threads: list[threading.Thread] = []

    def submit(self, command: Command) -> None:
        self._waiting.append(command)

    def wake(self) -> None:
        command = self._waiting.pop()
        thread = threading.Thread(target=self._answer, args=(command,))
        self.threads.append(thread)
        thread.start()


def _ask(answer: Callable[[Command], None], within: float = 10.0) -> Any:
    engine = _Engine(answer)
    try:
        return asyncio.run(EngineClient(engine.submit, engine.wake, within).submit("request"))
    finally:
        for thread in engine.threads:
            thread.join()


def test_the_engines_value_comes_back() -> None:
    """The request goes in as it is, the value comes out as it is."""
    assert _ask(lambda command: command.reply(f"{command.request} done", None)) == "request done"


def test_the_engines_error_is_raised_where_the_request_came_from() -> None:
    """The very error, so that the one map can answer it."""
    error = NotFound("no such agent")
    with pytest.raises(NotFound) as raised:
        _ask(lambda command: command.reply(None, error))
    assert raised.value is error


def test_no_answer_in_time_means_that_the_store_cannot_commit() -> None:
    """A late reply is ignored, even after the loop is closed."""
    late: list[Command] = []
    with pytest.raises(StoreUnavailable):
        _ask(late.append, within=0.0)
    (command,) = late
    command.reply("too late", None)


def test_a_second_answer_changes_nothing() -> None:
    """The first one counts."""

    def twice(command: Command) -> None:
        command.reply("first", None)
        command.reply("second", RuntimeError())

    assert _ask(twice) == "first"
