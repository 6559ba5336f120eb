"""Prepares a new Mosquitto for the manager of one data directory: files, credentials, and the agents in the store."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from manager.data_directory import DataDirectory
from manager.domain.agents.agent import Agent
from manager.errors import Conflict, DataDirectoryInUse, SetupError
from manager.provisioning import mosquitto_files
from manager.provisioning.logins import Login, agent_login, manager_login, observer_login, registration_login
from manager.provisioning.mosquitto_files import Listeners
from manager.provisioning.roles import AccessRole, organization_role, shared_roles
from manager.storage.health import StoreHealth, start_errors
from manager.storage.location import StoreLocation
from manager.storage.opening import open_store_reader
from manager.storage.sealed_values import key_for
from manager.storage.store import PeeweeStore
from manager.tls.directory import AUTHORITY, TlsDirectory
from schemas.keys import derive

CONFIGURATION = "broker.conf"
COPIED_CERTIFICATE, COPIED_KEY = Path("tls/broker.crt"), Path("tls/broker.key")
"""Paths of a copied certificate, relative to the broker's directory, in which Mosquitto is started."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Result of `prepare`.

    Attributes:
        directory: The directory in which to start Mosquitto.
        agents: The number of agents with a login from the start; None if an earlier preparation was left as it was.
        tls: Whether it uses TLS; else it listens on loopback only.
        url: The broker's URL for a manager on this machine.
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
    key_file: Path | None = None,
    store: StoreLocation | None = None,
    once: bool = False,
    force: bool = False,
) -> Prepared:
    """Write the files that a Mosquitto needs before its first start, with the logins of all agents in the store.

    Args:
        data_directory: the manager's; no manager may be running on it.
        directory: the broker's.
        host: the address to listen on; by default all with TLS, else loopback.
        port: for MQTT; 8883 with TLS, else 1883.
        websocket_port: for WebSocket; 8884 with TLS, else none.
        plugin: path of the dynamic-security plugin; by default the installed one.
        user: owner of the files, and the user that Mosquitto runs as; by default yours, for root `mosquitto`.
        copy_certificate: copy certificate and key into the broker's directory, instead of naming the manager's files.
        key_file: the manager's key file; by default the one in its data directory.
        store: the store's place; by default the SQLite file in the data directory.
        once: keep the files of an earlier call, except the copied certificate.
        force: replace the files of an earlier call.

    Raises:
        Conflict: the directory was prepared before.
        SetupError: a file is missing or cannot be written; the text says what to do.
    """
    directory = directory.absolute()
    served = TlsDirectory(data_directory.absolute())
    user = _owner(user)
    listeners = _listeners(served, host, port, websocket_port)
    tls = listeners.certificate is not None
    url = f"{'mqtts' if tls else 'mqtt'}://{host or ('localhost' if tls else '127.0.0.1')}:{listeners.port}"
    prepared = (directory / mosquitto_files.STATE).exists()
    if prepared and not (once or force):
        raise Conflict(f"{directory} is prepared already; --force overwrites all files, with Mosquitto stopped")
    if tls and (copy_certificate or _needs_copies(user)):
        mosquitto_files.copy(directory, _copies(served), user)
        listeners = replace(listeners, certificate=COPIED_CERTIFICATE, key=COPIED_KEY)
    if prepared and not force:
        return Prepared(directory, None, tls, url)
    found = plugin or mosquitto_files.find_plugin()
    if found is None:
        raise SetupError(f"{mosquitto_files.PLUGIN} is not found: install Mosquitto, or name the file by --plugin")
    with _locked(data_directory, key_file) as data:
        agents = [agent for agent in _agents(data, store or data.store) if agent_login(agent) is not None]
        logins = [
            manager_login(data.new_broker_password()),
            observer_login(*data.observer_credential()),
            registration_login(),
            *_logins(agents),
        ]
        if not (directory / CONFIGURATION).exists():
            mosquitto_files.copy(directory, {Path(CONFIGURATION): _shipped_configuration()}, user)
        mosquitto_files.write(
            directory, listeners=listeners, plugin=found, logins=logins, roles=_roles(agents), user=user
        )
    return Prepared(directory, len(agents), tls, url)


@contextmanager
def _locked(data_directory: Path, key_file: Path | None) -> Iterator[DataDirectory]:
    try:
        with DataDirectory(data_directory, key_file) as data:
            yield data
    except DataDirectoryInUse as error:
        raise SetupError(
            f"a manager runs on {data_directory}: stop it by `panguard manager stop --data-dir {data_directory}`,"
            " run this again, start Mosquitto, and then start the manager"
        ) from error


def _owner(user: str | None) -> str | None:
    """Return the user that Mosquitto runs as: started by root it becomes `mosquitto`, and cannot read root's files."""
    if user is not None or os.geteuid() != 0:
        return user
    return mosquitto_files.DEFAULT_USER if mosquitto_files.user_exists(mosquitto_files.DEFAULT_USER) else "root"


def _agents(data: DataDirectory, store: StoreLocation) -> list[Agent]:
    if isinstance(store, Path) and not store.exists():
        return []
    health = StoreHealth(store)
    with start_errors(health):
        health.check_at_start(used=data.was_used)
        with closing(open_store_reader(store)) as database:
            if not database.table_exists("agent"):
                return []
            store_key = derive(key_for(data.key_file, store, database), b"store")
            return PeeweeStore(database, store_key, health=health).load().agents


def _logins(agents: list[Agent]) -> Iterator[Login]:
    for agent in agents:
        login = agent_login(agent)
        if login is not None:
            yield login


def _roles(agents: list[Agent]) -> Iterator[AccessRole]:
    yield from shared_roles()
    yield from map(organization_role, sorted({agent.organization_id for agent in agents}))


def _needs_copies(user: str | None) -> bool:
    """Return whether Mosquitto's user differs from the owner of the manager's files, which no other user can read."""
    return os.geteuid() == 0 and user not in (None, "root")


def _copies(served: TlsDirectory) -> dict[Path, bytes]:
    """Return the certificate files that a broker needs, without the authority's key."""
    wanted = {COPIED_CERTIFICATE: served.certificate("broker"), COPIED_KEY: served.key("broker")}
    if (authority := served.certificate(AUTHORITY)).exists():
        wanted[COPIED_CERTIFICATE.with_name(authority.name)] = authority
    try:
        return {name: path.read_bytes() for name, path in wanted.items()}
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be read: {error.strerror}") from error


def _listeners(served: TlsDirectory, host: str | None, port: int | None, websocket_port: int | None) -> Listeners:
    """Return the listeners: TLS with the certificate of `panguard manager certs init`, else loopback only."""
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
    raise SetupError(f"{CONFIGURATION} is not found: copy the file of Panguard's release to the broker's directory")
