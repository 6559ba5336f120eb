"""The clocks that a guard reads, bundled so that tests can replace them."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The host's clocks.

    Attributes:
        wall: Epoch seconds; may be wrong and may jump.
        monotonic: Seconds from an arbitrary start; never decreases. All deadlines use it.
        cpu: CPU seconds that this process has used.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.process_time
