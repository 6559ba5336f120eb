"""One of several managers on one database: it stands by, leads, and begins anew after it has led.

A manager on PostgreSQL opens its HTTP door at once. While another leads, the door passes requests on; once this one has
the lease, the parts of `manager.runtime.wiring` are built and take the door over. One that has handed the lease over
closes them and stands by again. One that has lost the lease may stand still anywhere, so the process replaces itself by
a new one (`execv`). The listening socket stays open meanwhile: clients wait instead of being refused.
"""

import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from manager.api.agents.worker_door import WorkerDoor
from manager.api.authentication import Credentials
from manager.api.forwarding import ForwardingCodes, Leader, LeaderProxy
from manager.api.middleware.client_address import ClientAddresses
from manager.api.serving.server import ApiServer, listen
from manager.api.standby import NO_LEADER, StandbyApp, StandbyServices
from manager.data_directory import DataDirectory
from manager.domain.access import AccessTokens
from manager.domain.rolling_upgrade import AMONG_MANAGERS, FEATURES
from manager.errors import SetupError
from manager.role import Role
from manager.runtime import clock
from manager.runtime.lease_keeper import INGEST, STANDBY, LeaseKeeper
from manager.runtime.lease_metrics import LeaseCollector
from manager.runtime.membership import Membership, lease_fence
from manager.runtime.transport_security import EMBEDDED, Transport, reachable
from manager.runtime.version import VERSION
from manager.runtime.warm_standby import WarmStandby
from manager.runtime.worker import StandbyWorker
from manager.settings import Settings
from manager.storage.opening import open_migrated_store, open_store_reader
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.lease import LeaseTable, Member, new_member_id
from manager.storage.postgresql.shared_texts import SharedTexts
from manager.storage.rows import access_token
from manager.storage.sealed_values import StoreSecrets, open_secrets
from manager.storage.statements import Statements
from manager.tls.client_context import client_context
from manager.tls.directory import AUTHORITY, TlsDirectory
from schemas.keys import derive

log = structlog.get_logger(__name__)

_LISTENER = "PANGUARD_INHERITED_LISTENER"
_AFTER_STEP_DOWN = 15.0
"""Seconds for which a manager that has stepped down leaves the lease to others."""

_FIRST_LOOK = 5.0
"""Seconds to wait for the first reading of the lease, before the door of a manager that stands by is opened."""

_CLOSING = 5.0
"""Seconds for which a process that begins anew waits for the end of its former door."""

_TOKENS_READ_EVERY = 5.0
_FILES_AWAITED_EVERY = 2.0
_FILES_FOLLOWED_EVERY = 60.0


