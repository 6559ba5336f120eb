"""`manager stop` ends the process that owns the data directory, and nobody else's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from typer.testing import CliRunner, Result

from manager.cli import app
from manager.cli.commands.stop import lock_holder
from manager.cli.support.failures import ExitCode

_OWNER = """
import signal, sys
from pathlib import Path
from manager.data_directory import DataDirectory
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
with DataDirectory(Path(sys.argv[1])):
    print("locked", flush=True)
    while not stopping:
        signal.pause()
"""


def _stop(directory: Path) -> Result:
    return CliRunner().invoke(app, ["stop", "--data-dir", str(directory)])


@contextmanager
def _running(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", _OWNER, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 -- our own words
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


def test_stop_ends_the_owner_and_waits_for_it(tmp_path: Path) -> None:
    """When the command returns, the directory is free."""
    with _running(tmp_path) as process:
        assert lock_holder(tmp_path / "manager.pid") == process.pid
        assert _stop(tmp_path).exit_code == ExitCode.OK
        assert lock_holder(tmp_path / "manager.pid") is None
        assert process.wait(60) == 0


def test_nothing_runs_on_an_unused_directory(tmp_path: Path) -> None:
    """Exit code 5, and a sentence that names the directory."""
    result = _stop(tmp_path)
    assert result.exit_code == ExitCode.NOT_FOUND
    assert str(tmp_path) in result.stderr


def test_a_pid_that_was_left_over_is_not_touched(tmp_path: Path) -> None:
    """A file that nobody locks names a process that may be anybody's: this very test survives."""
    (tmp_path / "manager.pid").write_text(f"{os.getpid()}\n")
    assert _stop(tmp_path).exit_code == ExitCode.NOT_FOUND


def test_a_killed_owner_owns_nothing(tmp_path: Path) -> None:
    """SIGKILL leaves the file with its pid behind, and no lock."""
    with _running(tmp_path) as process:
        process.kill()
        process.wait(60)
        assert (tmp_path / "manager.pid").read_text().strip() == str(process.pid)
        assert _stop(tmp_path).exit_code == ExitCode.NOT_FOUND
