"""The interface of a detector: a rule, or a family of rules, over the events of one host. No I/O, no clock."""

from collections.abc import Sequence
from typing import Protocol

from agent.events import Event, Finding


class Detector(Protocol):
    """Takes events in the order in which they are read, and keeps bounded state.

    State survives a restart by replay: `agent.detect.chain` stores the events and gives them to `observe` again at the
    next start; what `observe` returns then was reported before and is dropped.
    """

    def observe(self, event: Event) -> Sequence[Finding]:
        """Take one event; return the rules that it meets."""
        ...

    def finish(self) -> Sequence[Finding]:
        """Take the end of all events; return the rules that open matters meet if nothing follows on them."""
        ...
