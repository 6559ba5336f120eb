"""A guard whose logs are not well: its status, its heartbeats and `guard health` say so, and when that is over."""

import os
import shutil
import time
from pathlib import Path

import pytest

from agent.clock import Clock
from tests.integration.guard.guard_process import GuardProcess
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually
from tests.integration.guard.test_command import guard as command


def _state(manager: ScriptedManager) -> tuple[str | None, str | None]:
    """Return health and the first source's state, as the newest heartbeat has them, if there is one."""
    heartbeat = next(reversed(manager.heartbeats()), None)
    if heartbeat is None:
        return None, None
    assert heartbeat.sources
    return heartbeat.health, heartbeat.sources[0].state


def _wait(guard: GuardThread, manager: ScriptedManager, health: str, state: str) -> None:
    eventually(lambda: _state(manager) == (health, state), f"a heartbeat that says {health}, {state}")
    eventually(lambda: guard.status()["health"] == health, "a status that says so too")


def test_a_log_that_disappears_degrades_the_guard_until_it_is_back(
    guard: GuardThread, manager: ScriptedManager
) -> None:
    """The manager is told what is missing, and that it is well again; nothing has to be restarted."""
    guard.start().ready()
    _wait(guard, manager, "ok", "ok")
    kept = guard.log.path.with_name("elsewhere")
    guard.log.path.rename(kept)
    _wait(guard, manager, "degraded", "missing")
    assert str(guard.log.path) in guard.status()["sources"][0]["reason"]
    kept.rename(guard.log.path)
    _wait(guard, manager, "ok", "ok")
    assert "event=source_degraded" in guard.errors()
    assert "event=source_well_again" in guard.errors()


def test_a_log_that_was_never_there_is_read_once_it_is(guard: GuardThread, manager: ScriptedManager) -> None:
    """A guard may be started before its log: it is degraded, and detects from the log's first line on."""
    guard.log.path.unlink()
    guard.start().ready()
    _wait(guard, manager, "degraded", "missing")
    guard.log.path.touch()
    _wait(guard, manager, "ok", "ok")
    guard.log.attack("203.0.113.7")
    assert eventually(manager.reports, "a report")[0].threat.evidence["sourceIp"] == "203.0.113.7"


def test_a_log_of_an_unknown_format_is_unparsed(guard: GuardThread, manager: ScriptedManager) -> None:
    """Twenty lines that are no log's are named; one that is read ends it."""
    guard.start().ready()
    with guard.log.path.open("a") as log:
        log.writelines(f'{{"level":"info","n":{number}}}\n' for number in range(20))
    _wait(guard, manager, "degraded", "unparsed")
    guard.log.attack("203.0.113.7")
    _wait(guard, manager, "ok", "ok")
    (source,) = guard.status()["sources"]
    assert (source["records"], source["understood"]) == (25, 5)


def test_a_guard_that_watches_nothing_is_never_plainly_well(guard: GuardThread, manager: ScriptedManager) -> None:
    """`--watch none` is degraded, with its reason."""
    guard.log_option = "nothing"
    guard.options["watch"] = "none"
    guard.start().ready()
    _wait(guard, manager, "degraded", "missing")
    assert "--watch none" in guard.status()["sources"][0]["reason"]


@pytest.mark.usefixtures("manager")
def test_health_tells_by_its_exit_code(guard_process: GuardProcess) -> None:
    """0 well, 3 connected and degraded, 1 not connected; `--allow-degraded` takes a degraded guard for well."""
    guard_process.settings["PANGUARD_SOURCE_CHECK_INTERVAL"] = "0.05"
    guard_process.start().ready()
    directory = str(guard_process.directory)
    eventually(lambda: command("health", "--data-dir", directory).returncode == 0, "a guard that is well")
    guard_process.log.path.unlink()
    eventually(lambda: command("health", "--data-dir", directory).returncode == 3, "a degraded guard")
    told = command("health", "--data-dir", directory)
    assert told.stderr.startswith(f"degraded: file:{guard_process.log.path} is missing: ")
    assert command("health", "--allow-degraded", "--data-dir", directory).returncode == 0
    guard_process.stop()
    assert command("health", "--data-dir", directory).returncode == 1


