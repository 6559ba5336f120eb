"""The only place that builds the manager's parts, wires them, and runs them."""

import resource
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import FrameType

import structlog
from peewee import Database

from manager.api.app import create_app
from manager.api.credentials import Credentials
from manager.api.engine_client import EngineClient
from manager.api.middleware.cors import Cors
from manager.api.middleware.peers import Peers
from manager.api.services import Services
from manager.api.serving.server import ApiServer
from manager.broker.embedded_broker import EmbeddedBroker, EmbeddedBrokerAccess
from manager.broker.errors import BrokerNotRunningError, EmbeddedBrokerError
from manager.data_directory import DataDirectory
from manager.domain.agents.agent import digest
from manager.domain.agents.liveness import LivenessTimes
from manager.domain.correlation import CorrelatorSettings
from manager.domain.response import ResponderSettings
from manager.engine.batch import Publication
from manager.engine.commands.requests import CreateToken
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.inbox import Command
from manager.engine.messages import held_back
from manager.engine.ports import BrokerAccess
from manager.engine.settings import EngineSettings
from manager.errors import SetupError
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.broker_link import BrokerLink
from manager.provisioning.dynamic_security import DynamicSecurity, NoBrokerAccess
from manager.provisioning.logins import FleetLogins, observer_login
from manager.provisioning.roles import RESPONSES
from manager.runtime import clock, gc_tuning
from manager.runtime.metrics import Histograms, Measured, MeasuredPublisher, MeasuredStore
from manager.runtime.own_addresses import own_addresses
from manager.runtime.transport import EMBEDDED, Transport, reachable
from manager.runtime.version import VERSION
from manager.settings import Settings
from manager.storage import tables
from manager.storage.connection import open_reader, open_store, undamaged
from manager.storage.migrate import migrate
from manager.storage.queries import StoreQueries
from schemas.errors import TokenError
from schemas.keys import EnrollmentToken, ManagerKeyring
from schemas.model import utc
from schemas.presence import ManagerPresence
from schemas.topics import MANAGER_PRESENCE

log = structlog.get_logger(__name__)

_MANAGER = "manager"
_REGISTRATION = "registration"
_IDLE = 0.25
"""Seconds that the engine waits at most for something to do: what is due by time alone is due within this."""

_STUCK = 0.5
_HEADROOM = 2.0
"""How much faster than the manager's budget the embedded broker lets an agent publish: what is over is told it."""

_CLIENT_ID = "mqtt_client_id"
_BROKER_PORT = "embedded_broker_port"


def run(settings: Settings) -> int:
    """Run a manager until SIGTERM or SIGINT; return its exit code.

    Raises:
        SetupError: it cannot start with these settings.
    """
    transport = Transport.plan(settings)
    _allow_many_connections()
    with ExitStack() as stack:
        directory = stack.enter_context(DataDirectory(settings.data_dir))
        manager = Manager(settings, transport, directory, stack)
        manager.serve(_ready)
    return 0


