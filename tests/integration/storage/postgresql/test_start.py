"""`panguard manager start --database`: with a password from a file, which nothing prints; what it refuses, and why."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.pgbouncer import Pgbouncer
from tests.support.ports import free_port
from tests.support.postgresql import Postgresql
from tests.support.processes import Panguard

pytestmark = pytest.mark.postgresql

PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="module")
def guarded_url() -> Iterator[str]:
    """A database whose user needs a password."""
    with Postgresql(("fsync=off",)) as cluster:
        cluster.execute(f"CREATE ROLE manager LOGIN PASSWORD '{PASSWORD}'")
        cluster.execute("CREATE DATABASE fleet OWNER manager")
        (file,) = cluster.directory.glob("*/pg_hba.conf")
        file.write_text("host all manager 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
        cluster.execute("SELECT pg_reload_conf()")
        yield cluster.url("fleet").replace("panguard@", "manager@")


def words(data: Path, *others: str) -> list[str]:
    ports = ["--port", str(free_port()), "--mqtt-port", str(free_port())]
    return ["manager", "start", "--data-dir", str(data), *ports, *others]


def refused(data: Path, *others: str) -> tuple[int, str]:
    """Return the exit code and everything that a manager prints that does not start."""
    command = [sys.executable, "-m", "panguard", *words(data, *others)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 -- our own
    return done.returncode, done.stdout + done.stderr


def test_a_manager_starts_with_the_password_of_a_file_and_never_prints_it(guarded_url: str, tmp_path: Path) -> None:
    """It has the tables made, and neither its log nor its settings nor its command line has the password."""
    file = tmp_path / "db.password"
    file.write_text(PASSWORD + "\n")
    data, log = tmp_path / "manager", tmp_path / "log"
    given = ("--database", guarded_url, "--database-password-file", str(file))
    running = Panguard(log, *words(data, *given))
    try:
        running.line("ready ")
        arguments = Path(f"/proc/{running.process.pid}/cmdline").read_bytes().decode()
    finally:
        assert running.terminate() == 0
    with psycopg.connect(guarded_url, password=PASSWORD) as connection:
        assert connection.execute("SELECT count(*) FROM enrollment_token").fetchone() == (1,)
    assert not (data / "panguard.db").exists()
    shown = log.read_text() + "\n".join(running.lines) + arguments
    assert "store_migrated" in shown
    assert PASSWORD not in shown


def test_a_wrong_password_is_a_sentence_without_it(guarded_url: str, tmp_path: Path) -> None:
    """The server's reason is given."""
    file = tmp_path / "db.password"
    file.write_text("wrong-horse")
    code, told = refused(tmp_path / "manager", "--database", guarded_url, "--database-password-file", str(file))
    assert (code, "password authentication failed for user" in told, "wrong-horse" in told) == (1, True, False)


def test_a_password_on_the_command_line_is_refused(guarded_url: str, tmp_path: Path) -> None:
    """Before anything connects; the sentence names the file's option."""
    url = guarded_url.replace("manager@", f"manager:{PASSWORD}@")
    code, told = refused(tmp_path / "manager", "--database", url)
    plain = " ".join(told.split())
    assert (code, "--database-password-file" in plain, PASSWORD in told) == (2, True, False)


@pytest.mark.pgbouncer
def test_a_manager_does_not_start_behind_a_pooler(postgresql_cluster: Postgresql, tmp_path: Path) -> None:
    """PgBouncer in transaction mode is named, and nothing is written."""
    address = postgresql_cluster.create_empty()
    with Pgbouncer(postgresql_cluster.port, "transaction") as pooler:
        code, told = refused(tmp_path / "manager", "--database", pooler.address(address).url)
    assert (code, "PgBouncer in transaction mode" in " ".join(told.split())) == (1, True)
    with psycopg.connect(address.url) as connection:
        assert connection.execute("SELECT to_regclass('agent')").fetchone() == (None,)
    postgresql_cluster.drop(address)
