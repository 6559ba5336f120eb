"""The interface of a detector: a rule, or a family of rules, over the events of one host. No I/O, no clock."""

from collections.abc import Sequence
from typing import Protocol

from agent.events import Event, Finding


class Detector(Protocol):
    """Processes events in reading order, and keeps bounded state.

    State survives a restart by replay: `agent.detect.detection_chain` stores the events and passes them to `observe`
    again at the next start. The findings of a replay are dropped, because they were reported before.
    """

    def observe(self, event: Event) -> Sequence[Finding]:
        """Process one event; return the findings of the rules that it meets."""
        ...

    def finish(self) -> Sequence[Finding]:
        """Handle the end of all events; return the findings of connections that are still open."""
        ...