def _allow_many_connections() -> None:
    """Have as many open files as the system lets this process have: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _ready(http: str, mqtt: str) -> None:
    sys.stdout.write(f"ready http={http} mqtt={mqtt}\n")
    sys.stdout.flush()


class Manager:
    """Store, engine, broker and both doors of one data directory.

    Args:
        settings: how to run.
        transport: what the doors serve, and whom the manager trusts.
        directory: the data directory, locked.
        stack: closes what is opened here, last first.
    """

    def __init__(self, settings: Settings, transport: Transport, directory: DataDirectory, stack: ExitStack) -> None:
        self._settings = settings
        self._transport = transport
        self._directory = directory
        self._stack = stack
        self._stopping = False
        keyring = ManagerKeyring(directory.seed())
        database = self._open_store()
        histograms = Histograms()
        self._store = MeasuredStore(database, keyring.store_key, histograms)
        self._fleet = Fleet(keyring, engine_settings(settings, transport.ca_fingerprint))
        now = clock.read()
        with undamaged(directory.store), gc_tuning.at_rest():
            changed = self._fleet.restore(self._store.load(), self._store.archive.live(now.wall), now.wall)
        self._embedded: EmbeddedBroker | None = None
        self._broker_password = ""
        self._broker_access: BrokerAccess = NoBrokerAccess()
        self.mqtt = self._mqtt_door()
        publisher = MeasuredPublisher(self.mqtt, self._fleet, histograms, lambda: clock.read().wall)
        self.engine = Engine(self._fleet, self._store, publisher, self.mqtt.acknowledge, self._broker_access)
        with undamaged(directory.store), gc_tuning.at_rest():
            self.engine.restore_correlation(clock.read())
        self.engine.store_restored_policies(changed)
        self.mqtt.attach(self.engine.inbox, self.engine)
        self._batches = histograms.batches
        self._certificates = transport.watch(self._reload_broker, self._met_certificates)
        self.http = self._http_server(Measured(self.engine, histograms, self._certificates.expiries))

    def serve(self, ready: Callable[[str, str], None]) -> None:
        """Open the doors, say so once both are open, and work until a signal comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self.http.start()
        self._stack.callback(self.http.stop)
        self.engine.http_door_opened(clock.read())
        gc_tuning.spare()
        announced = False
        while not self._stopping:
            self._mind_the_broker()
            self._work()
            if not announced and self.mqtt.ready:
                announced = True
                self._keep_enrollment_token()
                scheme = "http" if self._transport.http_tls is None else "https"
                http = f"{scheme}://{_bracketed(reachable(self._settings.host))}:{self.http.port}"
                self._directory.write_ready_file(http, str(self.mqtt.address))
                ready(http, str(self.mqtt.address))
        self._close()

    def _work(self) -> None:
        """Take in what is there, and one batch through to its acknowledgements."""
        stuck = not self.engine.can_commit
        self.mqtt.poll(_STUCK if stuck else 0.0 if self.engine.has_work else _IDLE)
        waiting = len(self.engine.inbox)
        if waiting and not stuck:
            self._batches.observe(min(waiting, self._settings.batch_limit))
        now = clock.read()
        if self.engine.suspend_flooding(now):
            self.mqtt.flush()
        self.engine.step(now)
        self._certificates.check(now.wall, now.monotonic)

    def _close(self) -> None:
        log.info("manager_stopping")
        self.engine.stop(clock.read())
        self.mqtt.close(self._presence("offline"))

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self.mqtt.wake()

    def _open_store(self) -> Database:
        database = open_store(self._directory.store)
        self._stack.callback(database.close)
        tables.database.initialize(database)
        for name in migrate(database, self._directory.store):
            log.info("store_migrated", migration=name)
        return database

    def _mqtt_door(self) -> BrokerLink:
        settings = self._settings
        client_id = self._store.meta(_CLIENT_ID)
        if client_id is None:
            client_id = f"manager-{secrets.token_hex(16)}"
            self._store.set_meta(_CLIENT_ID, client_id)
        password: str | None
        other_topics: dict[str, Callable[[bytes], None]] = {}
        if settings.broker == EMBEDDED:
            self._broker_password = secrets.token_urlsafe(32)
            address, username, password = self._start_embedded(), _MANAGER, self._broker_password
            self._broker_access = EmbeddedBrokerAccess(lambda: self._embedded)
        else:
            address = BrokerAddress.parse(settings.broker)
            username = address.username or _MANAGER
            given = settings.broker_password
            password = given.get_secret_value() if given else self._directory.broker_password()
            if password is not None:
                self._broker_access = plugin = self._dynamic_security()
                other_topics[RESPONSES] = plugin.handle_response
        return BrokerLink(
            address,
            client_id,
            username,
            password,
            will=self._presence("offline"),
            presence=lambda: self._presence("online"),
            clock=clock.read,
            other_topics=other_topics,
            tls=self._transport.broker_trust,
        )

    def _dynamic_security(self) -> DynamicSecurity:
        """Return the broker_access of a broker that knows the manager by a password."""
        observer = observer_login(*self._directory.observer_credential())
        logins = FleetLogins(self._fleet.registry.agents, {observer.username: observer})
        return DynamicSecurity(self._publish, logins, self._fleet.counters)

    def _publish(self, publication: Publication) -> None:
        self.mqtt.publish(publication)

    def _start_embedded(self) -> BrokerAddress:
        """Start the embedded broker; it is told who the manager and the observer are, and where the store is."""
        observer, observer_password = self._directory.observer_credential()
        users = {
            _MANAGER: {"sha256": digest(self._broker_password).hex(), "role": "manager"},
            _REGISTRATION: {"sha256": digest(_REGISTRATION).hex(), "role": "registration"},
            observer: {"sha256": digest(observer_password).hex(), "role": "observer"},
        }
        port = self._embedded.port if self._embedded is not None else self._settings.mqtt_port
        files = self._transport.broker
        settings = self._settings
        self._embedded = EmbeddedBroker(
            {
                "host": settings.host,
                "port": port,
                "limits": {
                    "publish_messages": _HEADROOM * settings.agent_messages,
                    "publish_bytes": _HEADROOM * settings.agent_bytes,
                    "publish_burst": settings.agent_burst / _HEADROOM,
                },
                "access": {"store": str(self._directory.store), "users": users},
                **({} if files is None else {"certificate": str(files.certificate), "key": str(files.key)}),
            },
            module="manager.broker_process",
        )
        try:
            port = self._embedded.start()
        except EmbeddedBrokerError as error:
            raise SetupError(str(error)) from error
        self._stack.callback(self._embedded.stop)
        return BrokerAddress(reachable(self._settings.host), port, tls=files is not None)

    def _mind_the_broker(self) -> None:
        """Start an embedded broker again that ended by itself; what it retained is published again."""
        if self._embedded is not None and not self._embedded.alive:
            log.error("embedded_broker_ended", exit_code=self._embedded.exit_code)
            self._start_embedded()

    def _reload_broker(self) -> None:
        if self._embedded is not None:
            with suppress(BrokerNotRunningError):  # the next one reads the new files at its start
                self._embedded.reload_certificate()

    def _met_certificates(self) -> dict[str, float]:
        """Return when the certificate of a broker of its own expires, once it was met."""
        expires_at = self.mqtt.peer_expires_at if self._embedded is None else None
        return {} if expires_at is None else {"mqtt": expires_at}

    def _http_server(self, measurements: Measured) -> ApiServer:
        settings = self._settings
        given = settings.auth_token.get_secret_value() if settings.auth_token else None
        services = Services(
            door=EngineClient(self.engine.inbox.submit, self.mqtt.wake),
            queries=StoreQueries(open_reader(self._directory.store)),
            credentials=Credentials(
                given or self._directory.admin_token(), self._fleet.registry.find_by_http_digest, self._fleet.tokens.get
            ),
            clock=lambda: clock.read().wall,
            version=VERSION,
            started_at=clock.read().wall,
            not_ready=self._not_ready,
            peers=Peers(settings.trusted_networks, settings.trusted_proxies),
            cors=Cors(settings.cors_allowed_origins),
            rate_limit=settings.rate_limit,
            measurements=measurements,
            certificates=self._certificates.records,
            clones=lambda: self._fleet.clones.known,
            held_back=lambda: held_back.records(self._fleet),
        )
        self.engine.listeners.append(services.stream.publish)
        return ApiServer(
            create_app(services),
            settings.host,
            settings.port,
            stopping=services.stream.close,
            tls=self._transport.http_tls,
        )

    def _not_ready(self) -> str | None:
        if not self.engine.can_commit:
            return "the store cannot commit just now"
        if not self.mqtt.ready:
            return f"the broker {self.mqtt.address} is not connected: {self.mqtt.last_error or 'connecting'}"
        return None

    def _keep_enrollment_token(self) -> None:
        """Make the enrollment token without limits at the first start, and have it name whom to trust today."""

        def make() -> str:
            answers: list[EnrollmentToken] = []
            self.engine.inbox.submit(
                Command(CreateToken(author="first start"), lambda value, _error: answers.append(value))
            )
            while not answers:
                self._work()
            return str(answers[0])

        kept = self._directory.enrollment_token(make)
        with suppress(TokenError):  # a damaged one is the operator's to mend
            token = replace(EnrollmentToken.parse(kept), ca_fingerprint=self._transport.ca_fingerprint)
            if str(token) != kept:
                self._directory.replace_enrollment_token(str(token))

    @staticmethod
    def _presence(state: str) -> Publication:
        message = ManagerPresence.model_validate(
            {"state": state, "version": VERSION, "sent_at": utc(clock.read().wall)}
        )
        return Publication(MANAGER_PRESENCE.address(), message.body(), retained=True)


