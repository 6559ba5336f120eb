"""Wiring: the only place that builds the manager's parts and connects them."""

import secrets
from collections.abc import Callable
from contextlib import ExitStack

import structlog
from peewee import Database
from prometheus_client import CollectorRegistry

from manager.api.app import create_app
from manager.api.authentication import Credentials
from manager.api.engine_client import EngineClient
from manager.api.middleware.client_address import ClientAddresses
from manager.api.services import Services
from manager.api.serving.server import ApiServer
from manager.data_directory import DataDirectory
from manager.engine.batch import Publication
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.messages import held_back
from manager.engine.ports import BrokerAccess
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.broker_link import BrokerLink
from manager.provisioning.dynamic_security import DynamicSecurity, NoBrokerAccess
from manager.provisioning.logins import FleetLogins, observer_login
from manager.provisioning.roles import RESPONSES
from manager.runtime import clock, gc_tuning
from manager.runtime.broker_supervisor import MANAGER_USER, BrokerSupervisor
from manager.runtime.engine_settings import engine_settings
from manager.runtime.metrics import EngineCollector, Histograms, TimedPublisher, TimedStore
from manager.runtime.transport import EMBEDDED, Transport
from manager.runtime.version import VERSION
from manager.settings import Settings
from manager.storage import tables
from manager.storage.connection import open_reader, open_store, undamaged
from manager.storage.migrate import migrate
from manager.storage.queries import StoreQueries
from schemas.keys import ManagerKeyring
from schemas.model import utc
from schemas.presence import ManagerPresence
from schemas.topics import MANAGER_PRESENCE

log = structlog.get_logger(__name__)

_CLIENT_ID = "mqtt_client_id"


class Manager:
    """Store, engine, broker and both doors of one data directory; `manager.runtime.loop` runs them.

    Args:
        settings: the manager's settings.
        transport: certificates of the doors, and trust in the broker.
        directory: the data directory, locked.
        stack: closes the opened parts, last first.
    """

    def __init__(self, settings: Settings, transport: Transport, directory: DataDirectory, stack: ExitStack) -> None:
        self.settings = settings
        self.transport = transport
        self.directory = directory
        keyring = ManagerKeyring(directory.seed())
        database = _open_store(directory, stack)
        registry = CollectorRegistry()
        histograms = Histograms(registry)
        self._store = TimedStore(database, keyring.store_key, histograms)
        self._fleet = Fleet(keyring, engine_settings(settings, transport.ca_fingerprint))
        now = clock.read()
        with undamaged(directory.store), gc_tuning.paused():
            changed = self._fleet.restore(self._store.load(), self._store.archive.live(now.wall), now.wall)
        self.broker = BrokerSupervisor(settings, transport, directory, stack) if settings.broker == EMBEDDED else None
        self._broker_access: BrokerAccess = NoBrokerAccess()
        self.mqtt = self._broker_link()
        publisher = TimedPublisher(self.mqtt, self._fleet, histograms, lambda: clock.read().wall)
        self.engine = Engine(self._fleet, self._store, publisher, self.mqtt.acknowledge, self._broker_access)
        with undamaged(directory.store), gc_tuning.paused():
            self.engine.restore_correlation(clock.read())
        self.engine.store_restored_policies(changed)
        self.mqtt.attach(self.engine.inbox, self.engine)
        self.batches = histograms.batches
        self.certificates = transport.watch(self._reload_broker_certificate, self._broker_certificate_expiry)
        registry.register(EngineCollector(self.engine, histograms, self.certificates.expiries))
        self.http = self._http_server(registry)

    def presence(self, state: str) -> Publication:
        """Return the manager's retained presence."""
        message = ManagerPresence.model_validate(
            {"state": state, "version": VERSION, "sent_at": utc(clock.read().wall)}
        )
        return Publication(MANAGER_PRESENCE.address(), message.body(), retained=True)

    def not_ready(self) -> str | None:
        """Return the reason for which the manager is not ready; None if it is."""
        if not self.engine.can_commit:
            return "the store cannot commit just now"
        if not self.mqtt.ready:
            return f"the broker {self.mqtt.address} is not connected: {self.mqtt.last_error or 'connecting'}"
        return None

    def _broker_link(self) -> BrokerLink:
        settings = self.settings
        password: str | None
        other_topics: dict[str, Callable[[bytes], None]] = {}
        if self.broker is not None:
            address, username, password = self.broker.start(), MANAGER_USER, self.broker.password
            self._broker_access = self.broker.access
        else:
            address = BrokerAddress.parse(settings.broker)
            username = address.username or MANAGER_USER
            given = settings.broker_password
            password = given.get_secret_value() if given else self.directory.broker_password()
            if password is not None:
                self._broker_access = plugin = self._dynamic_security()
                other_topics[RESPONSES] = plugin.handle_response
        return BrokerLink(
            address,
            self._client_id(),
            username,
            password,
            will=self.presence("offline"),
            presence=lambda: self.presence("online"),
            clock=clock.read,
            other_topics=other_topics,
            tls=self.transport.broker_trust,
        )

    def _client_id(self) -> str:
        """Return the manager's MQTT client id; it is kept, because the broker's session belongs to it."""
        client_id = self._store.meta(_CLIENT_ID)
        if client_id is None:
            client_id = f"manager-{secrets.token_hex(16)}"
            self._store.set_meta(_CLIENT_ID, client_id)
        return client_id

    def _dynamic_security(self) -> DynamicSecurity:
        observer = observer_login(*self.directory.observer_credential())
        logins = FleetLogins(self._fleet.registry.agents, {observer.username: observer})
        return DynamicSecurity(self._publish, logins, self._fleet.counters)

    def _publish(self, publication: Publication) -> None:
        self.mqtt.publish(publication)  # the link is built after the plugin

    def _reload_broker_certificate(self) -> None:
        if self.broker is not None:
            self.broker.reload_certificate()

    def _broker_certificate_expiry(self) -> dict[str, float]:
        """Return the expiry of the certificate of an external broker, after the first connection."""
        expires_at = self.mqtt.peer_expires_at if self.broker is None else None
        return {} if expires_at is None else {"mqtt": expires_at}

    def _http_server(self, registry: CollectorRegistry) -> ApiServer:
        settings, fleet = self.settings, self._fleet
        given = settings.auth_token.get_secret_value() if settings.auth_token else None
        services = Services(
            engine=EngineClient(self.engine.inbox.submit, self.mqtt.wake),
            queries=StoreQueries(open_reader(self.directory.store)),
            credentials=Credentials(
                given or self.directory.admin_token(), fleet.registry.find_by_http_digest, fleet.tokens.get
            ),
            clock=lambda: clock.read().wall,
            version=VERSION,
            started_at=clock.read().wall,
            not_ready=self.not_ready,
            client_addresses=ClientAddresses(settings.trusted_networks, settings.trusted_proxies),
            cors_origins=tuple(settings.cors_allowed_origins),
            rate_limit=settings.rate_limit,
            registry=registry,
            certificates=self.certificates.records,
            clones=lambda: fleet.clones.known,
            held_back=lambda: held_back.records(fleet),
        )
        self.engine.listeners.append(services.stream.publish)
        return ApiServer(
            create_app(services),
            settings.host,
            settings.port,
            on_stop=services.stream.close,
            tls=self.transport.http_tls,
        )


def _open_store(directory: DataDirectory, stack: ExitStack) -> Database:
    database = open_store(directory.store)
    stack.callback(database.close)
    tables.database.initialize(database)
    for name in migrate(database, directory.store):
        log.info("store_migrated", migration=name)
    return database
