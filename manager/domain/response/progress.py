"""Progress of a response: seconds from an attack's first report until its targets accept it, or enforce it."""

from array import array
from bisect import insort
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

PERCENTS = (50, 95, 100)
"""Shares of the targets, in percent, at which it is measured."""

_MOST = 50

Medium = Literal["policy", "blocklist"]
"""Carrier of a response to an agent: its own policy, identified by version, or the blocklist, by sequence."""

_MEDIA: tuple[Medium, ...] = ("policy", "blocklist")


@dataclass(slots=True)
class Progress:
    """One incident's response on its way to its targets. Times are seconds since 1970.

    Args:
        incident_id: the incident.
        reported_at: when the manager received the incident's first report.
        published_at: when the response was first handed to the broker.
        targets: number of agents that are to have it.
        value: the address, hash or technique that it is about.
    """

    incident_id: str
    reported_at: float
    published_at: float | None = None
    targets: int = 0
    value: str = ""
    _delays: "array[float]" = field(default_factory=lambda: array("d"))

    def applied(self, at: float) -> None:
        """Count one more target that has reached it."""
        insort(self._delays, max(0.0, at - self.reported_at))

    @property
    def is_complete(self) -> bool:
        """Whether every target has reached it."""
        return len(self._delays) >= self.targets

    def after(self, percent: int) -> float | None:
        """Return the seconds after which this share of the targets had reached it; None while it has not."""
        needed = ceil(self.targets * percent / 100)
        if not needed or needed > len(self._delays):
            return None
        return self._delays[needed - 1]

    def summary(self) -> dict[int, float | None]:
        """Return the seconds by percent of the targets."""
        return {percent: self.after(percent) for percent in PERCENTS}


class ProgressTracker:
    """Tracks responses until the targets report that they accept them, or that they enforce them.

    Args:
        most: number of incidents tracked at once; a new one drops the oldest, as it stands.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._followed: OrderedDict[str, Progress] = OrderedDict()
        self._targets: dict[str, set[str]] = {}
        self._awaited: dict[tuple[str, Medium], dict[str, int]] = {}

    def __len__(self) -> int:
        """Return the number of tracked incidents."""
        return len(self._followed)

    def get(self, incident_id: str) -> Progress | None:
        """Return a tracked incident."""
        return self._followed.get(incident_id)

    def track(
        self,
        incident_id: str,
        agent_ids: Iterable[str],
        *,
        medium: Medium,
        number: int,
        reported_at: float,
        published_at: float,
        value: str = "",
    ) -> list[Progress]:
        """Track a response: these agents have reached it once they report this version or sequence.

        An agent that is a target already keeps its state: it has the response, or waits for it, by another medium.

        Returns:
            The incidents dropped because the tracker was full.
        """
        progress = self._followed.get(incident_id)
        if progress is None:
            progress = self._followed[incident_id] = Progress(incident_id, reported_at, published_at, value=value)
        targets = self._targets.setdefault(incident_id, set())
        for agent_id in agent_ids:
            if agent_id not in targets:
                targets.add(agent_id)
                self._awaited.setdefault((agent_id, medium), {})[incident_id] = number
        progress.targets = len(targets)
        return [self._abandon(next(iter(self._followed))) for _ in range(len(self._followed) - self._most)]

    def applied(
        self, agent_id: str, medium: Medium, number: int, at: float, unless: frozenset[str] = frozenset()
    ) -> list[Progress]:
        """Record the version or sequence that an agent reports; return the incidents whose figures changed.

        Args:
            agent_id: the agent.
            medium: its policy or the blocklist.
            number: the version or sequence.
            at: seconds since 1970.
            unless: values for which the agent has not reached it.
        """
        awaited = self._awaited.get((agent_id, medium))
        if awaited is None:
            return []
        changed = []
        for incident_id in [incident_id for incident_id, needed in awaited.items() if needed <= number]:
            progress = self._followed[incident_id]
            if progress.value in unless:
                continue
            before = progress.summary()
            progress.applied(at)
            self._drop(incident_id, (agent_id, medium))
            if progress.summary() != before:
                changed.append(progress)
        return changed

    def may_reach(self, agent_id: str, policy: int, sequence: int) -> bool:
        """Return whether a response is awaited from an agent that comes with this policy version or sequence at most.

        An agent that awaits one states the same with every heartbeat until it has taken the response.
        """
        return bool(self._awaited) and (
            self._needs_at_most(policy, (agent_id, "policy")) or self._needs_at_most(sequence, (agent_id, "blocklist"))
        )

    def _needs_at_most(self, number: int, key: tuple[str, Medium]) -> bool:
        awaited = self._awaited.get(key)
        return awaited is not None and min(awaited.values()) <= number

    def stop(self, incident_id: str) -> Progress | None:
        """Stop tracking an incident whose response ended or was undone; return its figures."""
        return self._abandon(incident_id) if incident_id in self._followed else None

    def forget_agent(self, agent_id: str) -> None:
        """Drop a removed agent as a target; its earlier applications count."""
        for medium in _MEDIA:
            for incident_id in list(self._awaited.get((agent_id, medium), ())):
                self._drop(incident_id, (agent_id, medium))
                self._targets[incident_id].discard(agent_id)
                self._followed[incident_id].targets -= 1

    def _abandon(self, incident_id: str) -> Progress:
        for agent_id in self._targets.pop(incident_id):
            for medium in _MEDIA:
                if incident_id in self._awaited.get((agent_id, medium), ()):
                    self._drop(incident_id, (agent_id, medium))
        return self._followed.pop(incident_id)

    def _drop(self, incident_id: str, key: tuple[str, Medium]) -> None:
        awaited = self._awaited[key]
        del awaited[incident_id]
        if not awaited:
            del self._awaited[key]
