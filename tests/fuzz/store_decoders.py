"""What the manager reads of its own disk: the store, the data directory, certificates, and files of its commands."""

import json
import os
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import ValidationError

from manager.cli.commands.stop import lock_holder
from manager.cli.commands.traffic import _credential, _sign_key
from manager.cli.support.failures import CommandFailed
from manager.cli.support.manager_connection import _token, announced_url
from manager.cli.support.policy_options import read_document
from manager.cli.support.replay_settings import read_replay_settings
from manager.configuration import WrongSetting, read_configuration
from manager.data_directory import DataDirectory
from manager.domain.response import ResponseState
from manager.errors import ManagerError, SetupError
from manager.settings import Settings
from manager.storage.connection import open_store
from manager.storage.health import StoreHealth, start_errors
from manager.storage.migrate import migrate
from manager.storage.store import PeeweeStore
from manager.tls.authority import issue, new_authority
from manager.tls.certificates import CertificateError, contains, read_chain
from manager.tls.client_context import client_context
from manager.tls.directory import AUTHORITY, SERVERS, TlsDirectory
from manager.tls.server_certificate import CertificateFiles
from schemas import topics
from schemas.config_file import ConfigFile
from schemas.errors import ConfigFileError
from schemas.model import utc
from tests.fuzz.decoder import Decoder
from tests.fuzz.place import KEYRING, NOW, TOKEN, Place
from tests.spoiling import hostile, hostile_json, hostile_text

_ISSUED = new_authority(utc(NOW))
_SERVER = issue(_ISSUED, ["127.0.0.1", "manager.example"], utc(NOW), 30)
_CHAIN = _SERVER.certificate_pem + _ISSUED.certificate_pem


def _off_the_curve() -> bytes:
    """Return the authority's certificate with a public key that is no point of its curve."""
    der = bytearray(_ISSUED.certificate.public_bytes(Encoding.DER))
    point = _ISSUED.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    der[der.index(point) + len(point) - 1] ^= 1
    return ssl.DER_cert_to_PEM_cert(bytes(der)).encode()


OFF_THE_CURVE = _off_the_curve()
_AUTHORITIES = st.sampled_from([_ISSUED.certificate_pem, OFF_THE_CURVE])

_COLUMNS: dict[str, SearchStrategy[bytes]] = {
    "agent.tags": st.just(b'["web"]'),
    "agent.addresses": st.just(b'["192.0.2.1"]'),
    "agent.gateways": st.just(b'["192.0.2.254"]'),
    "agent.keys": st.binary(min_size=92, max_size=92),
    "agent.state": st.just(b"online"),
    "agent.door": st.just(b"mqtt"),
    "agent.reason": st.just(b"heartbeat"),
    "enrollment_token.tags": st.just(b'["web"]'),
    "policy_revision.document": st.just(b'{"thresholds":{"autoRespond":80.0},"rules":[]}'),
    "policy_revision.scope": st.sampled_from([b"global", b"organization:acme", b"agent:ag-0123456789abcdef"]),
    "meta.value": st.just(b"3"),
    "threat.document": st.just(b'{"id":"t","threat":{"evidence":{"lastLogin":"2026-01-01T00:00:00Z","filePath":"x"}}}'),
    "incident_response.made_by": st.just(b'["ag-0123456789abcdef"]'),
    "incident_response.state": st.sampled_from([state.value.encode() for state in ResponseState]),
}
"""Columns whose text is read as more than text."""


def _store_row(column: str) -> Callable[[Place, bytes], None]:
    """A store with one column gone bad starts without it, or is refused with a sentence."""
    table, _, name = column.partition(".")

    def call(place: Place, data: bytes) -> None:
        database = _furnished(place)
        with database.atomic() as transaction:
            value = data if name == "keys" else data.decode("utf-8", "replace").replace("\0", "")
            database.execute_sql(f'UPDATE {table} SET "{name}" = ?', (value,))
            try:
                _restart(place)
            finally:
                transaction.rollback()

    return call


