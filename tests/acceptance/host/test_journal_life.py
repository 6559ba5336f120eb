"""A guard through the life of a real journal: each gap and each silence is told within a minute.

A lost record is told for five minutes, so each test has a guard that was started for it and knows of no loss.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.support.booted_host.scene import Scene
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/integration/sources/test_journal.py"), pytest.mark.booted]

_JOURNALD = ("systemd-journald", "systemd-journald.socket", "systemd-journald-dev-log.socket")
_GAP = "the journal no longer has its entries from"


@pytest.fixture(scope="module", autouse=True)
def _manager(scene: Scene) -> None:
    scene.fleet.start_manager()


@pytest.fixture(autouse=True)
def _guard(scene: Scene, _manager: None) -> Iterator[None]:
    scene.fleet.start_guard("--mode", "protection")
    scene.wait_until_well()
    yield
    scene.fleet.stop_guard()
    eventually(lambda: scene.fleet.agent()["status"] != "online", what="the guard offline", pause=0.2)


def test_a_journald_that_stops_is_told_and_its_return_too(scene: Scene) -> None:
    """Nothing that programs log reaches the guard meanwhile; attacks after the return are found."""
    scene.host.run("systemctl", "stop", *_JOURNALD)
    try:
        scene.wait_until_degraded("silent", "systemd-journald does not run")
    finally:
        scene.host.run("systemctl", "start", *_JOURNALD)
    scene.wait_until_well()
    scene.attack("203.0.113.70")
    scene.wait_until_found("203.0.113.70")


def test_a_rotation_and_a_vacuum_lose_nothing_that_was_read(scene: Scene) -> None:
    """The guard goes on in the new file; the removal of old files is no gap."""
    scene.wait_until_well()
    scene.host.run("journalctl", "--rotate")
    scene.attack("203.0.113.78")
    scene.wait_until_found("203.0.113.78")  # in the new file, so all of the old one was read
    before = _gaps(scene)
    scene.host.run("journalctl", "--vacuum-files=1", "--vacuum-time=1s")
    scene.attack("203.0.113.71")
    scene.wait_until_found("203.0.113.71")
    assert _gaps(scene) == before


def test_a_vacuum_of_what_was_not_read_is_a_gap_that_is_told(scene: Scene) -> None:
    """A guard that was stopped meanwhile says from when to when it has no records; a person's journal hides nothing."""
    assert scene.attacker.ssh("alice", "203.0.113.77", keys=["right"], command="logger mine")
    scene.fleet.stop_guard()
    scene.attack("203.0.113.72")
    scene.host.run("journalctl", "--rotate")
    scene.host.run("journalctl", "--vacuum-files=1", "--vacuum-time=1s")
    scene.fleet.start_guard("--mode", "protection")
    scene.wait_until_degraded("dropping", _GAP)


def test_a_journal_that_becomes_volatile_is_followed(scene: Scene) -> None:
    """The files are in another directory from then on."""
    scene.host.write("/etc/systemd/journald.conf.d/test.conf", "[Journal]\nStorage=volatile\n")
    try:
        scene.host.run("systemctl", "restart", "systemd-journald")
        scene.attack("203.0.113.73")
        scene.wait_until_found("203.0.113.73")
    finally:
        scene.host.path("/etc/systemd/journald.conf.d/test.conf").unlink()
        scene.host.run("systemctl", "restart", "systemd-journald")
        shutil.rmtree(scene.host.path("/run/log/journal"))
    scene.attack("203.0.113.74")
    scene.wait_until_found("203.0.113.74")
    scene.wait_until_well()


def test_a_truncated_journal_ends_nothing(scene: Scene) -> None:
    """Journald begins a new file; the guard says what it cannot read, or goes on at once, and finds the next attack."""
    (folder,) = scene.host.path("/var/log/journal").iterdir()
    file = folder / "system.journal"
    os.truncate(file, file.stat().st_size // 3)
    scene.host.run("systemctl", "restart", "systemd-journald")
    scene.attack("203.0.113.75")
    scene.wait_until_found("203.0.113.75")

    def told() -> bool:
        (source,) = scene.fleet.kept_status()["sources"]
        return source["state"] == "ok" or (source["state"] == "dropping" and _GAP in source["reason"])

    eventually(told, what="well, or the gap told", pause=0.1)


def test_messages_that_journald_suppresses_are_told(scene: Scene) -> None:
    """The rate limit of sshd's unit drops messages: degraded, with the setting to raise."""
    drop_in = "/run/systemd/system/ssh.service.d/limit.conf"
    before = scene.fleet.log().count("records_lost")
    scene.host.write(drop_in, "[Service]\nLogRateLimitIntervalSec=4s\nLogRateLimitBurst=5\n")
    try:
        scene.host.run("systemctl", "daemon-reload")
        scene.host.run("systemctl", "restart", "ssh")

        def told() -> bool:
            scene.attack("203.0.113.76")
            (source,) = scene.fleet.kept_status()["sources"]
            return source["state"] == "dropping" and "RateLimitBurst" in source["reason"]

        eventually(told, what="dropped records", pause=1)
        assert scene.fleet.health() == 3
        assert scene.fleet.log().count("records_lost") > before
    finally:
        scene.host.path(drop_in).unlink()
        scene.host.run("systemctl", "daemon-reload")
        scene.host.run("systemctl", "restart", "ssh", "systemd-journald")  # journald forgets what it has suppressed


def _gaps(scene: Scene) -> list[str]:
    """Return the lines of the guard's log that tell of lost records."""
    return [line for line in scene.fleet.log().splitlines() if "records_lost" in line]
