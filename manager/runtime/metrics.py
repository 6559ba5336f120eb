"""Prometheus metrics of the manager: batches, commits, lag, policy publication, and the state of the fleet."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from peewee import Database
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from manager.domain.agents.agent import Agent, State
from manager.engine.batch import Changes, Publication
from manager.engine.engine import Engine
from manager.engine.events import EventRow
from manager.engine.fleet import Fleet
from manager.engine.ports import Publisher
from manager.storage.backends import Fence
from manager.storage.health import StoreHealth
from manager.storage.store import PeeweeStore

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_COMMITS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_DELAYS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class Histograms:
    """All histograms of the manager, in seconds except `batches`.

    Args:
        registry: exposes them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, about, buckets=buckets, registry=registry)

        self.batches = histogram("panguard_batch_messages", "Messages and commands in one batch.", _SIZES)
        self.commits = histogram("panguard_commit_seconds", "Duration of one commit.", _COMMITS)
        self.lag = histogram(
            "panguard_report_lag_seconds",
            "Seconds from the event time of a batch's oldest threat to its receipt.",
            _DELAYS,
        )
        self.published = histogram(
            "panguard_policy_publish_seconds", "Seconds from a policy change to the broker's confirmation.", _DELAYS
        )
        self.applied = histogram(
            "panguard_policy_apply_seconds", "Seconds from a policy change to the agent's confirmation.", _DELAYS
        )


class TimedStore(PeeweeStore):
    """A store that measures its commits."""

    def __init__(
        self,
        database: Database,
        store_key: bytes,
        histograms: Histograms,
        health: StoreHealth,
        threat_retention: float,
        *,
        fence: Fence | None = None,
    ) -> None:
        super().__init__(database, store_key, health=health, threat_retention=threat_retention, fence=fence)
        self._histograms = histograms

    def commit(self, changes: Changes) -> None:
        """Commit the changes; observe the duration and the age of the oldest threat."""
        began = time.perf_counter()
        super().commit(changes)
        self._histograms.commits.observe(time.perf_counter() - began)
        lags = [row.received_at - row.event_time for row in changes.new_threats if row.time_known]
        if lags:
            self._histograms.lag.observe(max(0.0, *lags))


class TimedPublisher:
    """A publisher that measures the time from a policy change to the broker's confirmation."""

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
        """The number of publications that the broker has not confirmed yet."""
        return self._publisher.backlog

    def publish(self, publication: Publication) -> None:
        """Publish a message; the confirmation of a policy is timed."""
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


class EngineCollector(Collector):
    """Counters and gauges of the engine and the fleet, read at each scrape; times policy confirmations of agents.

    Args:
        engine: the engine that is read.
        histograms: gets the time to each agent's confirmation of a policy.
        expiries: returns the expiry of the certificate of each door, in seconds since 1970.
    """

    def __init__(
        self, engine: Engine, histograms: Histograms, expiries: Callable[[], Mapping[str, float]] = dict
    ) -> None:
        self._engine = engine
        self._histograms = histograms
        self._expiries = expiries
        engine.listeners.append(self._observe_applied)

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics; safe from any thread."""
        engine, fleet = self._engine, self._engine.fleet
        counters = dict(fleet.counters)
        agents = list(fleet.registry.agents.values())
        states = Counter(agent.state for agent in agents)
        current = sum(1 for agent in agents if _has_current_policy(fleet, agent))

        def counter(name: str, about: str, counted: str) -> Metric:
            return CounterMetricFamily(name, about, counters.get(counted, 0))

        yield _labelled(CounterMetricFamily, "panguard_events", "Events counted by the engine.", "event", counters)
        yield counter("panguard_threats_stored", "Stored threats.", "threats_stored")
        yield counter("panguard_dead_letters", "Rejected messages.", "dead_letters")
        yield counter("panguard_incidents_opened", "Opened incidents.", "incident_opened")
        by_state = {state.value: states[state] for state in State}
        yield _labelled(GaugeMetricFamily, "panguard_agents", "Agents by state.", "state", by_state)
        about = "Agents by the means by which their hosts enforce blocks."
        yield _labelled(GaugeMetricFamily, "panguard_agents_by_enforcement", about, "enforcement", _enforcement(agents))
        about = "Measures by what the agents' hosts say of them."
        yield _labelled(GaugeMetricFamily, "panguard_measures", about, "outcome", _measures(agents))
        degraded = sum(1 for agent in agents if agent.condition.health == "degraded")
        for name, about, figure in (
            ("panguard_degraded_agents", "Agents whose sources are not all well.", degraded),
            ("panguard_held_back_agents", "Agents with undelivered reports.", len(fleet.held_back.current)),
            ("panguard_inbox_messages", "Messages and commands in the inbox.", len(engine.inbox)),
            ("panguard_inbox_bytes", "Bytes of payload in the inbox.", engine.inbox.bytes),
            ("panguard_can_commit", "1 if the store can commit, else 0.", float(engine.can_commit)),
            ("panguard_policies_waiting", "Policies that wait for publication.", len(engine.policy_queue)),
            ("panguard_policy_current_agents", "Agents with their newest policy in force.", current),
            ("panguard_policy_revision", "The fleet's policy revision.", fleet.policies.revision),
        ):
            yield GaugeMetricFamily(name, about, figure)
        name = "panguard_certificate_expiry_timestamp_seconds"
        yield _labelled(GaugeMetricFamily, name, "Expiry of a door's certificate.", "door", self._expiries())

    def _observe_applied(self, row: EventRow) -> None:
        """Time an agent's confirmation of its policy."""
        event = row.event
        if event.event != "policy_applied" or event.agent_id is None:
            return
        policy = self._engine.fleet.policies.effective.get(event.agent_id)
        if policy is not None and policy.version == event.data.get("version"):
            self._histograms.applied.observe(max(0.0, event.at.timestamp() - policy.updated_at))


_MEANS = ("nftables", "route", "simulated", "impossible", "unknown")
_OUTCOMES = ("set", "ineffective", "refused", "impossible", "failed")


def _enforcement(agents: Iterable[Agent]) -> dict[str, int]:
    """Return the number of agents by their means of enforcement; words of later releases count as `other`."""
    stated = Counter(agent.condition.enforcement or "unknown" for agent in agents)
    counts = {means: stated.pop(means, 0) for means in _MEANS}
    return {**counts, "other": stated.total()}


def _measures(agents: Iterable[Agent]) -> dict[str, int]:
    stated = [agent.condition.enforced for agent in agents if agent.condition.enforced is not None]
    return {outcome: sum(getattr(each, outcome) for each in stated) for outcome in _OUTCOMES}


def _labelled(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    name: str,
    about: str,
    label: str,
    figures: Mapping[str, float],
) -> Metric:
    family = kind(name, about, labels=[label])
    for value, figure in sorted(figures.items()):
        family.add_metric([value], figure)
    return family


def _has_current_policy(fleet: Fleet, agent: Agent) -> bool:
    policy = fleet.policies.effective.get(agent.agent_id)
    force = agent.in_force
    return policy is not None and (force.version, force.digest) == (policy.version, policy.resolved.digest)
