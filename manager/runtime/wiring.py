"""Wiring: the only place that builds the manager's parts and connects them."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

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
from manager.domain.budget import Budget
from manager.domain.instant import Instant
from manager.domain.policies.alerting import alerting_of, channels_named
from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.domain.response.organization_step import ORGANIZATION_RESPONSE
from manager.domain.response.response_record import REMEMBERED
from manager.engine.clock_monitor import pending_step
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.messages import held_back
from manager.notifications.engine_commands import EngineCommands
from manager.notifications.notifier import Notifier, Sender
from manager.notifications.settings import read_channels
from manager.runtime import clock, gc_tuning
from manager.runtime.engine_settings import engine_settings, keyed_id, life_key
from manager.runtime.metrics import EngineCollector, Histograms, TimedPublisher, TimedStore
from manager.runtime.mqtt_door import MqttDoor
from manager.runtime.notification_metrics import NotificationCollector
from manager.runtime.transport_security import Transport
from manager.runtime.version import VERSION
from manager.settings import Settings
from manager.storage.backends import Fence
from manager.storage.connection import close_store
from manager.storage.health import StoreHealth, start_errors
from manager.storage.opening import open_migrated_store, open_store_reader, problem_of_notifications
from manager.storage.queries import StoreQueries
from manager.storage.sealed_values import BROKER_PASSWORD, StoreSecrets, key_for, open_secrets
from schemas.keys import EnrollmentToken, ManagerKeyring

if TYPE_CHECKING:
    from manager.runtime.hand_over import LeaderHandOver
    from manager.runtime.membership import Membership

log = structlog.get_logger(__name__)


class Phases:
    """Measures the phases of a start, which follow on each other; the first one begins now.

    Args:
        clock: seconds on a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self.seconds: dict[str, float] = {}
        """The durations in seconds, in the order of the phases."""

    def end(self, name: str) -> None:
        """End a phase; the next one begins."""
        now = self._clock()
        self.seconds[name] = round(now - self._began, 3)
        self._began = now


