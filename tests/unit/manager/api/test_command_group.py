"""Groups of commands: those that arrive close together go to the engine together, and none waits for long."""

from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from manager.api.command_group import CommandGroup
from manager.engine.inbox import Command

_MILLISECOND = 0.001
_PATIENCE = 16 * _MILLISECOND
"""The time after which no command is held any longer."""


class _Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due, self.call, self.cancelled = due, call, False

    def cancel(self) -> None:
        self.cancelled = True


class _Loop:
    """An event loop whose turns and time pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ready: list[Callable[[], None]] = []
        self._timers: list[_Timer] = []

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._ready.append(lambda: callback(*arguments))

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> _Timer:
        timer = _Timer(self.now + delay, lambda: callback(*arguments))
        self._timers.append(timer)
        return timer

    def end_turn(self) -> None:
        ready, self._ready = self._ready, []
        for call in ready:
            call()

    def advance(self, seconds: float) -> None:
        """Let time pass, a millisecond at a time."""
        self.end_turn()
        for _ in range(round(seconds / _MILLISECOND)):
            self.now += _MILLISECOND
            due = [timer for timer in self._timers if timer.due <= self.now + 1e-9]
            self._timers = [timer for timer in self._timers if timer not in due]
            for timer in due:
                if not timer.cancelled:
                    timer.call()
            self.end_turn()


class _Engine:
    """Notes what it gets and when; answers when the test says so."""

    def __init__(self) -> None:
        self.loop = _Loop()
        self.submitted: list[Any] = []
        self.unanswered: list[Any] = []
        self.groups: list[int] = []
        """The sizes of the groups."""
        self.held: list[float] = []
        """For how long each command was held."""
        self._came: dict[Any, float] = {}
        self._known = 0
        self._group = CommandGroup(self._submit, self._wake, self.unanswered)

    def ask(self, *requests: Any) -> None:
        """Add requests in the present turn of the loop."""
        for request in requests:
            self.unanswered.append(request)
            self._came[request] = self.loop.now
            self._group.add(Command(request, lambda *_: None), cast("Any", self.loop))

    def answer(self) -> None:
        """Answer all that was submitted."""
        self.unanswered[:] = [each for each in self.unanswered if each not in self.submitted]

    def _submit(self, command: Command) -> None:
        self.submitted.append(command.request)
        self.held.append(self.loop.now - self._came[command.request])

    def _wake(self) -> None:
        self.groups.append(len(self.submitted) - self._known)
        self._known = len(self.submitted)


def test_a_lone_command_waits_for_nothing() -> None:
    """It is handed over when the turn of the loop in which it came has ended."""
    engine = _Engine()
    engine.ask("one")
    assert engine.submitted == []
    engine.loop.end_turn()
    assert (engine.submitted, engine.groups) == (["one"], [1])


def test_commands_of_one_turn_wake_the_engine_once() -> None:
    """They are submitted in the order in which they came."""
    engine = _Engine()
    engine.ask(*range(20))
    engine.loop.end_turn()
    assert (engine.submitted, engine.groups) == ([*range(20)], [20])


def test_as_many_as_waited_together_before_are_waited_for() -> None:
    """After twenty waited for an answer at once, the next go together, though each comes in a turn of its own."""
    engine = _Engine()
    engine.ask(*range(20))
    engine.loop.end_turn()
    engine.answer()
    for number in range(20, 40):
        engine.ask(number)
        engine.loop.end_turn()
    assert engine.groups == [20, 20]


def test_halves_become_one_group() -> None:
    """Where ten waited while the engine had ten others, twenty are waited for."""
    engine = _Engine()
    for first in (0, 10):
        engine.ask(*range(first, first + 10))
        engine.loop.end_turn()
    engine.answer()
    engine.ask(*range(20, 30))
    engine.loop.advance(_MILLISECOND)
    assert engine.groups == [10, 10]
    engine.ask(*range(30, 40))
    engine.loop.end_turn()
    assert engine.groups == [10, 10, 20]


def test_nobody_waits_for_clients_that_left() -> None:
    """Where fewer come than before, they are handed over after two milliseconds; a lone one then waits for nothing."""
    engine = _Engine()
    engine.ask(*range(20))
    engine.loop.end_turn()
    engine.answer()
    engine.ask("alone")
    engine.loop.advance(2 * _MILLISECOND)
    assert engine.groups == [20, 1]
    engine.answer()
    engine.ask("again")
    engine.loop.end_turn()
    assert engine.groups == [20, 1, 1]


def test_commands_are_held_while_the_engine_has_others() -> None:
    """They could not be decided sooner; with the next ones they make a larger group."""
    engine = _Engine()
    engine.ask(*range(20))
    engine.loop.end_turn()
    engine.ask("early")
    engine.loop.advance(10 * _MILLISECOND)
    assert engine.groups == [20]
    engine.answer()
    engine.ask(*range(20, 39))
    engine.loop.end_turn()
    assert engine.groups == [20, 20]


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 20), st.booleans()),  # requests, milliseconds, answered
        max_size=30,
    )
)
def test_none_is_held_for_long_and_none_is_lost(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever comes and whether or not the engine answers: all are submitted in their order, each within 15 ms."""
    engine, asked = _Engine(), 0
    for number, milliseconds, is_answered in steps:
        engine.ask(*range(asked, asked + number))
        asked += number
        engine.loop.advance(milliseconds * _MILLISECOND)
        if is_answered:
            engine.answer()
    engine.loop.advance(_PATIENCE)
    assert engine.submitted == [*range(asked)]
    assert max(engine.held, default=0.0) < _PATIENCE
    assert sum(engine.groups) == asked
