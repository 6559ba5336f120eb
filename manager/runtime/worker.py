"""A worker's parts in one process: the store of reports, the known agents, the engine, and its link to the broker.

A process of role `ingest` runs them in its main thread, and takes a share of the agents' messages from the broker. A
manager that stands by runs them in a thread of their own for HTTP agents alone.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from manager.api.agents.worker_door import HOT_SEGMENTS, WorkerDoor
from manager.api.engine_client import EngineClient
from manager.api.middleware.client_address import ClientAddresses
from manager.data_directory import DataDirectory
from manager.domain.budget import Budget
from manager.domain.ingest.gathering import INTERVAL
from manager.domain.ingest.topics import Filters, shared
from manager.domain.instant import Instant
from manager.domain.rolling_upgrade import HTTP_SIGNS
from manager.engine.failure_isolation import isolated
from manager.errors import SetupError
from manager.ingest.engine import LIFE_INTERVAL, IngestEngine
from manager.ingest.known_agents import KnownAgents
from manager.ingest.report_store import ReportStore
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.broker_link import BrokerLink
from manager.mqtt.broker_probe import delivers_shared
from manager.runtime import clock
from manager.runtime.broker_password import BrokerPassword
from manager.runtime.engine_settings import engine_settings, life_key, share_group
from manager.runtime.membership import http_doors, sharers
from manager.runtime.transport_security import Transport
from manager.settings import Settings
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.backend import AGENTS_CHANGED
from manager.storage.postgresql.connection import open_writer
from manager.storage.postgresql.listener import Listener
from manager.storage.sealed_values import open_secrets

if TYPE_CHECKING:
    from manager.runtime.lease_keeper import LeaseKeeper

log = structlog.get_logger(__name__)

DEAF = 5.0
"""Seconds without a notification of its own after which a worker defers everything: its agents' keys may be old."""

_DEAF = "the database's notifications do not arrive"
_LISTEN_EVERY = 1.0
_CHECK_EVERY = 1.0
_CLOSING = 5.0
_ENDS = "this process stops taking requests"
_NO_SHARES = (
    "the broker {address} delivers nothing to shared subscriptions, so one process takes all messages: use Mosquitto,"
    " EMQX, HiveMQ or VerneMQ, or run no process with --role ingest"
)


