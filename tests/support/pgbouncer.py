"""A PgBouncer of one's own before a private cluster, in a pool mode of one's choice."""

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from manager.storage.postgresql.address import DatabaseAddress, database_address
from tests.support.ports import free_port
from tests.support.waiting import eventually

_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


class Pgbouncer:
    """A context manager around one pooler.

    Args:
        port: the server's.
        mode: `session` or `transaction`.
    """

    def __init__(self, port: int, mode: str) -> None:
        self._server_port = port
        self._mode = mode
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._kept = tempfile.TemporaryDirectory(prefix="pgbouncer-")

    def __enter__(self) -> Self:
        """Start it, and wait until it takes connections."""
        path = shutil.which("pgbouncer", path=_SEARCH_PATH)
        assert path is not None
        file = Path(self._kept.name) / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self._server_port} user=panguard\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self._port}\nauth_type = any\nunix_socket_dir =\n"
            f"pool_mode = {self._mode}\nlog_connections = 0\n"
        )
        user = None
        if os.geteuid() == 0:  # it refuses root
            user = "postgres"
            shutil.chown(self._kept.name, user)
        self._process = subprocess.Popen(  # noqa: S603 -- the test's own
            [path, "-q", str(file)],
            user=user, cwd=self._kept.name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self._takes_connections, what="PgBouncer takes connections")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        self._kept.cleanup()

    def _takes_connections(self) -> bool:
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(f"postgresql://panguard@127.0.0.1:{self._port}/postgres"),
        ):
            return True
        return False

    def address(self, behind: DatabaseAddress) -> DatabaseAddress:
        """Return the address of a database of the server through the pooler."""
        return database_address(f"postgresql://panguard@127.0.0.1:{self._port}/{behind.url.rsplit('/', 1)[1]}")
