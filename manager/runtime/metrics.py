"""What the manager measures of itself, for `/metrics`: batches, commits, lag, policies on their way, the fleet."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf

from peewee import Database

from manager.api.ports import Measure, Spread
from manager.domain.agents.agent import Agent, State
from manager.engine.batch import Changes, Publication
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.ports import Publisher
from manager.storage.store import PeeweeStore
from schemas.fleet import FleetEvent

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, inf)
_COMMITS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, inf)
_DELAYS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, inf)


class Histogram:
    """How often a figure lay below each of some bounds. One thread writes; others may read at any moment."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        self._total = 0.0

    def observe(self, figure: float) -> None:
        """Take a figure into account."""
        self._counts[bisect_left(self._bounds, figure)] += 1
        self._total += figure

    def spread(self, name: str, about: str) -> Spread:
        """Return what was observed so far."""
        running, buckets = 0, []
        for bound, number in zip(self._bounds, tuple(self._counts), strict=True):
            running += number
            buckets.append((float(bound), running))
        return Spread(name, about, buckets, self._total)


class Histograms:
    """All that is observed, by what it is about. Seconds, but for `batches`."""

    def __init__(self) -> None:
        self.batches = Histogram(_SIZES)
        self.commits = Histogram(_COMMITS)
        self.lag = Histogram(_DELAYS)
        self.published = Histogram(_DELAYS)
        self.applied = Histogram(_DELAYS)

    def spreads(self) -> list[Spread]:
        """Return all that was observed so far."""
        return [
            self.batches.spread("panguard_batch_messages", "Messages and commands in one batch."),
            self.commits.spread("panguard_commit_seconds", "Time of one commit."),
            self.lag.spread("panguard_report_lag_seconds", "From the oldest threat of a batch to its receipt."),
            self.published.spread("panguard_policy_publish_seconds", "From a policy's change to the broker's word."),
            self.applied.spread("panguard_policy_apply_seconds", "From a policy's change to the agent's word."),
        ]


class MeasuredStore(PeeweeStore):
    """A store that times its commits."""

    def __init__(self, database: Database, store_key: bytes, histograms: Histograms) -> None:
        super().__init__(database, store_key)
        self._histograms = histograms

    def commit(self, changes: Changes) -> None:
        """Commit, and observe how long that took and how old the oldest threat was."""
        began = time.perf_counter()
        super().commit(changes)
        self._histograms.commits.observe(time.perf_counter() - began)
        lags = [row.received_at - row.event_time for row in changes.threats if row.time_known]
        if lags:
            self._histograms.lag.observe(max(0.0, *lags))


class MeasuredPublisher:
    """A publisher that times how long policies take to be published."""

    def __init__(self, publisher: Publisher, fleet: Fleet, histograms: Histograms, now: Callable[[], float]) -> None:
        self._publisher = publisher
        self._fleet = fleet
        self._published = histograms.published
        self._now = now

    @property
    def ready(self) -> bool:
        """Whether the broker is connected."""
        return self._publisher.ready

    @property
    def backlog(self) -> int:
        """How many publications the broker has not confirmed yet."""
        return self._publisher.backlog

    def publish(self, publication: Publication) -> None:
        """Hand a message to the broker; one that is to be confirmed is timed."""
        confirm = publication.confirm
        if confirm is None or not publication.topic.endswith("/policy"):
            self._publisher.publish(publication)
            return
        policy = self._fleet.policies.effective.get(publication.topic.split("/")[-2])
        since = policy.updated_at if policy is not None else self._now()

        def confirmed() -> None:
            self._published.observe(max(0.0, self._now() - since))
            confirm()

        self._publisher.publish(replace(publication, confirm=confirmed))


class Measured:
    """Reads the figures of a running engine.

    Args:
        engine: what is measured.
        histograms: what was observed on the way.
        expiries: tells when the certificate of each door expires, in seconds since 1970.
    """

    def __init__(
        self, engine: Engine, histograms: Histograms, expiries: Callable[[], Mapping[str, float]] = dict
    ) -> None:
        self._engine = engine
        self._histograms = histograms
        self._expiries = expiries
        engine.listeners.append(self._hear)

    def read(self) -> list[Measure | Spread]:
        """Return the figures of this moment; from any thread."""
        fleet = self._engine.fleet
        counters = dict(fleet.counters)
        agents = list(fleet.registry.agents.values())
        states = Counter(agent.state for agent in agents)
        current = sum(1 for agent in agents if _is_current(fleet, agent))
        return [
            Measure(
                "panguard_events",
                "Everything that the engine counts, by what it is.",
                "counter",
                [({"event": name}, number) for name, number in sorted(counters.items())],
            ),
            _one("panguard_threats_stored", "Threats that were stored.", counters, "threats_stored"),
            _one("panguard_dead_letters", "Messages that changed nothing.", counters, "dead_letters"),
            _one("panguard_incidents_opened", "Incidents that were opened.", counters, "incident_opened"),
            Measure(
                "panguard_agents",
                "Agents by state.",
                "gauge",
                [({"state": state.value}, states[state]) for state in State],
            ),
            _gauge("panguard_held_back_agents", "Agents whose reports wait in vain.", len(fleet.held_back.current)),
            _gauge("panguard_inbox_messages", "Messages and commands that wait.", len(self._engine.inbox)),
            _gauge("panguard_inbox_bytes", "Bytes of payload that wait.", self._engine.inbox.bytes),
            _gauge("panguard_can_commit", "Whether the store takes commits.", float(self._engine.can_commit)),
            _gauge("panguard_policies_waiting", "Policies to be published.", len(self._engine.policy_queue)),
            _gauge("panguard_policy_current_agents", "Agents with their newest policy in force.", current),
            _gauge("panguard_policy_revision", "The fleet's policy revision.", fleet.policies.revision),
            Measure(
                "panguard_certificate_expiry_timestamp_seconds",
                "When the certificate of a door expires.",
                "gauge",
                [({"door": door}, expires_at) for door, expires_at in self._expiries().items()],
            ),
            *self._histograms.spreads(),
        ]

    def _hear(self, event: FleetEvent) -> None:
        """Time what agents say of their policies."""
        if event.event != "policy_applied" or event.agent_id is None:
            return
        policy = self._engine.fleet.policies.effective.get(event.agent_id)
        if policy is not None and policy.version == event.data.get("version"):
            self._histograms.applied.observe(max(0.0, event.at.timestamp() - policy.updated_at))


def _is_current(fleet: Fleet, agent: Agent) -> bool:
    policy = fleet.policies.effective.get(agent.agent_id)
    force = agent.in_force
    return policy is not None and (force.version, force.digest) == (policy.version, policy.resolved.digest)


def _one(name: str, about: str, counters: Mapping[str, int], counter: str) -> Measure:
    return Measure(name, about, "counter", [({}, counters.get(counter, 0))])


def _gauge(name: str, about: str, figure: float) -> Measure:
    return Measure(name, about, "gauge", [({}, figure)])
