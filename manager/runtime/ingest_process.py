"""A process of role `ingest`: takes its share of the agents' messages from the broker, and stores the reports.

It neither leads nor stands by. Its HTTP door answers `/health` and `/metrics`, and the heartbeats and reports of HTTP
agents; it passes every other request on.
"""

import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from manager.api.agents.worker_door import WorkerDoor
from manager.api.engine_client import EngineClient
from manager.api.middleware.client_address import ClientAddresses
from manager.data_directory import DataDirectory
from manager.domain.budget import Budget
from manager.domain.ingest.topics import shared
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
from manager.runtime.engine_settings import engine_settings, life_key, share_group
from manager.runtime.transport_security import EMBEDDED, Transport
from manager.settings import Settings
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.backend import AGENTS_CHANGED
from manager.storage.postgresql.connection import open_writer
from manager.storage.postgresql.listener import Listener
from manager.storage.sealed_values import open_secrets

if TYPE_CHECKING:
    from manager.runtime.member import MemberProcess

log = structlog.get_logger(__name__)

DEAF = 5.0
"""Seconds without a notification of its own after which a worker defers everything: its agents' keys may be old."""

_DEAF = "the database's notifications do not arrive"
_GATHER = 0.05
_LISTEN_EVERY = 1.0
_CHECK_EVERY = 1.0
_NO_SHARES = (
    "the broker {address} delivers nothing to shared subscriptions, so one process takes all messages: use Mosquitto,"
    " EMQX, HiveMQ or VerneMQ, or run no process with --role ingest"
)


class IngestProcess:
    """The parts of one worker; `serve` runs them in the main thread.

    Args:
        settings: the process's settings.
        transport: trust in the broker.
        directory: the data directory, locked.
        member: the place among the managers of the database.
        stack: closes the opened parts, last first.

    Raises:
        SetupError: the broker cannot be shared, or the database cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        directory: DataDirectory,
        member: "MemberProcess",
        stack: ExitStack,
    ) -> None:
        if settings.broker == EMBEDDED:
            raise SetupError(
                "the embedded broker has no shared subscriptions, by which messages are split among several processes:"
                " give all managers of the database one Mosquitto by --broker mqtts://HOST:PORT"
            )
        place = settings.store
        if not isinstance(place, DatabaseAddress):
            raise SetupError("--role ingest needs a database that several processes share: give --database")
        self._member = member
        self._address = BrokerAddress.parse(settings.broker)
        self._stopping = False
        self._next_check = 0.0
        self._sharers = 1
        self._signs_are_taken = False
        """Whether every manager takes signs of life of HTTP agents from workers: one of an earlier release does not."""
        self._settings = settings
        worker_id = secrets.token_hex(16)
        database = open_writer(place)
        stack.callback(database.close)
        opened = open_secrets(database, directory.key_file, place)
        sealed = opened.values.get("broker_password")
        directory.sealed_broker_password = None if sealed is None else sealed.decode()
        store = ReportStore(database, opened.store_key, settings.threat_retention)
        self._agents = KnownAgents(store.agents)
        self._listener = Listener(place, (AGENTS_CHANGED,), self._hear, interval=_LISTEN_EVERY)
        stack.callback(self._listener.stop)
        self._group = share_group(opened.user_name_key)
        self._link = self._new_link(settings, transport, directory, worker_id)
        self.engine = IngestEngine(
            worker_id,
            life_key(opened.store_key),
            engine_settings(settings),
            store=store,
            agents=self._agents,
            publisher=self._link,
            acknowledge=self._link.acknowledge,
            gather=_GATHER,
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

    def serve(self, ready: Callable[[str, str], None]) -> None:
        """Run until a signal arrives; call `ready` with the addresses of door and broker once messages arrive."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._listener.start()
        self._member.open_door(lambda: self.problem, IngestCollector(self.engine), self._http_door)
        announced = False
        while not self._stopping:
            self._member.require_schema()
            with isolated(self.engine.counters, "step"):
                self._step()
            if not announced and self.problem is None:
                announced = True
                self._member.announce(ready)
        now = clock.read()
        with isolated(self.engine.counters, "stop"):
            if self._is_deaf:
                self.engine.pass_on(_DEAF)
            if not self._is_deaf:
                self.engine.step(now)
            self.engine.hand_over(now, ends=True)
        self._link.close(None)
        self._member.close_door()

    def _step(self) -> None:
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

    def _check(self, now: Instant) -> None:
        self._next_check = now.monotonic + _CHECK_EVERY
        self._member.follow_certificates()
        self._sharers = self._member.sharers()
        self._signs_are_taken = HTTP_SIGNS in self._member.keeper.features()
        self.engine.share(self._sharers)
        self.engine.forget_idle(now)

    def _http_door(self, registry: CollectorRegistry, addresses: ClientAddresses) -> WorkerDoor:
        settings = self._settings
        return WorkerDoor(
            agents=self._agents,
            takes=self._takes,
            engine=EngineClient(self.engine.inbox.submit, self._link.wake),
            addresses=addresses,
            rate_limit=settings.rate_limit,
            report_budget=Budget(settings.agent_messages, settings.agent_bytes, settings.agent_burst),
            sharers=lambda: self._sharers,
            clock=lambda: clock.read().wall,
            registry=registry,
        )

    def _takes(self, segment: str) -> bool:
        """Return whether the worker takes a request of an HTTP agent; a heartbeat is handed over through the broker."""
        if self._stopping or self._is_deaf or self.engine.problem is not None or not self._signs_are_taken:
            return False
        return segment != "heartbeat" or self._link.ready

    def _withdraw(self, reason: str) -> None:
        if self._link.ready:
            log.warning("worker_withdraws", reason=reason)
            self._link.withdraw(reason)

    @property
    def _is_deaf(self) -> bool:
        return self._listener.silent_for > DEAF

    def _hear(self, channel: str, agent_id: str) -> None:
        """Have an agent loaded again whose keys changed; after a new connection, every agent."""
        if channel in {"", AGENTS_CHANGED}:
            self._agents.outdate(agent_id or None)

    def _new_link(
        self, settings: Settings, transport: Transport, directory: DataDirectory, worker_id: str
    ) -> BrokerLink:
        username = self._address.username or "manager"
        given = settings.broker_password
        password = given.get_secret_value() if given else directory.broker_password()
        tls = transport.broker_trust

        def obstacle() -> str | None:
            if self._is_deaf or self.engine.problem is not None:
                return self.problem
            if delivers_shared(self._address, username, password, tls, group=self._group) is False:
                return _NO_SHARES.format(address=self._address)
            return None

        return BrokerLink(
            self._address,
            f"ingest-{worker_id}",
            username,
            password,
            will=None,
            presence=None,
            clock=clock.read,
            before_connect=obstacle,
            tls=tls,
            filters=lambda: shared(self._group),
            clean_session=True,
        )

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._link.wake()


class IngestCollector(Collector):
    """The metrics of a worker: what it took, stored, refused and deferred.

    Args:
        engine: counts it.
    """

    def __init__(self, engine: IngestEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yield one counter with a label for each kind."""
        family = CounterMetricFamily(
            "panguard_ingest", "Messages and reports of this process, by kind", labels=["kind"]
        )
        for kind, count in sorted(dict(self._engine.counters).items()):
            family.add_metric([kind], count)
        yield family
