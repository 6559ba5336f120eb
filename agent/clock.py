"""The clocks that a guard reads, as one part that tests can replace."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The host's clocks.

    Attributes:
        wall: Epoch seconds; may be wrong and may step.
        monotonic: Seconds from some start; only ever rises. All deadlines are on it.
        cpu: CPU seconds that this process has used.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.process_time
