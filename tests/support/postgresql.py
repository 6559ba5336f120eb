"""A PostgreSQL of one's own: a private cluster on a socket and port of its own, and a database for each test."""

import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
import pytest
from psycopg import sql

from manager.storage.postgresql.address import DatabaseAddress, database_address
from manager.storage.postgresql.migrate import migrate_postgresql
from tests.support.blank_database import BlankDatabase
from tests.support.ports import free_port
from tests.support.waiting import eventually

_DEBIAN = Path("/usr/lib/postgresql")
_TEMPLATE = "panguard_template"
_MOST_SPARES = 12
_FAST = ("fsync=off", "synchronous_commit=on", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200")


@functools.cache
def postgresql_programs() -> Path | None:
    """Return the directory of the server's programs; None where they are not installed."""
    newest = sorted(_DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found = str(newest[-1]) if newest else shutil.which("postgres")
    return Path(found).resolve().parent if found else None


class Postgresql:
    """A context manager around one cluster; it keeps its port and its files from start to start.

    PostgreSQL refuses root: as root the cluster runs as the user `postgres`.

    Args:
        lines: settings beyond the defaults, as `name=value`; where a test kills the server, none that forgo durability.
        home: where its directory is made; the system's directory of temporary files by default.
    """

    def __init__(self, lines: Sequence[str] = (), home: Path | None = None) -> None:
        self.port = free_port()
        self.environment: dict[str, str] = {}
        """Variables of the server's environment from its next start on."""
        self._lines = lines
        self._kept = tempfile.TemporaryDirectory(prefix="postgresql-", dir=home)
        self.directory = Path(self._kept.name)
        self._data = self.directory / "data"
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._migrated: set[str] = set()
        self._spares: list[DatabaseAddress] = []

    @property
    def pid(self) -> int | None:
        """The server's main process, or None."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        """Make the cluster and start it."""
        self._make()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and remove its files."""
        self.stop()
        self._kept.cleanup()

    def _make(self) -> None:
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._run("initdb", "-D", str(self._data), "-U", "panguard", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def _run(self, program: str, *arguments: str) -> None:
        programs = postgresql_programs()
        assert programs is not None
        command = [str(programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self.directory)  # noqa: S603 -- the test's own

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        programs = postgresql_programs()
        assert programs is not None
        settings = (
            f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.directory}", *self._lines
        )  # fmt: skip
        options = [part for setting in settings for part in ("-c", setting)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- the test's own
                [str(programs / "postgres"), "-D", str(self._data), *options],
                stdout=log, stderr=log, user=self._user, cwd=self.directory,
                env={**os.environ, **self.environment},
            )  # fmt: skip
        eventually(self._takes_connections, what="PostgreSQL takes connections", pause=0.02)

    def _takes_connections(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.directory / "log").read_text(errors="replace")[-3000:])
        try:
            with psycopg.connect(self.url("postgres")):
                return True
        except psycopg.OperationalError:
            return False

    def stop(self) -> None:
        """End the server, and its connections with it."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server as a crash does; its sessions end too, and the next start recovers from the WAL."""
        self._end(signal.SIGQUIT)

    def kill_all(self) -> None:
        """End each of the server's processes with SIGKILL, the first one first."""
        process, self._process = self._process, None
        if process is None:
            return
        found = [psutil.Process(process.pid)]
        with suppress(psutil.NoSuchProcess):
            found += found[0].children(recursive=True)
        for each in found:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait(60)
        psutil.wait_procs(found, 60)

    def back_up(self) -> Path:
        """Return a copy of the running cluster's files, as a stand-by server has them."""
        copy = self.directory / f"copy-{next(self._numbers)}"
        self._run("pg_basebackup", "-D", str(copy), "-d", self.url("postgres"), "-c", "fast", "-X", "stream")
        return copy

    def fail_over(self, copy: Path) -> None:
        """End the server as a crash does, and promote the copy in its place: later commits are lost."""
        self.kill()
        shutil.rmtree(self._data)
        copy.rename(self._data)
        self._promote()

    def promote(self) -> None:
        """End the server as a crash does, and start it with its files as the primary of a new timeline."""
        self.kill()
        self._promote()

    def _promote(self) -> None:
        (self._data / "standby.signal").touch()
        self.start()
        self.execute("SELECT pg_promote()")

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(60)

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://panguard@127.0.0.1:{self.port}/{name}"

    def address(self, name: str) -> DatabaseAddress:
        """Return the address of a database."""
        return database_address(self.url(name))

    def execute(self, text: str, name: str = "postgres", params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement outside a transaction; return its rows."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(text, params or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def create_empty(self) -> DatabaseAddress:
        """Return the address of a new database without tables."""
        return self._create(None)

    def create_migrated(self) -> DatabaseAddress:
        """Return the address of a new database with this release's schema: one that was dropped, or a new copy."""
        self._blank()
        if self._spares:
            return self._spares.pop()
        address = self._create(_TEMPLATE)
        self._migrated.add(address.url)
        return address

    @functools.cache  # noqa: B019 -- a cluster lives as long as the tests
    def _blank(self) -> BlankDatabase:
        """Make the template of migrated databases; return what it has."""
        self.execute(f"CREATE DATABASE {_TEMPLATE}")
        migrate_postgresql(self.address(_TEMPLATE))
        with psycopg.connect(self.url(_TEMPLATE)) as connection:
            return BlankDatabase.of(connection)

    def _create(self, template: str | None) -> DatabaseAddress:
        name = f"test_{next(self._numbers)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template0")
        )
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)
        return self.address(name)

    def drop(self, address: DatabaseAddress, *, may_be_kept: bool = True) -> None:
        """End a database's connections and drop it; a migrated one is made blank and kept for the next that is made."""
        if (
            may_be_kept
            and address.url in self._migrated
            and len(self._spares) < _MOST_SPARES
            and self._is_restored(address)
        ):
            self._spares.append(address)
            return
        self._migrated.discard(address.url)
        name = address.url.rsplit("/", 1)[1]
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _is_restored(self, address: DatabaseAddress) -> bool:
        try:
            with psycopg.connect(address.url) as connection:
                return self._blank().restore(connection)
        except psycopg.Error:
            return False


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[Postgresql]:
    """Provide the cluster of this worker; it forgoes durability, so a test that kills a server makes its own."""
    with Postgresql(_FAST) as cluster:
        yield cluster


@pytest.fixture
def postgresql_empty(postgresql_cluster: Postgresql) -> Iterator[DatabaseAddress]:
    """Provide a new database without tables."""
    address = postgresql_cluster.create_empty()
    yield address
    postgresql_cluster.drop(address)


@pytest.fixture
def postgresql_address(postgresql_cluster: Postgresql) -> Iterator[DatabaseAddress]:
    """Provide a new database with this release's schema, which a test may change."""
    address = postgresql_cluster.create_migrated()
    yield address
    postgresql_cluster.drop(address, may_be_kept=False)