def _furnished(place: Place) -> Any:
    bench = place.bench
    if "furnished" not in place.__dict__:
        place.__dict__["furnished"] = True
        agent = place.agent
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp="203.0.113.1", filePath="/x"))
        other = bench.enroll("web-2")
        bench.receive(topics.THREATS, other.agent_id, other.threat(bench.wall, sourceIp="203.0.113.1"))
    return bench.database


def _restart(place: Place) -> None:
    """Do what a start does with the store: load it, restore the fleet, recall what was correlated."""
    from manager.engine.engine import Engine  # noqa: PLC0415 -- only here
    from manager.engine.fleet import Fleet  # noqa: PLC0415 -- only here

    bench = place.bench
    store = PeeweeStore(bench.database, bench.keyring.store_key)
    fleet = Fleet(bench.keyring, bench.settings)
    with start_errors(StoreHealth(bench.directory / "panguard.db")):
        fleet.restore(store.load(), store.archive.live(bench.wall), bench.wall)
        Engine(fleet, store, bench.publisher, lambda _: None, bench.broker_access).restore_correlation(bench.now)
        list(store.archive.revisions())


def _store_file(place: Place, data: bytes) -> None:
    """A damaged file is no store, or one that says what is wrong with it."""
    for name in ("panguard.db", "panguard.db-wal", "panguard.db-shm"):
        (place.folder("damaged") / name).unlink(missing_ok=True)
    path = place.folder("damaged") / "panguard.db"
    path.write_bytes(data)
    health = StoreHealth(path)
    with start_errors(health):
        health.check_at_start(used=False)
        with closing(open_store(path)) as database:
            migrate(database, path)
            PeeweeStore(database, KEYRING.store_key, health=health).load()


def _store_wal(place: Place, data: bytes) -> None:
    """A damaged WAL is refused, or read as far as a crash leaves it."""
    path = place.file("panguard.db", _WITH_WAL[0])
    place.file("panguard.db-wal", data)
    (path.parent / "panguard.db-shm").unlink(missing_ok=True)
    health = StoreHealth(path)
    with start_errors(health):
        health.check_at_start(used=False)
        with closing(open_store(path)) as database:
            migrate(database, path)


def _stored_bytes(path: Path) -> tuple[bytes, bytes, bytes]:
    """Return a store's file without a WAL, and file and WAL of the same store before that."""
    database = open_store(path)
    migrate(database, path)
    with_wal = path.read_bytes(), path.with_name(f"{path.name}-wal").read_bytes()
    database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path.read_bytes(), *with_wal


def _data_directory(place: Place, data: bytes) -> None:
    path = place.folder("data")
    for name in ("manager.key", "admin.token", "observer.credential", "broker.password", "enroll.token"):
        (path / name).write_bytes(data)
    (path / "manager.key").chmod(0o600)
    with DataDirectory(path) as directory:
        for read in (
            directory.key_file.read,
            directory.admin_token,
            directory.observer_credential,
            directory.broker_password,
            lambda: directory.enrollment_token(lambda: str(TOKEN)),
        ):
            try:
                read()
            except SetupError:
                continue


def _command_files(place: Place, data: bytes) -> None:
    directory = place.file("manager.ready", data).parent
    announced_url(directory, "http")
    place.file("enroll.token", data)
    _sign_key(directory)
    lock_holder(place.file("manager.pid", data))
    path = place.file("any", data)
    for read in (
        lambda: _token(path, directory),
        lambda: _credential(path),
        lambda: read_document(path),
        lambda: read_replay_settings(path),
    ):
        try:
            read()
        except CommandFailed:
            continue


def _certificates(place: Place, data: bytes) -> None:
    path, key = place.file("some.crt", data), place.file("some.key", _SERVER.key_pem)
    for read in (
        lambda: read_chain(path),
        lambda: contains(path, read_chain(path)[0]),
        lambda: client_context(path),
        lambda: CertificateFiles(path, key).context(),
        lambda: CertificateFiles(place.file("good.crt", _CHAIN), place.file("bad.key", data)).context(),
    ):
        try:
            read()
        except CertificateError:
            continue


