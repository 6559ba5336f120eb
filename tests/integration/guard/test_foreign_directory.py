"""Root's commands on the data directory of the guard's user: its links lead root nowhere."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.storage.database import DATABASE, Database
from agent.storage.files import as_owner

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

GUARD_UID = 10_001


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a data directory of the guard's user, which that user can walk to."""
    made = tmp_path / "guard"
    made.mkdir(mode=0o700)
    os.chown(made, GUARD_UID, GUARD_UID)
    for parent in tmp_path.parents:
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o711)
    return made


def _panguard(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", *words]
    return subprocess.run(  # noqa: S603 -- the guard itself
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )


@pytest.mark.parametrize("words", [("mode", "protection"), ("outbox", "retry")])
def test_a_link_in_place_of_the_database_reaches_no_file_of_roots(
    directory: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Root's own database of a guard stays as it is, and the command fails."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    Database.open(private / DATABASE).close()
    before = (private / DATABASE).read_bytes()
    (directory / DATABASE).symlink_to(private / DATABASE)
    done = _panguard(*words, "--data-dir", str(directory))
    assert done.returncode == 1
    assert (private / DATABASE).read_bytes() == before
    assert [path.name for path in private.iterdir()] == [DATABASE]


@pytest.mark.parametrize("words", [("mode",), ("status", "-o", "json")])
def test_a_link_in_place_of_the_status_shows_nothing_of_roots(
    directory: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """What only root may read is not printed."""
    secret = tmp_path / "secret"
    secret.write_text('{"mode": "xyzzy", "modeWanted": "xyzzy", "state": "xyzzy"}')
    secret.chmod(0o600)
    with as_owner(directory):
        Database.open(directory / DATABASE).close()
    (directory / "status.json").symlink_to(secret)
    done = _panguard(*words, "--data-dir", str(directory))
    assert done.returncode == 1
    assert "xyzzy" not in done.stdout + done.stderr


def test_the_mode_of_an_ordinary_directory_is_set_for_its_owner(directory: Path) -> None:
    """The database and what SQLite puts beside it stay the guard's."""
    with as_owner(directory):
        Database.open(directory / DATABASE).close()
    assert _panguard("mode", "protection", "--data-dir", str(directory)).returncode == 0
    assert {path.stat().st_uid for path in directory.iterdir()} == {GUARD_UID}
    with sqlite3.connect(directory / DATABASE) as database:
        assert database.execute("SELECT mode FROM host_mode").fetchall() == [("protection",)]
    database.close()


@pytest.mark.parametrize("more", [(), ("--detach",)])
def test_root_runs_no_guard_there(directory: Path, more: tuple[str, ...]) -> None:
    """The error names the way to start it; nothing is written."""
    done = _panguard("start", "--manager", "mqtt://127.0.0.1:1", "--watch", "none", "--data-dir", str(directory), *more)
    assert done.returncode == 1
    assert "systemctl start panguard-guard" in done.stderr
    assert list(directory.iterdir()) == []


def test_root_has_its_rights_again_afterwards(directory: Path) -> None:
    """User, group and groups, also after an error."""
    before = (os.geteuid(), os.getegid(), os.getgroups())
    with pytest.raises(ZeroDivisionError), as_owner(directory):
        _divide(before)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


def _divide(before: tuple[int, int, list[int]]) -> float:
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (GUARD_UID, GUARD_UID, [])
    return before[0] / 0
