"""The broker's password of a worker without the file of `broker init`: sealed in the database, at any time."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from manager.data_directory import DataDirectory
from manager.runtime.broker_password import BrokerPassword
from manager.runtime.lease_keeper import LeaseKeeper
from manager.runtime.transport_security import Transport
from manager.runtime.worker import Worker
from manager.settings import Settings
from manager.storage.opening import open_migrated_store
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.lease import LeaseTable, Member
from manager.storage.sealed_values import BROKER_PASSWORD, SealedValues, open_secrets
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.postgresql, pytest.mark.mosquitto]

_PATIENCE = 120.0


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data") as directory:
        yield directory


@pytest.fixture
def leader(postgresql_address: DatabaseAddress, directory: DataDirectory) -> Iterator[SealedValues]:
    """Provide the sealed values of the database, as the manager that leads writes them."""
    database = open_migrated_store(postgresql_address)
    yield open_secrets(database, directory.key_file, postgresql_address).values
    database.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Provide a Mosquitto that lets in the manager alone, with the password `one`."""
    file = tmp_path / "passwords"
    let_in(file, "one")
    with Mosquitto((f"password_file {file}",), anonymous=False) as broker:
        yield broker


def let_in(file: Path, password: str) -> None:
    """Write the file of the broker's logins; it reads it at its next start."""
    program = shutil.which("mosquitto_passwd")
    assert program is not None
    subprocess.run([program, "-c", "-b", str(file), "manager", password], check=True, capture_output=True)  # noqa: S603


def steps(worker: Worker, done: Callable[[str | None], bool]) -> None:
    """Have a worker step until its problem is such."""
    deadline = time.monotonic() + _PATIENCE
    while not done(worker.problem):
        assert time.monotonic() < deadline, worker.problem
        worker.step()


def is_refused(problem: str | None) -> bool:
    return "Not authorized" in (problem or "")


def takes_messages(problem: str | None) -> bool:
    return problem is None


def test_a_worker_takes_the_password_that_the_leader_seals_after_its_start(
    postgresql_address: DatabaseAddress,
    directory: DataDirectory,
    leader: SealedValues,
    broker: Mosquitto,
    tmp_path: Path,
) -> None:
    """It is refused until then; so it is when broker and leader have another, which it takes then."""
    settings = Settings(data_dir=directory.path, database=postgresql_address.url, broker=broker.url)
    member = Member("w", "host-w", "http://w:8443", "mqtt://broker", "0.1.0", (), "ingest")
    keeper = LeaseKeeper(LeaseTable(postgresql_address), member, time.monotonic)
    with ExitStack() as stack:
        worker = Worker(settings, Transport.plan(settings), directory, keeper, stack, shares=True)
        stack.callback(worker.finish)
        worker.start()
        steps(worker, is_refused)
        leader.keep_text(BROKER_PASSWORD, "one")
        steps(worker, takes_messages)
        let_in(tmp_path / "passwords", "two")
        broker.restart()
        steps(worker, is_refused)
        leader.keep_text(BROKER_PASSWORD, "two")
        steps(worker, takes_messages)


def test_the_password_of_before_is_used_while_the_database_is_away(
    postgresql_address: DatabaseAddress, directory: DataDirectory, leader: SealedValues
) -> None:
    """A broker that starts again then has its worker back, with no look at the database."""
    leader.keep_text(BROKER_PASSWORD, "sealed")
    password = BrokerPassword(Settings(data_dir=directory.path), directory, postgresql_address, leader)
    assert password.read() == "sealed"
    away = DatabaseAddress("postgresql://panguard@127.0.0.1:1/panguard")
    password._place = away
    assert password.read() == "sealed"
    assert BrokerPassword(Settings(data_dir=directory.path), directory, away, leader).read() is None


def test_a_setting_goes_before_the_file_and_the_file_before_what_is_sealed(
    postgresql_address: DatabaseAddress, directory: DataDirectory, leader: SealedValues
) -> None:
    """In this order, each time it is read: the file of `broker init` may come later."""
    leader.keep_text(BROKER_PASSWORD, "sealed")
    password = BrokerPassword(Settings(data_dir=directory.path), directory, postgresql_address, leader)
    assert password.read() == "sealed"
    written = directory.new_broker_password()
    assert password.read() == written != "sealed"
    given = Settings(data_dir=directory.path, broker_password="given")
    assert BrokerPassword(given, directory, postgresql_address, leader).read() == "given"
