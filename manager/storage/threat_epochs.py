"""Epochs of the stored threats, divided by steps of the manager's clock; their times are kept as they were written.

The correlator follows a step: it shifts what it has in memory. What it reads from the store is shifted here, so that
reports from before and after a step find each other after a restart too.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

from manager.storage.health import StoreHealth
from manager.storage.statements import Statements

_KEY = "clock_steps"
"""Key of the stored value: a JSON list of pairs, the last sequence before a step and its seconds, oldest first."""

_STEPS_KEPT = 16
_NO_LIMIT = 2**62


class Epoch(NamedTuple):
    """Threats stored between two steps.

    Attributes:
        after: The sequence that the first of them follows.
        last: The highest sequence that one of them may have.
        shift: The seconds to add to their times.
    """

    after: int
    last: int
    shift: float


class ThreatEpochs:
    """The epochs of stored threats; only the newest 16 steps are kept.

    Args:
        statements: the statements of the writer's database.
        health: translates errors.
    """

    def __init__(self, statements: Statements, health: StoreHealth) -> None:
        self._statements = statements
        self._health = health
        self._epochs: tuple[Epoch, ...] | None = None

    def list(self) -> tuple[Epoch, ...]:
        """Return the epochs of all stored threats, the newest first.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        if self._epochs is None:
            self._epochs = tuple(_epochs(self._stored()))
        return self._epochs

    @property
    def most_behind(self) -> float:
        """The most seconds by which a stored time is behind the present clock.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        return max(epoch.shift for epoch in self.list())

    def add(self, seconds: float) -> tuple[str, str]:
        """Count all stored threats as stored before a step; return the key and the value to store.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        with self._health.errors("be read"):
            ((lowest, highest),) = self._statements.rows("threats.sequences")
        steps = [step for step in self._stored() if lowest <= step[0] <= highest]
        steps = [*steps, (highest, seconds)][-_STEPS_KEPT:]
        self._epochs = tuple(_epochs(steps))
        return _KEY, json.dumps(steps)

    def restart(self) -> None:
        """Forget all steps when no threat is left: the next one has the lowest sequence again."""
        if self.list()[1:]:
            self._statements.execute("meta.delete", (_KEY,))
            self._epochs = None

    def _stored(self) -> Sequence[tuple[int, float]]:
        if self._epochs is not None:
            return _steps(self._epochs)
        with self._health.errors("be read"):
            found = self._statements.rows("meta.get", (_KEY,))
        with self._health.content("meta"):
            steps = [
                (int(sequence), float(seconds)) for sequence, seconds in json.loads(found[0][0] if found else "[]")
            ]
            if not all(isfinite(seconds) for _, seconds in steps):
                raise ValueError("a step of the clock is no number")
        return steps


def _epochs(steps: Sequence[tuple[int, float]]) -> Iterator[Epoch]:
    """Yield the epochs that steps divide the sequences into, the newest first."""
    last, shift = _NO_LIMIT, 0.0
    for sequence, seconds in reversed(steps):
        yield Epoch(sequence, last, shift)
        last, shift = sequence, shift + seconds
    yield Epoch(0, last, shift)


def _steps(epochs: tuple[Epoch, ...]) -> list[tuple[int, float]]:
    """Return the steps between epochs, the oldest first."""
    return [(newer.after, older.shift - newer.shift) for newer, older in pairwise(epochs)][::-1]