def test_a_first_start_looks_back_and_acts_on_nothing(guard: GuardThread, manager: ScriptedManager) -> None:
    """Who attacked before the guard was installed is reported, from rotated files too; the response is a learner's."""
    guard.log.attack("203.0.113.7")
    shutil.move(guard.log.path, guard.log.path.with_name("auth.log.1"))
    guard.log.path.touch()
    guard.log.attack("198.51.100.9")
    guard.start().ready()
    reports = eventually(lambda: len(manager.reports()) >= 2 and manager.reports(), "two reports")
    assert {report.threat.evidence["sourceIp"] for report in reports} == {"203.0.113.7", "198.51.100.9"}
    assert {report.response.outcome for report in reports} <= {"would_be_taken"}
    eventually(lambda: "event=looked_back" in guard.errors(), "the end of the look back")


def test_stamps_of_another_zone_are_said_once(guard: GuardThread, manager: ScriptedManager) -> None:
    """A live line happened now, whatever its stamp says; a stamp that is off is logged once."""
    guard.start().ready()
    eventually(lambda: guard.status()["health"] == "ok", "a guard that reads")
    with guard.log.path.open("a") as log:
        for port in range(5):
            log.write(f"Jan  1 00:00:0{port} h sshd[1]: Failed password for root from 203.0.113.7 port {port} ssh2\n")
    report = eventually(manager.reports, "a report")[0]
    assert abs(report.timestamp.timestamp() - report.threat.last_seen.timestamp()) < 60
    assert guard.errors().count("event=stamps_off") == 1


def test_detach_fails_with_the_reason(tmp_path: Path, manager: ScriptedManager) -> None:
    """Without a token, with a directory as log: exit code 1 and the sentence that the guard ended with."""
    url = f"mqtt://127.0.0.1:{manager.port}"
    start = ("start", "--manager", url, "--data-dir", str(tmp_path / "data"), "--detach")
    refused = command(*start)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "this guard is not registered yet: give it an enrollment token" in refused.stderr
    refused = command(*start, "--watch-log", str(tmp_path), token=str(manager.token))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is not a regular file: name a log file" in refused.stderr


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_a_log_that_cannot_be_read_degrades_the_guard_until_it_can(
    guard: GuardThread, manager: ScriptedManager, kind: str
) -> None:
    """A directory, a symbolic link or a pipe in the log's place is unreadable; what is logged after it is read."""
    guard.start().ready()
    _wait(guard, manager, "ok", "ok")
    path = guard.log.path
    path.unlink()
    make = {"directory": path.mkdir, "link": lambda: path.symlink_to("/etc/hostname"), "pipe": lambda: os.mkfifo(path)}
    make[kind]()
    _wait(guard, manager, "degraded", "unreadable")
    assert str(path) in guard.status()["sources"][0]["reason"]
    path.rmdir() if kind == "directory" else path.unlink()
    guard.log.attack("203.0.113.7")
    _wait(guard, manager, "ok", "ok")
    assert eventually(manager.reports, "a report")[0].threat.evidence["sourceIp"] == "203.0.113.7"


@pytest.mark.parametrize("step", [-3600.0, 2 * 86_400.0])
def test_a_clock_that_is_set_is_told(guard: GuardThread, manager: ScriptedManager, step: float) -> None:
    """A clock an hour back or two days ahead is in heartbeats and status, and over after five minutes by itself."""
    offset, slept = [0.0], [0.0]
    guard.clock = Clock(lambda: time.time() + offset[0] + slept[0], lambda: time.monotonic() + slept[0])
    guard.start().ready()
    _wait(guard, manager, "ok", "ok")
    offset[0] = step
    _wait(guard, manager, "degraded", "clock")
    slept[0] = 301.0
    _wait(guard, manager, "ok", "ok")


def test_lines_that_were_lost_while_the_guard_was_stopped_are_told(
    guard: GuardThread, manager: ScriptedManager
) -> None:
    """A log that was replaced while nobody read it is a gap: degraded for five minutes, at the manager too."""
    slept = [0.0]
    guard.clock = Clock(lambda: time.time() + slept[0], lambda: time.monotonic() + slept[0])
    guard.log.attack("198.51.100.1", failures=1)
    guard.start().ready()
    _wait(guard, manager, "ok", "ok")
    guard.stop()
    guard.log.path.unlink()
    guard.log.path.touch()
    guard.start().ready()
    _wait(guard, manager, "degraded", "dropping")
    assert "is gone" in guard.status()["sources"][0]["reason"]
    slept[0] = 301.0
    _wait(guard, manager, "ok", "ok")
