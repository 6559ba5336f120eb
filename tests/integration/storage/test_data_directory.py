"""The data directory over starts and stops of a real manager: store, key, and the sentences when one is wrong."""

import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from manager.data_directory import DataDirectory
from manager.errors import SetupError
from manager.storage.connection import PAGE
from manager.storage.sealed_values import key_for
from tests.support.engine import Bench
from tests.support.processes import ManagerProcess, Panguard

HOST = {"hostname": "web-1", "os": "linux", "arch": "x64", "version": "1.4.2"}
STORE, KEY = "panguard.db", "manager.key"


def refused(manager: ManagerProcess) -> str:
    """Start a manager that cannot start; return what it says on standard error."""
    log = manager.home / "refused.log"
    log.write_bytes(b"")
    words = ("manager", "start", "--data-dir", str(manager.data), "--port", "0", "--mqtt-port", "0")
    process = Panguard(log, *words).process
    try:
        assert process.wait(60) == 1
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return log.read_text()


def test_a_clean_stop_leaves_everything_in_the_stores_file(tmp_path: Path) -> None:
    """After a stop the WAL is empty or gone, so that a copy of the one file is a copy of the store."""
    with ManagerProcess(tmp_path) as manager, manager.client() as admin:
        told = admin.post("/api/agents/register", json=HOST).json()
        assert manager.stop() == 0
        store = manager.data / STORE
        wal = store.with_name(f"{STORE}-wal")
        assert not wal.exists() or wal.stat().st_size == 0
        (tmp_path / "copy").write_bytes(store.read_bytes())
        for name in (f"{STORE}-wal", f"{STORE}-shm", STORE):
            (manager.data / name).unlink(missing_ok=True)
        store.write_bytes((tmp_path / "copy").read_bytes())
        manager.start()
        assert manager.agent("web-1")["agentId"] == told["agentId"]


BACKUP, DAMAGED, BELONGS = (
    "put the key file back from a backup",
    "put it back from a backup",
    "this database belongs to another key file",
)


@pytest.mark.long("tests/integration/storage/test_key_file.py")
def test_a_lost_key_is_never_replaced_beside_a_store_with_agents(tmp_path: Path) -> None:
    """Without a key, with a damaged or another manager's, nothing starts or is written; with the key it starts."""
    with ManagerProcess(tmp_path) as manager, manager.client() as admin:
        told = admin.post("/api/agents/register", json=HOST).json()
        assert manager.stop() == 0
        path, store = manager.data / KEY, (manager.data / STORE).read_bytes()
        good = path.read_bytes()
        cases = ((None, BACKUP, "remove"), ("no key", DAMAGED, "remove"), ("ab" * 32, BELONGS, "damaged"))
        for key, sentence, wrong in cases:
            path.unlink()
            if key is not None:
                path.touch(0o600)
                path.write_text(key)
            said = refused(manager)
            assert sentence in said
            assert wrong not in said
            assert "Traceback" not in said
            assert path.exists() == (key is not None)
            assert (manager.data / STORE).read_bytes() == store
            path.touch(0o600)
        path.write_bytes(good)
        manager.start()
        assert manager.agent("web-1")["agentId"] == told["agentId"]


def test_a_damaged_store_ends_the_start_in_one_sentence(tmp_path: Path) -> None:
    """The process ends with exit code 1 and the remedy, without a traceback."""
    with ManagerProcess(tmp_path) as manager:
        assert manager.stop() == 0
        store = manager.data / STORE
        content = bytearray(store.read_bytes())
        content[PAGE * 3 : PAGE * 4] = bytes(PAGE)
        store.write_bytes(content)
        said = refused(manager)
        assert "is damaged (" in said
        assert "Traceback" not in said
        assert store.read_bytes() == bytes(content)
        manager.running = None


def test_a_key_is_created_where_nobody_needs_another(tmp_path: Path) -> None:
    """An empty directory, and a store without agents and tokens, get a new key; a damaged key is moved by a person."""
    with DataDirectory(tmp_path) as directory:
        key = key_for(directory.key_file, directory.store)
        assert key_for(directory.key_file, directory.store) == key
        (tmp_path / KEY).unlink()
        with closing(Bench(tmp_path).database):
            pass
        assert key_for(directory.key_file, directory.store) != key
        (tmp_path / KEY).write_text("no key")
        with pytest.raises(SetupError, match="move it aside"):
            key_for(directory.key_file, directory.store)


def test_a_missing_key_stays_missing_beside_a_store_with_agents(tmp_path: Path) -> None:
    """No key is created, and the advice is to put the right one back."""
    with DataDirectory(tmp_path) as directory:
        bench = Bench(tmp_path)
        bench.enroll("srv-01")
        bench.database.close()
        with pytest.raises(SetupError, match=BACKUP) as caught:
            key_for(directory.key_file, directory.store)
        assert "aside" not in str(caught.value)
        assert not (tmp_path / KEY).exists()


def test_an_unreadable_store_counts_as_one_with_agents(tmp_path: Path) -> None:
    """No key is created beside a store that cannot be read, nor beside a WAL without its store."""
    with DataDirectory(tmp_path) as directory:
        (tmp_path / STORE).write_bytes(b"x" * 5000)
        with pytest.raises(SetupError, match=BACKUP):
            key_for(directory.key_file, directory.store)
        (tmp_path / STORE).write_bytes(b"")
        (tmp_path / f"{STORE}-wal").write_bytes(b"x" * 5000)
        with pytest.raises(SetupError, match=BACKUP):
            key_for(directory.key_file, directory.store)
        assert not (tmp_path / KEY).exists()
