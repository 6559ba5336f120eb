"""Supervisor of the embedded broker: configures and starts its process, and starts it again when it ends."""

import secrets
from contextlib import ExitStack, suppress

import structlog

from manager.broker.embedded_broker import EmbeddedBroker, EmbeddedBrokerAccess
from manager.broker.errors import BrokerNotRunningError, EmbeddedBrokerError
from manager.data_directory import DataDirectory
from manager.domain.agents.agent import digest
from manager.errors import SetupError
from manager.mqtt.broker_address import BrokerAddress
from manager.runtime.transport import Transport, reachable
from manager.settings import Settings

log = structlog.get_logger(__name__)

MANAGER_USER = "manager"
_REGISTRATION_USER = "registration"
_HEADROOM = 2.0
"""Rate limit of the embedded broker, relative to an agent's budget at the engine, which defers by receipt."""


class BrokerSupervisor:
    """Keeps the embedded broker running.

    Args:
        settings: address, port and limits.
        transport: the certificate that the broker serves.
        directory: has the store that the broker reads logins from, and the observer's credential.
        stack: stops the broker at the end.
    """

    def __init__(self, settings: Settings, transport: Transport, directory: DataDirectory, stack: ExitStack) -> None:
        self._settings = settings
        self._transport = transport
        self._directory = directory
        self._stack = stack
        self._broker: EmbeddedBroker | None = None
        self.password = secrets.token_urlsafe(32)
        """The manager's password at the broker; new for each process of the manager."""
        self.access = EmbeddedBrokerAccess(lambda: self._broker)

    def start(self) -> BrokerAddress:
        """Start the broker and return its address.

        Raises:
            SetupError: it does not start.
        """
        port = self._broker.port if self._broker is not None else self._settings.mqtt_port
        broker = self._broker = EmbeddedBroker(self._config(port), module="manager.broker_process")
        try:
            port = broker.start()
        except EmbeddedBrokerError as error:
            raise SetupError(str(error)) from error
        self._stack.callback(broker.stop)
        return BrokerAddress(reachable(self._settings.host), port, tls=self._transport.broker is not None)

    def restart_if_ended(self) -> None:
        """Start the broker again if its process ended; its retained messages are published again at the connect."""
        if self._broker is not None and not self._broker.alive:
            log.error("embedded_broker_ended", exit_code=self._broker.exit_code)
            self.start()

    def reload_certificate(self) -> None:
        """Make the broker serve the certificate that is in its files now."""
        if self._broker is not None:
            with suppress(BrokerNotRunningError):  # the next process reads the new files at its start
                self._broker.reload_certificate()

    def _config(self, port: int) -> dict[str, object]:
        settings, files = self._settings, self._transport.broker
        observer, observer_password = self._directory.observer_credential()
        users = {
            MANAGER_USER: {"sha256": digest(self.password).hex(), "role": "manager"},
            _REGISTRATION_USER: {"sha256": digest(_REGISTRATION_USER).hex(), "role": "registration"},
            observer: {"sha256": digest(observer_password).hex(), "role": "observer"},
        }
        return {
            "host": settings.host,
            "port": port,
            "limits": {
                "publish_messages": _HEADROOM * settings.agent_messages,
                "publish_bytes": _HEADROOM * settings.agent_bytes,
                "publish_burst": settings.agent_burst / _HEADROOM,
            },
            "access": {"store": str(self._directory.store), "users": users},
            **({} if files is None else {"certificate": str(files.certificate), "key": str(files.key)}),
        }