def engine_settings(settings: Settings, ca_fingerprint: str | None = None) -> EngineSettings:
    """Return what of the settings concerns the engine; `ca_fingerprint` is what new tokens carry."""
    return EngineSettings(
        ca_fingerprint=ca_fingerprint,
        sweep_interval=settings.sweep_interval,
        batch_limit=settings.batch_limit,
        agent_messages=settings.agent_messages,
        agent_bytes=settings.agent_bytes,
        burst=settings.agent_burst,
        suspension=settings.suspension,
        threat_retention=settings.threat_retention,
        id_retention=settings.id_retention,
        takeover=settings.takeover_rule,
        republish_after=settings.republish_after,
        snapshot_every=settings.snapshot_every,
        held_back_after=settings.held_back_after,
        times=LivenessTimes(settings.stale_after, settings.settling_time),
        correlator=CorrelatorSettings(settings.source_ip_agents, settings.file_hash_agents, settings.technique_agents),
        responder=ResponderSettings(
            duration=settings.block_duration,
            longest=max(settings.block_duration, ResponderSettings().longest),
            organization_agents=settings.organization_agents,
            blocks=settings.block_limit,
            simulation=settings.simulation,
        ),
        own_addresses=own_addresses(settings.broker),
        admin_networks=settings.admin_networks,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