class Worker:
    """The parts of a worker. One thread calls `step` and `finish`.

    Args:
        settings: the process's settings.
        transport: trust in the broker.
        directory: the data directory, locked.
        keeper: reads the managers of the database.
        stack: closes the opened parts, last first.
        shares: whether it takes a share of the agents' messages from the broker; if not, it serves HTTP agents alone.

    Raises:
        SetupError: the database cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        directory: DataDirectory,
        keeper: "LeaseKeeper",
        stack: ExitStack,
        *,
        shares: bool,
    ) -> None:
        place = settings.store
        if not isinstance(place, DatabaseAddress):
            raise SetupError("--role ingest needs a database that several processes share: give --database")
        self._keeper = keeper
        self._shares = shares
        self._address = BrokerAddress.parse(settings.broker)
        self._ending = False
        self._next_check = 0.0
        self._doors = 1
        self._signs_are_taken = False
        """Whether every manager takes signs of life of HTTP agents from workers: one of an earlier release does not."""
        self._settings = settings
        worker_id = secrets.token_hex(16)
        database = open_writer(place)
        stack.callback(database.close)
        opened = open_secrets(database, directory.key_file, place)
        store = ReportStore(database, opened.store_key, settings.threat_retention)
        self._agents = KnownAgents(store.agents)
        self._listener = Listener(place, (AGENTS_CHANGED,), self._hear, interval=_LISTEN_EVERY)
        stack.callback(self._listener.stop)
        self._group = share_group(opened.user_name_key)
        self._link = self._new_link(BrokerPassword(settings, directory, place, opened.values), transport, worker_id)
        self.engine = IngestEngine(
            worker_id,
            life_key(opened.store_key),
            engine_settings(settings),
            store=store,
            agents=self._agents,
            publisher=self._link,
            acknowledge=self._link.acknowledge,
            gather=INTERVAL,
            is_heard=shares,
        )
        self._link.attach(self.engine.inbox, self.engine)

    @property
    def problem(self) -> str | None:
        """The reason why the worker takes nothing just now; None if it does."""
        if self._is_deaf:
            return _DEAF
        if self.engine.problem is not None:
            return self.engine.problem
        if not self._link.ready:
            return f"the broker {self._link.address} is not connected: {self._link.last_error or 'connecting'}"
        return None

    def takes(self, segment: str) -> bool:
        """Return whether the worker takes a request of an HTTP agent; a heartbeat is handed over through the broker.

        Args:
            segment: the last segment of the request's path.
        """
        if self._ending or self._is_deaf or self.engine.problem is not None or not self._signs_are_taken:
            return False
        return segment != "heartbeat" or self._link.ready

    def start(self) -> None:
        """Begin to listen for changed agents."""
        self._listener.start()

    def end(self) -> None:
        """Take no more requests, and end the wait of `step`; callable from any thread, and from a signal's handler."""
        self._ending = True
        self._link.wake()

    def step(self) -> None:
        """Wait for messages and requests, and process one batch."""
        takes = not self._is_deaf and self.engine.problem is None
        if takes and (pause := self.engine.gathers_for(clock.read().monotonic)):
            self._link.pause(pause)
        self._link.poll(self.engine.idle_for(clock.read().monotonic) if takes else LIFE_INTERVAL / 4)
        now = clock.read()
        if self._is_deaf:
            self.engine.pass_on(_DEAF)
            self._withdraw(_DEAF)
            return
        self.engine.step(now)
        if self.engine.problem is not None:
            self.engine.pass_on(self.engine.problem)
            self._withdraw(self.engine.problem)  # the broker gives this share to others
        if now.monotonic >= self._next_check:
            self._check(now)

    def finish(self) -> None:
        """Process what has arrived, hand it over, and disconnect from the broker; no step follows."""
        now = clock.read()
        with isolated(self.engine.counters, "stop"):
            if self._is_deaf:
                self.engine.pass_on(_DEAF)
            else:
                self.engine.step(now)
            self.engine.hand_over(now, ends=True)
            self.engine.pass_on(_ENDS)
        self._link.close(None)

    def http_door(self, registry: CollectorRegistry, addresses: ClientAddresses) -> WorkerDoor:
        """Return what serves HTTP agents."""
        settings = self._settings
        return WorkerDoor(
            agents=self._agents,
            takes=self.takes,
            engine=EngineClient(self.engine.inbox.submit, self._link.wake),
            addresses=addresses,
            rate_limit=settings.rate_limit,
            report_budget=Budget(settings.agent_messages, settings.agent_bytes, settings.agent_burst),
            sharers=lambda: self._doors,
            clock=lambda: clock.read().wall,
            registry=registry,
        )

    def _check(self, now: Instant) -> None:
        self._next_check = now.monotonic + _CHECK_EVERY
        self._doors = http_doors(self._keeper)
        self._signs_are_taken = HTTP_SIGNS in self._keeper.features()
        self.engine.share(sharers(self._keeper))
        self.engine.forget_idle(now)

    def _withdraw(self, reason: str) -> None:
        if self._shares and self._link.ready:
            log.warning("worker_withdraws", reason=reason)
            self._link.withdraw(reason)

    @property
    def _is_deaf(self) -> bool:
        return self._listener.silent_for > DEAF

    def _hear(self, channel: str, agent_id: str) -> None:
        """Have an agent loaded again whose keys changed; after a new connection, every agent."""
        if channel in {"", AGENTS_CHANGED}:
            self._agents.outdate(agent_id or None)

    def _new_link(self, password: BrokerPassword, transport: Transport, worker_id: str) -> BrokerLink:
        username = self._address.username or "manager"
        tls = transport.broker_trust

        def obstacle() -> str | None:
            if self._is_deaf or self.engine.problem is not None:
                return self.problem
            if delivers_shared(self._address, username, password.known, tls, group=self._group) is False:
                return _NO_SHARES.format(address=self._address)
            return None

        return BrokerLink(
            self._address,
            f"ingest-{worker_id}",
            username,
            password.read,
            will=None,
            presence=None,
            clock=clock.read,
            before_connect=obstacle if self._shares else None,
            tls=tls,
            filters=self._filters,
            clean_session=True,
        )

    def _filters(self) -> Filters:
        return shared(self._group) if self._shares else []


class StandbyWorker:
    """A worker at a manager that stands by, with its thread: it serves HTTP agents until it is closed.

    Args:
        settings: the process's settings.
        transport: trust in the broker.
        directory: the data directory, locked.
        keeper: reads the managers of the database.

    Raises:
        SetupError: the database cannot be used.
    """

    def __init__(
        self, settings: Settings, transport: Transport, directory: DataDirectory, keeper: "LeaseKeeper"
    ) -> None:
        with ExitStack() as stack:
            self._worker = Worker(settings, transport, directory, keeper, stack, shares=False)
            self._stack = stack.pop_all()
        self.collector = IngestCollector(self._worker)
        self.http_door = self._worker.http_door
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="standby-worker", daemon=True)

    def start(self) -> None:
        """Begin to take requests."""
        self._worker.start()
        self._thread.start()

    def close(self) -> None:
        """Store and answer what was taken, hand it over, and close all connections, for as long as the database takes.

        After some seconds this returns in any case: what is not committed by then is not answered.
        """
        self._closing.set()
        self._worker.end()
        self._thread.join(_CLOSING)

    def _run(self) -> None:
        worker = self._worker
        with self._stack:
            while not self._closing.is_set():
                with isolated(worker.engine.counters, "step"):
                    worker.step()
            worker.finish()


class IngestCollector(Collector):
    """The metrics of a worker: what it took, stored, refused and deferred, and which requests it takes just now.

    Args:
        worker: counts it.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        """Yield a counter with a label for each kind, and a gauge with one for each hot route."""
        family = CounterMetricFamily(
            "panguard_ingest", "Messages and reports of this process, by kind", labels=["kind"]
        )
        for kind, count in sorted(dict(self._worker.engine.counters).items()):
            family.add_metric([kind], count)
        yield family
        taking = GaugeMetricFamily(
            "panguard_ingest_taking", "1 if this process takes such requests of HTTP agents just now", labels=["route"]
        )
        for segment in sorted(HOT_SEGMENTS):
            taking.add_metric([segment], self._worker.takes(segment))
        yield taking