class Manager:
    """Store, engine, broker and both doors of one data directory; `manager.runtime.loop` runs them.

    Args:
        settings: the manager's settings.
        transport: certificates of the doors, and trust in the broker.
        directory: the data directory, locked.
        stack: closes the opened parts, last first.
        membership: the place among the managers of the database, which this one leads; None for a store of its own.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        directory: DataDirectory,
        stack: ExitStack,
        membership: "Membership | None" = None,
    ) -> None:
        self.settings = settings
        self.membership = membership
        self.step_down_requested = False
        self.transport = transport
        self.directory = directory
        self._rotations = Lock()
        self.phases = Phases(lambda: clock.read().monotonic)
        channels = read_channels(settings.notifications)
        registry = CollectorRegistry()
        histograms = Histograms(registry)
        self.batches = histograms.batches
        self._place = settings.store
        self._health = StoreHealth(self._place)
        given = settings.auth_token.get_secret_value() if settings.auth_token else None
        self._admin_token = given or directory.admin_token()
        now = clock.read()
        with start_errors(self._health), gc_tuning.paused():
            database, opened, fence = self._open_store(stack)
            admin_text = keyed_id(opened.store_key, self._admin_token)
            keyring = ManagerKeyring(opened.signing_keys.seed, opened.user_name_key)
            self._fleet = Fleet(keyring, engine_settings(settings, transport.ca_fingerprint, admin_text))
            self._fleet.use_signing_keys(opened.signing_keys)
            broker_password = opened.values.keep_text(BROKER_PASSWORD, directory.broker_password())
            self._store = TimedStore(
                database, opened.store_key, histograms, self._health, settings.threat_retention, fence=fence
            )
            self._store.sealed = opened.values
            if settings.organization_response is not None:
                self._store.set_meta(ORGANIZATION_RESPONSE, settings.organization_response.value)
            changed = self._restore_fleet(now)
        self.mqtt_door = MqttDoor(
            settings,
            transport,
            directory,
            store=self._store,
            fleet=self._fleet,
            stack=stack,
            broker_password=broker_password,
            membership=membership,
        )
        self.mqtt = self.mqtt_door.link
        publisher = TimedPublisher(self.mqtt, self._fleet, histograms, lambda: clock.read().wall)
        self.engine = Engine(self._fleet, self._store, publisher, self.mqtt.acknowledge, self.mqtt_door.access)
        with start_errors(self._health), gc_tuning.paused():
            self.engine.restore_correlation(clock.read())
            self.phases.end("correlation_restored")
        self.engine.store_restored_policies(changed)
        self.mqtt.attach(self.engine.inbox, self.engine)
        self.hand_over = None if membership is None else self._follow_workers(membership, opened.store_key, stack)
        self.caught_up_at = clock.read().monotonic
        self.certificates = transport.watch(self.mqtt_door.reload_certificate, self.mqtt_door.peer_expiries)
        self.certificates.tell = self.engine.system_events.certificate
        registry.register(EngineCollector(self.engine, histograms, self.certificates.expiries))
        queries = StoreQueries(open_store_reader(self._place), self._health, self._store.figures)
        sender = Sender(self.mqtt_door.store_id, VERSION, socket.gethostname(), directory.webhook_secret)
        commands = EngineCommands(self.engine.inbox.submit, self.mqtt.wake)
        self.notifier = Notifier(channels, sender, queries, commands, lambda: clock.read().wall)
        self.engine.listeners.append(self.notifier.on_event)
        registry.register(NotificationCollector(self.notifier))
        self.http = self._http_server(registry, queries)

    def _open_store(self, stack: ExitStack) -> tuple[Database, StoreSecrets, Fence | None]:
        """Open the store with this release's schema, and the secrets in it; return also the fence of its writer."""
        place, key_file = self._place, self.directory.key_file
        self._health.check_at_start(used=self.directory.was_used)
        if isinstance(place, Path):
            key_for(key_file, place)  # before anything is changed
        database = open_migrated_store(place)
        stack.callback(close_store, database)
        self._notifications_problem = problem_of_notifications(place, stack)
        fence = None if self.membership is None else self.membership.fence(database)
        secrets = open_secrets(database, key_file, place)
        self.phases.end("store_open")
        return database, secrets, fence

    def _restore_fleet(self, now: Instant) -> list[EffectivePolicy]:
        """Load the stored state into memory; return the policies that this release resolves differently."""
        snapshot = self._store.load(None if self.membership is None else self.membership.warm)
        self.phases.end("state_loaded")
        step = pending_step(snapshot.meta, self._fleet.settings.boot_id, now)
        responding = self._store.archive.responding(now.wall - step - REMEMBERED)
        changed = self._fleet.restore(snapshot, responding, now.wall, step)
        self.phases.end("fleet_restored")
        return changed

    def _follow_workers(self, membership: "Membership", store_key: bytes, stack: ExitStack) -> "LeaderHandOver | None":
        from manager.runtime.hand_over import LeaderHandOver  # noqa: PLC0415 -- imports psycopg

        if isinstance(self._place, Path):
            return None
        self._fleet.life_key = life_key(store_key)
        return LeaderHandOver(self._place, membership, self.engine, self.mqtt, stack)

    def not_ready(self) -> str | None:
        """Return the reason why the manager is not ready; None if it is."""
        if self._health.damage is not None:
            return self._health.damage
        if self.membership is not None and not self.membership.keeper.leads():
            return "this manager does not hold the lease just now: it neither writes nor publishes"
        if not self.engine.can_commit:
            return "the store cannot commit just now"
        return self._notifications_problem() or self.mqtt_door.problem

    def global_channels(self) -> list[str]:
        """Return the channels that the global policy names."""
        return list(alerting_of(self._fleet.policies.documents, None)["channels"])

    def _warnings(self) -> list[str]:
        """Return the warnings for operators."""
        fleet = self._fleet
        damage = [] if self._health.damage is None else [self._health.damage]
        foreign = fleet.foreign_key_warning()
        rival = self.mqtt_door.warning()
        lasting = (*fleet.warnings.values(), *(each for each in (foreign, rival) if each is not None))
        sentences = (*lasting, *fleet.document_warnings.sentences)
        named = {name for document in tuple(fleet.policies.documents.values()) for name in channels_named(document)}
        return [*damage, *sentences, *self.notifier.warnings(named)]

    def _lag(self) -> dict[str, float | int]:
        """Return the seconds since nothing waited for the engine, and the number of messages that wait."""
        behind = max(0.0, clock.read().monotonic - self.caught_up_at)
        return {"behindSeconds": round(behind, 3), "waitingMessages": len(self.engine.inbox)}

    def _follow_rotation(self, token: EnrollmentToken) -> None:
        """Write a rotated enrollment token to its file; called in any thread, and not twice at once."""
        with self._rotations:
            stored = self._fleet.tokens.get(token.token_id)
            if stored is None or stored.proof_key != token.proof_key:
                return  # it was rotated again meanwhile
            try:
                self.directory.follow_rotation(token)
            except OSError as error:  # the caller has the token; the next start writes another
                log.warning("token_file_not_written", reason=str(error))

    def _follow_keys(self) -> None:
        """Write the enrollment token with the active signing key to its file; called in any thread."""
        with self._rotations:
            try:
                self.directory.name_sign_key(self._fleet.keyring.sign_public)
            except OSError as error:  # the token of before works for 30 days; the next start writes it
                log.warning("token_file_not_written", reason=str(error))

    def _step_down(self, force: bool) -> str | None:
        """Ask the loop to hand the lease over; return why not, or None. Called in the server's thread."""
        if self.membership is None:
            return "this manager has a store of its own, and no other can lead in its place"
        refusal = None if force else self.membership.refusal_to_step_down()
        if refusal is None:
            self.step_down_requested = True
            self.mqtt.wake()
        return refusal

    def _http_server(self, registry: CollectorRegistry, queries: StoreQueries) -> ApiServer:
        if self.membership is not None:
            registry.register(self.membership.collector())
        settings, fleet = self.settings, self._fleet
        engine = EngineClient(self.engine.inbox.submit, self.mqtt.wake)
        services = Services(
            engine=engine,
            queries=queries,
            credentials=Credentials(
                self._admin_token,
                fleet.registry.find_by_http_digest,
                fleet.tokens.get,
                fleet.access,
                lambda: clock.read().wall,
                sessions=fleet.sessions,
            ),
            clock=lambda: clock.read().wall,
            version=VERSION,
            started_at=clock.read().wall,
            not_ready=self.not_ready,
            client_addresses=ClientAddresses(
                settings.trusted_networks,
                settings.trusted_proxies,
                None if self.membership is None else self.membership.codes.address,
            ),
            cors_origins=tuple(settings.cors_allowed_origins),
            rate_limit=settings.rate_limit,
            report_budget=Budget(settings.agent_messages, settings.agent_bytes, settings.agent_burst),
            sharers=lambda: 1 if self.hand_over is None else self.hand_over.http_doors,
            registry=registry,
            certificates=self.certificates.records,
            spellings=fleet.registry.spellings,
            beginning_with=fleet.registry.beginning_with,
            refused_registrations=fleet.refused_registrations.current,
            clones=lambda: fleet.clones.known,
            held_back=lambda: held_back.records(fleet),
            warnings=self._warnings,
            lag=self._lag,
            user_names=fleet.user_names,
            broker=lambda: str(self.mqtt.address),
            channels=frozenset(settings.notifications),
            notifications=self.notifier,
            group=None if self.membership is None else self.membership.group,
            step_down=self._step_down,
            on_token_rotated=self._follow_rotation,
            on_keys_changed=self._follow_keys,
        )
        self.engine.listeners.append(services.stream.publish)

        def on_stop() -> None:
            services.stream.close()
            engine.close()

        return ApiServer(
            create_app(services),
            settings.host,
            settings.port,
            on_stop=on_stop,
            tls=self.transport.http_tls,
            listener=None if self.membership is None else self.membership.listener,
        )
