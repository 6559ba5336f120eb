"""Wiring of the MQTT door: the link to an embedded broker or a Mosquitto, and the broker's access control."""

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog

from manager.broker.errors import EmbeddedBrokerError
from manager.broker.supervisor import BrokerSupervisor, EmbeddedBrokerAccess
from manager.data_directory import DataDirectory
from manager.domain.agents.agent import digest
from manager.domain.ingest.topics import ALL, OF_THE_LEADER, shared
from manager.engine.batch import Publication
from manager.engine.fleet import Fleet
from manager.engine.ports import BrokerAccess
from manager.errors import SetupError
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.broker_link import BrokerLink
from manager.mqtt.broker_probe import delivers_shared, find_obstacle
from manager.mqtt.rival_managers import RivalManagers
from manager.provisioning.dynamic_security import DynamicSecurity, NoBrokerAccess
from manager.provisioning.logins import FleetLogins, observer_login, registration_login
from manager.provisioning.roles import ALL_REGISTRATIONS, RESPONSES
from manager.runtime import clock
from manager.runtime.engine_settings import share_group
from manager.runtime.transport_security import EMBEDDED, Transport, reachable
from manager.runtime.version import VERSION
from manager.settings import Settings
from manager.storage.location import location_record
from manager.storage.store import PeeweeStore
from schemas.model import utc
from schemas.presence import ManagerPresence
from schemas.topics import MANAGER_PRESENCE

if TYPE_CHECKING:
    from manager.runtime.membership import Membership

log = structlog.get_logger(__name__)

_MANAGER = "manager"
_REGISTRATION = "registration"
_HEADROOM = 2.0
"""Factor by which the embedded broker's rate limit exceeds the manager's budget, so that receipts name the excess."""

_CLIENT_ID = "mqtt_client_id"
_STORE_ID = "store_id"


