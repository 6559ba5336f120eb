"""Commands of the notifier's threads to the engine: each waits for its commit."""

import threading
from collections.abc import Callable
from typing import Any

from manager.engine.inbox import Command
from manager.errors import ManagerError


class StoppedError(ManagerError):
    """The manager is stopping: nobody knows whether the command was carried out."""


class EngineCommands:
    """Submits commands of background threads, and waits for as long as the store cannot commit.

    Args:
        submit: puts a command into the inbox; safe from any thread.
        wake: makes the engine read its inbox now; safe from any thread.
    """

    def __init__(self, submit: Callable[[Command], None], wake: Callable[[], None]) -> None:
        self._submit = submit
        self._wake = wake
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Fail all commands that wait, and all later ones."""
        self._stopping.set()

    def run(self, request: Any, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """Return the engine's answer, after the commit.

        Args:
            request: the command.
            meanwhile: called again and again while the store cannot commit.

        Raises:
            StoppedError: the manager is stopping.
            ManagerError: the engine refused the command, or the store rejects it.
        """
        answered = threading.Event()
        answers: list[tuple[Any, Exception | None]] = []

        def reply(value: Any, error: Exception | None) -> None:
            answers.append((value, error))
            answered.set()

        self._submit(Command(request, reply))
        self._wake()
        while not answered.wait(0.5):
            if self._stopping.is_set():
                raise StoppedError("the manager is stopping")
            meanwhile()
        value, error = answers[0]
        if error is not None:
            raise error
        return value
