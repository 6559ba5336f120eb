"""Figures that the writer keeps from one commit to the next, so that the overview need not count everything anew."""

from dataclasses import dataclass, field
from threading import Event

from manager.storage.agent_figures import AgentFigures
from manager.storage.projections.last_reports import LastReports

_PATIENCE = 0.05
"""Seconds that a reader waits for the end of a commit; to count everything takes about as long beside a busy writer."""


def _set() -> Event:
    event = Event()
    event.set()
    return event


@dataclass(frozen=True, slots=True)
class RunningFigures:
    """The running figures of a store; its writer calls all methods but `wait`.

    Attributes:
        agents: Counts of the registered agents.
        reporters: Last reports of agents.
    """

    agents: AgentFigures
    reporters: LastReports
    _shown: Event = field(default_factory=_set)
    """Not set while a commit hides figures until its end."""

    def wait(self) -> None:
        """Wait a moment for the end of a commit that hides figures; called by a reader before it reads any."""
        self._shown.wait(_PATIENCE)

    def load(self) -> None:
        """Read all figures from the store; without it, the first commit does."""
        self.agents.load()
        self.reporters.load()

    def before_commit(self) -> None:
        """Let nobody read what the commit changes; called at the end of its transaction."""
        self.agents.before_commit()
        self.reporters.before_commit()
        if self.agents.known is None or self.reporters.is_hidden:
            self._shown.clear()

    def after_commit(self) -> None:
        """Show what the commit changed."""
        self.agents.after_commit()
        self.reporters.after_commit()
        self._shown.set()

    def after_failure(self, *, is_rolled_back: bool) -> None:
        """Drop what was not committed; forget all where that is unknown."""
        self.agents.after_failure(is_rolled_back=is_rolled_back)
        self.reporters.after_failure(is_rolled_back=is_rolled_back)
        self._shown.set()
