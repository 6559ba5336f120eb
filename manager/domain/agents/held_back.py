"""Detects held-back reports: an agent's heartbeats announce waiting reports, but none arrives.

A guard stores a report until its receipt, and its heartbeats contain the number of waiting reports. A broker that
withholds reports or receipts but passes heartbeats is detected here; one that withholds heartbeats too makes the agent
stale.
"""

from collections.abc import Callable
from dataclasses import dataclass

from manager.domain.instant import Instant


@dataclass(frozen=True, slots=True)
class HeldBack:
    """One agent with held-back reports: their number, and when the last new one was stored (seconds since 1970)."""

    agent_id: str
    waiting: int
    since: float


@dataclass(slots=True)
class _OutboxState:
    session: int
    waiting: int
    since: Instant
    heard: float


class HeldBackReports:
    """Tracks agents whose outbox is not empty.

    Args:
        after: seconds without a new report after which a non-empty outbox counts as held back. They run from the first
            heartbeat that announces it, or from the last report stored, to the newest heartbeat.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._outboxes: dict[str, _OutboxState] = {}
        self.current: tuple[HeldBack, ...] = ()
        """Result of the last check. Replaced as a whole, so other threads may read it."""

    def record_outbox(self, agent_id: str, session: int, waiting: int, now: Instant) -> None:
        """Record the outbox size of a heartbeat. A new session restarts the time: its agent sends all reports again."""
        outbox = self._outboxes.get(agent_id)
        if not waiting:
            self._outboxes.pop(agent_id, None)
        elif outbox is None or outbox.session != session:
            self._outboxes[agent_id] = _OutboxState(session, waiting, now, now.monotonic)
        else:
            outbox.waiting, outbox.heard = waiting, now.monotonic

    def record_stored(self, agent_id: str, now: Instant) -> None:
        """Record that a new report of the agent was stored. Repeated reports do not count."""
        outbox = self._outboxes.get(agent_id)
        if outbox is not None:
            outbox.since = now

    def forget(self, agent_id: str) -> None:
        """Drop a removed agent."""
        self._outboxes.pop(agent_id, None)

    def check(self, is_online: Callable[[str], bool], hearing_since: float | None) -> tuple[list[HeldBack], list[str]]:
        """Find the agents whose reports are held back.

        Args:
            is_online: returns whether an agent is online; reports of others are not expected.
            hearing_since: monotonic time since which the manager receives; None while it does not, which changes
                nothing.

        Returns:
            The agents found for the first time, and the ids of those whose reports are no longer held back.
        """
        if hearing_since is None:
            return [], []
        before = {each.agent_id for each in self.current}
        self.current = tuple(
            HeldBack(agent_id, outbox.waiting, outbox.since.wall)
            for agent_id, outbox in self._outboxes.items()
            if outbox.heard - max(outbox.since.monotonic, hearing_since) >= self._after and is_online(agent_id)
        )
        after = {each.agent_id for each in self.current}
        return [each for each in self.current if each.agent_id not in before], sorted(before - after)
