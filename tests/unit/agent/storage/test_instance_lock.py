"""One guard owns a data directory."""

import os
from pathlib import Path

import pytest

from agent.errors import AlreadyRunningError, NotRunningError
from agent.storage.instance_lock import InstanceLock, default_data_directory, running_pid, stop


def test_a_second_guard_is_turned_away(tmp_path: Path) -> None:
    """The second claim names the first one's process, and succeeds once that is gone."""
    directory = tmp_path / "guard"
    first = InstanceLock.claim(directory)
    assert running_pid(directory) == os.getpid()
    with pytest.raises(AlreadyRunningError, match=str(os.getpid())):
        InstanceLock.claim(directory)
    first.release()
    assert running_pid(directory) is None
    InstanceLock.claim(directory).release()


def test_the_directory_is_made_private(tmp_path: Path) -> None:
    """A directory that was open to others is closed."""
    directory = tmp_path / "guard"
    directory.mkdir(mode=0o755)
    InstanceLock.claim(directory).release()
    assert directory.stat().st_mode & 0o777 == 0o700


def test_stopping_nobody_says_so(tmp_path: Path) -> None:
    """A directory without a guard, or none at all, is named."""
    with pytest.raises(NotRunningError, match="no guard runs in"):
        stop(tmp_path / "none", 1)


def test_a_process_id_left_by_a_killed_guard_means_nothing(tmp_path: Path) -> None:
    """Only the lock counts, so a process that got the id by chance is never signalled."""
    (tmp_path / "guard.pid").write_text(f"{os.getpid()}\n")
    assert running_pid(tmp_path) is None
    with pytest.raises(NotRunningError):
        stop(tmp_path, 1)


def test_the_default_directory_is_the_systems_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has the system's place; others have XDG's, if it is absolute, else their home's."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_directory() == Path("/var/lib/panguard/guard")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_data_directory() == Path("/state/panguard/guard")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_data_directory() == Path("/home/ann/.local/state/panguard/guard")