def _authority(place: Place, data: bytes) -> None:
    root = place.folder("authority")
    own = TlsDirectory(root)
    if not own.path.exists():
        own.init((), utc(NOW))
    good = {name: own.certificate(name).read_bytes() for name in (AUTHORITY, *SERVERS)}
    try:
        own.certificate(AUTHORITY).write_bytes(data)
        for read in (own.authority, own.certificates, own._issuer):
            try:
                read()
            except CertificateError:
                continue
    finally:
        for name, content in good.items():
            own.certificate(name).write_bytes(content)


def _environment(_place: Place, data: bytes) -> None:
    """Every setting may hold any text that an environment can."""
    text = data.decode("utf-8", "surrogateescape").replace("\0", "")
    names = [f"PANGUARD_{name.upper()}" for name in Settings.model_fields] + [
        "MANAGER_AUTH_TOKEN",
        "CORS_ALLOWED_ORIGINS",
    ]
    name = names[len(data) % len(names)]
    before = os.environ.get(name)
    try:
        os.environ[name] = text
        Settings()
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _config_file(place: Place, data: bytes) -> None:
    """The settings file of a manager; `line` reads its statements one by one."""
    file = place.directory / "manager.toml"
    file.write_bytes(data)
    try:
        ConfigFile.parse("manager.toml", data).line("port")
        read_configuration({}, file)
    finally:
        file.unlink()


def _store_files() -> SearchStrategy[bytes]:
    import tempfile  # noqa: PLC0415 -- only here

    with tempfile.TemporaryDirectory() as directory:
        whole, *_WITH_WAL[:] = _stored_bytes(Path(directory) / "panguard.db")
    return hostile(st.just(whole))


def _store_wals() -> SearchStrategy[bytes]:
    if not _WITH_WAL:
        _store_files()
    return hostile(st.just(_WITH_WAL[1]))


_WITH_WAL: list[bytes] = []
"""File and WAL of a store that was not stopped cleanly."""
_STORE_FILES = st.deferred(_store_files)
_STORE_WALS = st.deferred(_store_wals)
_JSON_FILES = st.sampled_from(
    [
        json.dumps({"http": "http://127.0.0.1:8443", "mqtt": "mqtt://127.0.0.1:1883", "pid": 7}).encode(),
        json.dumps({"correlator": {"sourceIpAgents": 3}, "ownAddresses": ["192.0.2.1"]}).encode(),
        Path("examples/policy.json").read_bytes(),
        Path("examples/replay.json").read_bytes(),
    ]
)

STORE = (
    *(
        Decoder(f"store {column}", "disk", hostile_json(valid), _store_row(column), (ManagerError,), slow=True)
        if column.split(".")[1] in {"tags", "addresses", "gateways", "document", "made_by"}
        else Decoder(f"store {column}", "disk", hostile(valid), _store_row(column), (ManagerError,), slow=True)
        for column, valid in _COLUMNS.items()
    ),
    Decoder("store file", "disk", _STORE_FILES, _store_file, (ManagerError,), slow=True),
    Decoder("store WAL", "disk", _STORE_WALS, _store_wal, (ManagerError,), slow=True),
    Decoder(
        "data directory",
        "disk",
        hostile_text("00" * 32, "observer:secret", str(TOKEN), "a-token"),
        _data_directory,
    ),
    Decoder(
        "command files", "disk", hostile_json(_JSON_FILES) | hostile_text(str(TOKEN), "12345", "a:b"), _command_files
    ),
    Decoder("certificates", "disk", hostile(st.sampled_from([_CHAIN, _SERVER.key_pem])), _certificates, slow=True),
    Decoder(
        "own authority",
        "disk",
        hostile(st.sampled_from([_ISSUED.certificate_pem, OFF_THE_CURVE])),
        _authority,
        slow=True,
    ),
    Decoder(
        "settings",
        "operator",
        hostile_text("1", "0.5", "embedded", "10.0.0.0/8,::1", "true", "allow"),
        _environment,
        (ValidationError,),
    ),
    Decoder(
        "settings file",
        "operator",
        hostile_text('port = 1\nstale_after = "15m"\n', "prot = 1", "[notifications.mail]\nurl = 'x'\n"),
        _config_file,
        (ConfigFileError, WrongSetting),
    ),
)
