"""Figures that the writer keeps from one commit to the next, so that the overview need not count everything anew."""

from dataclasses import dataclass

from manager.storage.agent_figures import AgentFigures
from manager.storage.projections.last_reports import LastReports


@dataclass(frozen=True, slots=True)
class RunningFigures:
    """The running figures of a store; its writer calls all methods.

    Attributes:
        agents: Counts of the registered agents.
        reporters: Last reports of agents.
    """

    agents: AgentFigures
    reporters: LastReports

    def load(self) -> None:
        """Read all figures from the store; without it, the first commit does."""
        self.agents.load()
        self.reporters.load()

    def before_commit(self) -> None:
        """Let nobody read what the commit changes; called at the end of its transaction."""
        self.agents.before_commit()
        self.reporters.before_commit()

    def after_commit(self) -> None:
        """Show what the commit changed."""
        self.agents.after_commit()
        self.reporters.after_commit()

    def after_failure(self, *, is_rolled_back: bool) -> None:
        """Drop what was not committed; forget all where that is unknown."""
        self.agents.after_failure(is_rolled_back=is_rolled_back)
        self.reporters.after_failure(is_rolled_back=is_rolled_back)