class MemberProcess:
    """The place of one process among the managers of a database, until the end of its leadership.

    Args:
        settings: the manager's settings, with a database.
        transport: certificates of the doors, and trust in the broker.
        directory: the data directory, locked.
        after: this process's former place, whose lease it has handed over; None for a first one.

    Raises:
        SetupError: the database or the key file cannot be used, or the port is taken.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        directory: DataDirectory,
        after: "MemberProcess | None" = None,
    ) -> None:
        place = settings.store
        if not isinstance(place, DatabaseAddress):
            raise SetupError("several managers need a database: give --database")
        self._settings = settings
        self._role = STANDBY if settings.role is Role.ALL else INGEST
        self._transport = transport
        self._directory = directory
        self._place = place
        self._started = time.monotonic()
        self._stopping = False
        if after is not None:
            self.catch_signals()
            self._stopping = self._stopping or after.is_stopping
        self._door: ApiServer | None = None
        self._worker: StandbyWorker | None = None
        self._closing: threading.Thread | None = None
        self._certificates = transport.watch(lambda: None, dict)
        self._files_due = 0.0
        secrets_of_store = _secrets(directory, place)
        inherited = _inherited_listener() if after is None else after._listener  # noqa: SLF001 -- the same class
        self._listener: socket.socket = inherited or listen(settings.host, settings.port)
        own_id = new_member_id(socket.gethostname())
        table, features = LeaseTable(place), (*FEATURES, *AMONG_MANAGERS)
        self.keeper = LeaseKeeper(
            table,
            Member(own_id, socket.gethostname(), self._address(), _broker(settings), VERSION, features, self._role),
            lambda: clock.read().monotonic,
            is_candidate=settings.role is Role.ALL,
            hold_off=0.0 if after is None else _AFTER_STEP_DOWN,
        )
        codes = ForwardingCodes(derive(secrets_of_store.store_key, b"forwarding"), own_id, lambda: clock.read().wall)
        shared = SharedTexts(
            place, secrets_of_store.values, lambda database: lease_fence(self.keeper, database.connection)
        )
        self._warm = WarmStandby(place, secrets_of_store.store_key, self.keeper)
        self.membership = Membership(self.keeper, codes, self._listener, shared, self._warm.agents)
        directory.shared = shared
        self._tokens: tuple[float, AccessTokens] = (-_TOKENS_READ_EVERY, AccessTokens())

    def stand_by(self, ready: Callable[[str, str], None]) -> bool:
        """Wait for the lease; return whether this manager leads, False after a signal to stop.

        Args:
            ready: called with the addresses of both doors, once another manager is known to lead.

        Raises:
            SetupError: the embedded broker cannot be shared with another manager.
        """
        self.catch_signals()
        self.keeper.start()
        self._wait(lambda: self.keeper.group is not None, _FIRST_LOOK)
        self._refuse_embedded_broker()
        self._wait(lambda: self.keeper.tenure is not None or self.keeper.leader() is not None, 1.0)
        if self.keeper.tenure is not None or self._stopping:
            return not self._stopping
        self._open_standby_door()
        announced = False
        while not self._stopping and self.keeper.tenure is None:
            self.require_schema()
            self._follow_files()
            self.follow_certificates()
            if not announced and self.keeper.leader() is not None:
                announced = True
                log.info("standing_by", leader=_leader(self.keeper))
                self.announce(ready)
            self._warm.tick(lambda: not self._stopping)
            self._wait(lambda: self.keeper.tenure is not None, 0.5)
        if self._stopping:
            self.close_door()
        return not self._stopping

    def open_door(
        self,
        not_ready: Callable[[], str | None],
        collector: Collector,
        door: Callable[[CollectorRegistry, ClientAddresses], WorkerDoor],
    ) -> None:
        """Open the door of an ingest process, which never leads.

        Args:
            not_ready: returns the reason why it takes no messages; None if it does.
            collector: its metrics.
            door: makes what serves agents.
        """
        self.keeper.start()
        self._wait(lambda: self.keeper.group is not None, _FIRST_LOOK)
        self._directory.write_shared_files()
        self._door = self._serve(not_ready, collector, door=door)

    def require_schema(self) -> None:
        """Check that this release still works with the database's schema.

        Raises:
            SetupError: a newer one has removed what it needs.
        """
        if self.keeper.outdated is not None:
            raise SetupError(self.keeper.outdated)

    @property
    def is_stopping(self) -> bool:
        """Whether a signal to stop has arrived while no loop of a leader took it."""
        return self._stopping

    def _follow_files(self) -> None:
        """Write the files that the leader has; soon again while there are none yet, later for what was replaced."""
        now = time.monotonic()
        if now < self._files_due:
            return
        try:
            self._directory.write_shared_files()
        except SetupError as error:
            log.warning("shared_files_not_written", reason=str(error))
        is_complete = self._directory.known_admin_token() is not None
        self._files_due = now + (_FILES_FOLLOWED_EVERY if is_complete else _FILES_AWAITED_EVERY)

    def follow_certificates(self) -> None:
        """Load the door's certificate if its files were replaced, and warn of its expiry."""
        now = clock.read()
        self._certificates.check(now.wall, now.monotonic)

    def close_door(self) -> None:
        """Stop the door of a manager that does not lead; open requests end within a second, while others are served.

        New connections are the next server's: one that this door took would be told that no manager leads. What the
        door's worker has taken is stored and answered before it ends.
        """
        (door, self._door), (worker, self._worker) = (self._door, None), (self._worker, None)

        def end() -> None:
            if door is not None:
                door.stop()
            if worker is not None:
                worker.close()

        if door is not None:
            door.stop_accepting()
        if door is not None or worker is not None:
            self._closing = threading.Thread(target=end, name="standby-door")
            self._closing.start()

    def close(self) -> None:
        """Stop the door, and give up the place among the managers."""
        self.close_door()
        self.keeper.close()

    def begin_anew(self) -> None:
        """Replace this process by one that stands by; the listening socket stays open. Does not return."""
        if self._closing is not None:
            self._closing.join(_CLOSING)
        self._listener.set_inheritable(True)
        os.environ[_LISTENER] = str(self._listener.fileno())
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 -- this program's own words

    def _open_standby_door(self) -> None:
        """Open the door; it has a worker of its own for HTTP agents, unless nobody shares the broker."""
        if self._settings.broker == EMBEDDED:
            self._door = self._serve(self._not_ready)
            return
        self._worker = worker = StandbyWorker(self._settings, self._transport, self._directory, self.keeper)
        worker.start()
        self._door = self._serve(self._not_ready, worker.collector, door=worker.http_door)

    def _serve(
        self,
        not_ready: Callable[[], str | None],
        *collectors: Collector,
        door: Callable[[CollectorRegistry, ClientAddresses], WorkerDoor] | None = None,
    ) -> ApiServer:
        """Start the door of a manager that does not lead."""
        registry = CollectorRegistry()
        for collector in (LeaseCollector(self.keeper), *collectors):
            registry.register(collector)
        settings, codes = self._settings, self.membership.codes
        trust = client_context(None, TlsDirectory(settings.data_dir).certificate(AUTHORITY))
        addresses = ClientAddresses(settings.trusted_networks, settings.trusted_proxies)
        services = StandbyServices(
            leader=self._leader,
            group=self.membership.group,
            not_ready=not_ready,
            credentials=self._credentials,
            addresses=addresses,
            proxy=lambda: LeaderProxy(codes, trust),
            registry=registry,
            version=VERSION,
            uptime=lambda: time.monotonic() - self._started,
            door=None if door is None else door(registry, addresses),
        )
        server = ApiServer(
            StandbyApp(services), settings.host, settings.port, tls=self._transport.http_tls, listener=self._listener
        )
        server.start()
        return server

    def _leader(self) -> Leader | None:
        found = self.keeper.leader()
        return None if found is None or found.id == self.keeper.own_id else Leader(found.id, found.address)

    def _not_ready(self) -> str | None:
        if self.keeper.problem is not None:
            return "the database cannot be read just now"
        return None if self._leader() is not None else NO_LEADER

    def _credentials(self) -> Credentials:
        """Return the admin token and the access tokens in the database, which are read again after some seconds."""
        read_at, access = self._tokens
        if time.monotonic() - read_at >= _TOKENS_READ_EVERY:
            database = open_store_reader(self._place)
            try:
                access = AccessTokens()
                access.load(access_token(row) for row in Statements(database).rows("access.load"))
            finally:
                database.close()
            self._tokens = time.monotonic(), access
        given = self._settings.auth_token.get_secret_value() if self._settings.auth_token else None
        admin_token = given or self._directory.known_admin_token() or secrets.token_hex(32)
        return Credentials(admin_token, lambda _digest: None, access=access, clock=lambda: clock.read().wall)

    def _refuse_embedded_broker(self) -> None:
        group = self.keeper.group
        others = () if group is None else group.others(self.keeper.own_id)
        embedded = [each for each in others if each.broker == EMBEDDED and each.address != self._address()]
        own = self._settings.broker == EMBEDDED and [each for each in others if each.address != self._address()]
        if embedded or own:
            names = ", ".join(sorted({each.hostname for each in embedded or others}))
            self.keeper.close()
            raise SetupError(
                f"the embedded broker ends with its manager, and this database has other managers ({names}): give all"
                " of them one broker of their own by --broker mqtts://HOST:PORT (docs/brokers.md says which)"
            )

    def _address(self) -> str:
        """Return the URL at which other managers reach the HTTP door."""
        if self._settings.address is not None:
            return self._settings.address
        host = self._settings.host
        if reachable(host) != host:
            host = socket.gethostname()
        scheme = "http" if self._transport.http_tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._listener.getsockname()[1]}"

    def announce(self, ready: Callable[[str, str], None]) -> None:
        """Write the addresses of door and broker to the ready file, and call `ready` with them."""
        scheme = "http" if self._transport.http_tls is None else "https"
        host = reachable(self._settings.host)
        http = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._listener.getsockname()[1]}"
        self._directory.write_ready_file(http, self._settings.broker)
        ready(http, self._settings.broker)

    def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done() and not self._stopping and (left := deadline - time.monotonic()) > 0:
            self.keeper.changed.wait(min(left, 0.1))
            self.keeper.changed.clear()

    def catch_signals(self) -> None:
        """Note signals to stop from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


def _secrets(directory: DataDirectory, place: DatabaseAddress) -> StoreSecrets:
    """Migrate the database, and return the secrets that open with the key file; the first manager makes them.

    Raises:
        SetupError: the database belongs to another key file.
    """
    database = open_migrated_store(place)
    try:
        return open_secrets(database, directory.key_file, place)
    finally:
        database.close()


def _inherited_listener() -> socket.socket | None:
    """Return the listening socket of the process that this one replaces; None for a first process."""
    number = os.environ.pop(_LISTENER, "")
    if not number.isdigit():
        return None
    with suppress(OSError):
        inherited = socket.socket(fileno=int(number))
        inherited.set_inheritable(False)
        return inherited
    return None


def _broker(settings: Settings) -> str:
    """Return the broker as other managers may see it: without a user's name."""
    return settings.broker if settings.broker == EMBEDDED else settings.broker.rpartition("@")[2]


def _leader(keeper: LeaseKeeper) -> str | None:
    leader = keeper.leader()
    return None if leader is None else leader.address or leader.hostname
