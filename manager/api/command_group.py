"""Command group: gathers commands that arrive close together, so that one batch of the engine commits all of them.

Clients that wait for their answers send again shortly after one another. A command for itself would be decided and
committed while the next ones are read, with few of them in each batch and both threads in need of the interpreter's
lock. The saving is measured in docs/performance.md.
"""

import asyncio
from collections.abc import Callable, Sized

from manager.engine.inbox import Command

_LOOK_INTERVAL = 0.001
"""Seconds between two looks at a group that is smaller than expected."""

_LOOKS = 5
_LOOKS_WHILE_BUSY = 15
"""The maximum number of looks at a group, while the engine waits for it and while it still has others to answer."""


class CommandGroup:
    """The commands that are not handed to the engine yet.

    As many are expected as waited for an answer together before. A group is handed over when it is complete, or when no
    further command came between two looks, but never later than 15 ms after its first one. A command that comes alone
    is handed over at the end of the loop's turn.

    Args:
        submit: puts a command into the engine's inbox.
        wake: makes the engine read its inbox now.
        unanswered: all commands without an answer, in the group or handed over.
    """

    def __init__(self, submit: Callable[[Command], None], wake: Callable[[], None], unanswered: Sized) -> None:
        self._submit = submit
        self._wake = wake
        self._unanswered = unanswered
        self._commands: list[Command] = []
        self._expected = 1
        self._turn_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0
        self._seen = 0

    def add(self, command: Command, loop: asyncio.AbstractEventLoop) -> None:
        """Add a command; called in the turn of `loop` in which it arrives."""
        self._commands.append(command)
        if not self._turn_scheduled:
            self._turn_scheduled = True
            loop.call_soon(self._end_turn, loop)

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turn_scheduled = False
        if len(self._commands) >= self._expected:
            self._expected = max(self._expected, len(self._unanswered))
            self._hand_over()
        elif self._commands and self._timer is None:
            self._looks = self._seen = 0
            self._timer = loop.call_later(_LOOK_INTERVAL, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand the group over if no further command came, or enough time has passed; else look again."""
        self._timer = None
        size = len(self._commands)
        if not size:
            return
        self._looks += 1
        is_busy = len(self._unanswered) > size
        if self._looks >= (_LOOKS_WHILE_BUSY if is_busy else _LOOKS) or (size == self._seen and not is_busy):
            self._expected = len(self._unanswered)
            self._hand_over()
            return
        self._seen = size
        self._timer = loop.call_later(_LOOK_INTERVAL, self._look, loop)

    def _hand_over(self) -> None:
        commands, self._commands = self._commands, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for command in commands:
            self._submit(command)
        self._wake()
