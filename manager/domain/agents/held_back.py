"""Reports that are held back: an agent says again and again that some wait, and nothing new of it is stored.

A guard keeps a report until its receipt, and its heartbeats say how many it keeps. So whoever withholds reports, or the
receipts for them, and lets heartbeats pass, is noticed; who withholds heartbeats, too, makes the agent stale.
"""

from collections.abc import Callable
from dataclasses import dataclass

from manager.domain.instant import Instant


@dataclass(frozen=True, slots=True)
class HeldBack:
    """One agent's reports: how many wait, and since when nothing new of it was stored, in seconds since 1970."""

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
    """Follows the outboxes that are not empty.

    Args:
        after: seconds without anything new from which an outbox that is not empty counts as held back. They last
            from the first heartbeat that says so, or the last report stored, to the newest heartbeat.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._outboxes: dict[str, _OutboxState] = {}
        self.current: tuple[HeldBack, ...] = ()
        """What the last look found; replaced as a whole, so that other threads may read it."""

    def record_outbox(self, agent_id: str, session: int, waiting: int, now: Instant) -> None:
        """Take a heartbeat's word on how many reports wait. A new session is a new beginning: all of them go again."""
        outbox = self._outboxes.get(agent_id)
        if not waiting:
            self._outboxes.pop(agent_id, None)
        elif outbox is None or outbox.session != session:
            self._outboxes[agent_id] = _OutboxState(session, waiting, now, now.monotonic)
        else:
            outbox.waiting, outbox.heard = waiting, now.monotonic

    def record_stored(self, agent_id: str, now: Instant) -> None:
        """A report of the agent was stored for the first time: something arrives. The same again proves nothing."""
        outbox = self._outboxes.get(agent_id)
        if outbox is not None:
            outbox.since = now

    def forget(self, agent_id: str) -> None:
        """An agent was removed from the registry."""
        self._outboxes.pop(agent_id, None)

    def check(self, is_online: Callable[[str], bool], hearing_since: float | None) -> tuple[list[HeldBack], list[str]]:
        """Look for what is held back.

        Args:
            is_online: says whether an agent is; of the others it is known that nothing comes.
            hearing_since: since when the manager hears, monotonic; None while it does not, and then nothing is new.

        Returns:
            What was not held back at the last look, and the ids of those agents whose reports are no more.
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