class MqttDoor:
    """The link to the broker, the broker's access control, and the supervisor of an embedded broker.

    Args:
        settings: the manager's settings.
        transport: certificates and trust.
        directory: the data directory.
        store: stores the client id and the store's id.
        fleet: the registered agents.
        stack: stops an embedded broker at its end.
        broker_password: the password at a prepared broker, which a setting goes before; None without one.
        membership: the place among the managers of a database; None for a store of its own.

    Raises:
        SetupError: the embedded broker does not start.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        directory: DataDirectory,
        *,
        store: PeeweeStore,
        fleet: Fleet,
        stack: ExitStack,
        broker_password: str | None,
        membership: "Membership | None" = None,
    ) -> None:
        self._membership = membership
        self._broker_password = broker_password
        self._filters = ALL
        self._group = share_group(fleet.keyring.user_name_key)
        self._settings = settings
        self._transport = transport
        self._directory = directory
        self._fleet = fleet
        self._supervisor: BrokerSupervisor | None = None
        self._dynamic_security: DynamicSecurity | None = None
        self._last_problem: str | None = None
        self.store_id = _stored_value(store, _STORE_ID, lambda: f"store-{secrets.token_hex(8)}")
        self._instance = secrets.token_hex(8)
        self._since = clock.read().wall
        self._rivals = RivalManagers(self._presence)
        client_id = _stored_value(store, _CLIENT_ID, lambda: f"{_MANAGER}-{secrets.token_hex(16)}")
        self.access: BrokerAccess
        self.link = self._embedded(client_id, stack) if settings.broker == EMBEDDED else self._external(client_id)
        self.link.begin_connecting()

    @property
    def address(self) -> BrokerAddress:
        """The broker's address."""
        return self.link.address

    @property
    def problem(self) -> str | None:
        """The reason why the door is not ready; None if it is."""
        if self._supervisor is not None and self._supervisor.problem is not None:
            return self._supervisor.problem
        if not self.link.ready:
            return f"the broker {self.address} is not connected: {self.link.last_error or 'connecting'}"
        return self._dynamic_security.problem if self._dynamic_security is not None else None

    def warning(self) -> str | None:
        """Return the sentence on another manager that tries to use this broker; None without one."""
        return self._rivals.warning()

    def tick(self) -> None:
        """Log once if the broker admits no agent."""
        plugin = self._dynamic_security
        problem = plugin.problem if plugin is not None and self.link.ready and plugin.is_missing else None
        if problem is not None and problem != self._last_problem:
            log.error("broker_admits_no_agent", broker=str(self.address), reason=problem)
        self._last_problem = problem

    def reload_certificate(self) -> None:
        """Make an embedded broker reload its certificate files."""
        if self._supervisor is not None:
            self._supervisor.reload_certificate()

    def peer_expiries(self) -> dict[str, float]:
        """Return the expiry of an external broker's certificate in seconds since 1970, once it was seen."""
        expires_at = self.link.peer_expires_at if self._supervisor is None else None
        return {} if expires_at is None else {"mqtt": expires_at}

    def close(self) -> None:
        """Publish the sign-off and disconnect."""
        self.link.close(self._rivals.publication("offline"))

    def _embedded(self, client_id: str, stack: ExitStack) -> BrokerLink:
        """Start the embedded broker with a new password for this manager, and return the link to the broker."""
        password = secrets.token_urlsafe(32)
        self._supervisor = supervisor = BrokerSupervisor(self._configuration(password), module="manager.broker_process")
        try:
            port = supervisor.start()
        except EmbeddedBrokerError as error:
            raise SetupError(str(error)) from error
        stack.callback(supervisor.stop)
        self.access = EmbeddedBrokerAccess(supervisor)
        tls = self._transport.broker is not None
        return self._link(BrokerAddress(reachable(self._settings.host), port, tls=tls), client_id, _MANAGER, password)

    def _configuration(self, password: str) -> dict[str, object]:
        observer, observer_password = self._directory.observer_credential()
        users = {
            _MANAGER: {"sha256": digest(password).hex(), "role": "manager"},
            _REGISTRATION: {"sha256": digest(_REGISTRATION).hex(), "role": "registration"},
            observer: {"sha256": digest(observer_password).hex(), "role": "observer"},
        }
        settings, files = self._settings, self._transport.broker
        return {
            "host": settings.host,
            "port": settings.mqtt_port,
            "limits": {
                "publish_messages": _HEADROOM * settings.agent_messages,
                "publish_bytes": _HEADROOM * settings.agent_bytes,
                "publish_burst": settings.agent_burst / _HEADROOM,
            },
            "access": {"store": location_record(settings.store), "users": users},
            **({} if files is None else {"certificate": str(files.certificate), "key": str(files.key)}),
        }

    def _external(self, client_id: str) -> BrokerLink:
        """Return the link to an external broker; with a password its dynamic-security plugin is provisioned."""
        settings = self._settings
        address = BrokerAddress.parse(settings.broker)
        username = address.username or _MANAGER
        given = settings.broker_password
        password = given.get_secret_value() if given else self._broker_password
        self.access = NoBrokerAccess()
        handlers: dict[str, Callable[[bytes], None]] = {MANAGER_PRESENCE.address(): self._on_presence}
        if password is not None:
            observer = observer_login(*self._directory.observer_credential())
            fixed = {login.username: login for login in (observer, registration_login())}
            logins = FleetLogins(self._fleet.registry.agents, fixed)
            self.access = self._dynamic_security = plugin = DynamicSecurity(
                self._publish, logins, self._fleet.counters, time.monotonic
            )
            handlers[RESPONSES] = plugin.handle_response
        tls = self._transport.broker_trust

        def obstacle() -> str | None:
            found = find_obstacle(self._rivals, address, username, password, tls, cleared_filter=ALL_REGISTRATIONS)
            if found is None and self._membership is not None:
                shares = delivers_shared(address, username, password, tls, group=self._group)
                self._filters = ALL if shares is False else [*OF_THE_LEADER, *shared(self._group)]
            return found

        return self._link(address, client_id, username, password, handlers=handlers, before_connect=obstacle)

    def _link(
        self,
        address: BrokerAddress,
        client_id: str,
        username: str,
        password: str | None,
        *,
        handlers: dict[str, Callable[[bytes], None]] | None = None,
        before_connect: Callable[[], str | None] | None = None,
    ) -> BrokerLink:
        return BrokerLink(
            address,
            client_id,
            username,
            lambda: password,
            will=self._rivals.publication("offline"),
            presence=lambda: self._rivals.publication("online"),
            clock=clock.read,
            other_topics=handlers,
            cleared_filter=None if before_connect is None else ALL_REGISTRATIONS,
            before_connect=before_connect,
            filters=lambda: self._filters,
            possible_filters=(*ALL, *OF_THE_LEADER, *shared(self._group)),
            tls=self._transport.broker_trust,
            may_publish=(lambda: True) if self._membership is None else self._membership.keeper.leads,
        )

    def _publish(self, publication: Publication) -> None:
        self.link.publish(publication)

    def _on_presence(self, payload: bytes) -> None:
        """Handle another manager's presence: disconnect if it was first, else publish this manager's presence again."""
        self._rivals.note(payload)
        conflict = self._rivals.conflict(payload, with_earlier_only=True)
        if conflict is not None:
            self.link.withdraw(conflict)
        elif self.link.ready and self._rivals.wants_answer(payload):
            self.link.publish(self._rivals.publication("online"))

    def _presence(self, state: str) -> ManagerPresence:
        return ManagerPresence.model_validate(
            {
                "state": state,
                "version": VERSION,
                "sent_at": utc(clock.read().wall),
                "store_id": self.store_id,
                "instance": self._instance,
                "since": utc(self._since),
                "epoch": None if self._membership is None else self._membership.epoch,
            }
        )


def _stored_value(store: PeeweeStore, key: str, make: Callable[[], str]) -> str:
    """Return a stored value, which is generated at the first start."""
    value = store.meta(key)
    if value is None:
        value = make()
        store.set_meta(key, value)
    return value
