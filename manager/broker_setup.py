"""Prepares a fresh Mosquitto for the manager of one data directory: files, credentials, and all agents it knows."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from manager.data_directory import DataDirectory
from manager.domain.agents.agent import Agent
from manager.errors import Conflict, SetupError
from manager.provisioning import mosquitto_files
from manager.provisioning.logins import Login, agent_login, manager_login, observer_login
from manager.provisioning.mosquitto_files import Listeners
from manager.provisioning.roles import AccessRole, organization_role, shared_roles
from manager.storage.connection import open_reader, undamaged
from manager.storage.store import PeeweeStore
from manager.tls.directory import AUTHORITY, TlsDirectory
from schemas.keys import ManagerKeyring

CONFIGURATION = "broker.conf"
COPIED_CERTIFICATE, COPIED_KEY = Path("tls/broker.crt"), Path("tls/broker.key")
"""Where a copied certificate is, seen from the broker's directory, in which Mosquitto is started."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was written.

    Attributes:
        directory: Where Mosquitto is to be started.
        agents: How many agents it lets in from the start; None if it was prepared before and left as it was.
        tls: Whether it speaks TLS; else it listens on loopback alone.
        url: Where the manager finds it on this machine.
    """

    directory: Path
    agents: int | None
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
    copy_certificate: bool = False,
    once: bool = False,
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
        copy_certificate: put the certificate and its key into the broker's directory, instead of naming the manager's.
        once: leave what an earlier call has written, but for the copied certificate.
        force: replace what an earlier call has written.

    Raises:
        Conflict: the directory was prepared before.
        SetupError: something is missing or cannot be written; the text says what to do.
    """
    directory = directory.absolute()
    served = TlsDirectory(data_directory.absolute())
    listeners = _listeners(served, host, port, websocket_port)
    tls = listeners.certificate is not None
    url = f"{'mqtts' if tls else 'mqtt'}://{host or ('localhost' if tls else '127.0.0.1')}:{listeners.port}"
    prepared = (directory / mosquitto_files.STATE).exists()
    if prepared and not (once or force):
        raise Conflict(f"{directory} is prepared already; --force writes all of it anew, with Mosquitto stopped")
    if copy_certificate and tls:
        mosquitto_files.copy(directory, _copies(served), user)
        listeners = replace(listeners, certificate=COPIED_CERTIFICATE, key=COPIED_KEY)
    if prepared and not force:
        return Prepared(directory, None, tls, url)
    found = plugin or mosquitto_files.find_plugin()
    if found is None:
        raise SetupError(f"{mosquitto_files.PLUGIN} is not found: install Mosquitto, or name the file by --plugin")
    with DataDirectory(data_directory) as data:
        agents = [agent for agent in _agents(data) if agent_login(agent) is not None]
        logins = [
            manager_login(data.new_broker_password()),
            observer_login(*data.observer_credential()),
            *_logins(agents),
        ]
        if not (directory / CONFIGURATION).exists():
            mosquitto_files.copy(directory, {Path(CONFIGURATION): _shipped_configuration()}, user)
        mosquitto_files.write(
            directory, listeners=listeners, plugin=found, logins=logins, roles=_roles(agents), user=user
        )
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


def _copies(served: TlsDirectory) -> dict[Path, bytes]:
    """Return what a broker of its own needs of the manager's certificates; the authority's key is not among it."""
    wanted = {COPIED_CERTIFICATE: served.certificate("broker"), COPIED_KEY: served.key("broker")}
    if (authority := served.certificate(AUTHORITY)).exists():
        wanted[COPIED_CERTIFICATE.with_name(authority.name)] = authority
    try:
        return {name: path.read_bytes() for name, path in wanted.items()}
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be read: {error.strerror}") from error


def _listeners(served: TlsDirectory, host: str | None, port: int | None, websocket_port: int | None) -> Listeners:
    """Return where to listen: with the certificate that `panguard manager certs init` made, else on loopback alone."""
    certificate, key = served.certificate("broker"), served.key("broker")
    if certificate.exists() and key.exists():
        return Listeners(port or 8883, websocket_port or 8884, host, certificate, key)
    if host not in (None, "127.0.0.1", "::1", "localhost"):
        raise SetupError(
            f"{host} can be reached by other machines and there is no certificate: make one first, "
            "by `panguard manager certs init`"
        )
    return Listeners(port or 1883, websocket_port, host)


def _shipped_configuration() -> bytes:
    for folder in (Path(__file__).parents[1], Path(sys.prefix) / "share" / "panguard"):
        if (folder / CONFIGURATION).exists():
            return (folder / CONFIGURATION).read_bytes()
    raise SetupError(f"{CONFIGURATION} is not found: copy the one that came with Panguard to the broker's directory")
