"""Prepares a fresh Mosquitto for the manager of one data directory: files, credentials, and all agents it knows."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manager.data_directory import DataDirectory
from manager.domain.agent import Agent
from manager.errors import Conflict, SetupError
from manager.provisioning import mosquitto_files
from manager.provisioning.logins import Login, agent_login, manager_login, observer_login
from manager.provisioning.mosquitto_files import Listeners
from manager.provisioning.roles import AccessRole, organization_role, shared_roles
from manager.storage.connection import open_reader, undamaged
from manager.storage.store import PeeweeStore
from schemas.keys import ManagerKeyring

CONFIGURATION = "broker.conf"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was written.

    Attributes:
        directory: Where Mosquitto is to be started.
        agents: How many agents it lets in from the start.
        tls: Whether it speaks TLS; else it listens on loopback alone.
        url: Where the manager finds it on this machine.
    """

    directory: Path
    agents: int
    tls: bool
    url: str


def prepare(
    data_directory: Path,
    directory: Path,
    *,
    host: str | None = None,
    port: int | None = None,
    websocket_port: int | None = None,
    plugin: Path | None = None,
    user: str | None = None,
    force: bool = False,
) -> Prepared:
    """Write what a Mosquitto needs before its first start, the agents in the store included.

    Args:
        data_directory: the manager's; no manager may run on it.
        directory: where the broker's files go.
        host: the address to listen on; with TLS all of them, else loopback.
        port: for MQTT; 8883 with TLS, else 1883.
        websocket_port: for WebSocket; 8884 with TLS, else none.
        plugin: the dynamic-security plugin; looked for if it is not named.
        user: as whom Mosquitto runs and whom the files belong to.
        force: replace what an earlier call has written.

    Raises:
        Conflict: the directory was prepared before.
        SetupError: something is missing or cannot be written; the text says what to do.
    """
    if (directory / mosquitto_files.STATE).exists() and not force:
        raise Conflict(f"{directory} is prepared already; --force writes all of it anew, with Mosquitto stopped")
    found = plugin or mosquitto_files.find_plugin()
    if found is None:
        raise SetupError(f"{mosquitto_files.PLUGIN} is not found: install Mosquitto, or name the file by --plugin")
    directory = directory.absolute()
    with DataDirectory(data_directory) as data:
        agents = [agent for agent in _agents(data) if agent_login(agent) is not None]
        logins = [
            manager_login(data.new_broker_password()),
            observer_login(*data.observer_credential()),
            *_logins(agents),
        ]
        listeners = _listeners(data_directory.absolute(), host, port, websocket_port)
        mosquitto_files.write(
            directory, listeners=listeners, plugin=found, logins=logins, roles=_roles(agents), user=user
        )
    _place_configuration(directory)
    tls = listeners.certificate is not None
    url = f"{'mqtts' if tls else 'mqtt'}://{host or ('localhost' if tls else '127.0.0.1')}:{listeners.port}"
    return Prepared(directory, len(agents), tls, url)


def _agents(data: DataDirectory) -> list[Agent]:
    if not data.store.exists():
        return []
    database = open_reader(data.store)
    try:
        with undamaged(data.store):
            return PeeweeStore(database, ManagerKeyring(data.seed()).store_key).load().agents
    finally:
        database.close()


def _logins(agents: list[Agent]) -> Iterator[Login]:
    for agent in agents:
        login = agent_login(agent)
        if login is not None:
            yield login


def _roles(agents: list[Agent]) -> Iterator[AccessRole]:
    yield from shared_roles()
    yield from map(organization_role, sorted({agent.organization_id for agent in agents}))


def _listeners(data: Path, host: str | None, port: int | None, websocket_port: int | None) -> Listeners:
    """Return where to listen: with the certificate that `panguard manager certs init` made, else on loopback alone."""
    certificate, key = data / "tls" / "broker.crt", data / "tls" / "broker.key"
    if certificate.exists() and key.exists():
        return Listeners(port or 8883, websocket_port or 8884, host, certificate, key)
    if host not in (None, "127.0.0.1", "::1", "localhost"):
        raise SetupError(
            f"{host} can be reached by other machines and there is no certificate: make one first, "
            "by `panguard manager certs init`"
        )
    return Listeners(port or 1883, websocket_port, host)


def _place_configuration(directory: Path) -> None:
    """Put the shipped configuration beside the files that it names, unless one stands there already."""
    target = directory / CONFIGURATION
    if target.exists():
        return
    for folder in (Path(__file__).parents[1], Path(sys.prefix) / "share" / "panguard"):
        if (folder / CONFIGURATION).exists():
            shutil.copyfile(folder / CONFIGURATION, target)
            return
    raise SetupError(f"{CONFIGURATION} is not found: copy the one that came with Panguard to {directory}")
