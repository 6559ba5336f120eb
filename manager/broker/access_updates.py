"""The embedded broker's broker_access. The broker looks agents up in the store: only what must end is told to it."""

from collections.abc import Callable

from manager.broker.embedded import EmbeddedBroker
from manager.domain.agents.agent import Agent


class EmbeddedBrokerAccess:
    """Ends what an old credential or a removed agent opened.

    Args:
        broker: returns the broker that runs now; another takes its place when one ends by itself.
    """

    room = None

    def __init__(self, broker: Callable[[], EmbeddedBroker | None]) -> None:
        self._broker = broker

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        """End what the credential before opened; the store lets the new one in."""
        if replaced:
            self.expel(agent.agent_id)

    def expel(self, agent_id: str) -> None:
        """End an agent's connections, and drop what waits for it."""
        broker = self._broker()
        if broker is not None and broker.alive:
            broker.disconnect(agent_id)

    def suspend(self, agent_id: str) -> None:
        """End an agent's connections. That it may come back at once does no harm: the broker itself slows it down."""
        self.expel(agent_id)

    def resume(self, agent_id: str) -> None:
        """Do nothing: it was never kept out."""

    def connected(self) -> None:
        """Do nothing: the broker asks the store at each login."""
