"""A booted host whose sshd logs to files of a real syslog daemon: read, trusted, and told when they are not well."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

import pytest

from tests.support.booted_host.scene import BRUTE, Scene
from tests.support.booted_host.syslog import AUTH_LOG, MESSAGES, busybox, files_only
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/integration/guard/test_health.py"), pytest.mark.booted]

_FAKETIME = "/run/faketime"
_FAKED = {
    "LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "FAKETIME_TIMESTAMP_FILE": _FAKETIME,
    "FAKETIME_NO_CACHE": "1",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
}


@pytest.fixture(scope="module", autouse=True)
def _files(scene: Scene) -> Iterator[None]:
    with files_only(scene.host):
        scene.fleet.start_manager()
        yield


@pytest.fixture(autouse=True)
def _stopped(scene: Scene, _files: None) -> Iterator[None]:
    yield
    scene.fleet.stop_guard()
    eventually(lambda: scene.fleet.agent()["status"] != "online", what="the guard offline", pause=0.2)


@pytest.mark.parametrize(("daemon", "log", "source"), [("rsyslog", AUTH_LOG, 80), ("busybox", MESSAGES, 81)])
def test_what_a_real_daemon_writes_is_read_and_the_operator_vouches_for_it(
    scene: Scene, daemon: str, log: str, source: int
) -> None:
    """By --trust-log the report's address is vouched, every line is understood, and the guard would block it."""
    writer: AbstractContextManager[None] = busybox(scene.host) if daemon == "busybox" else nullcontext()
    address = f"203.0.113.{source}"
    with writer:
        scene.fleet.start_guard("--trust-log", log, "--mode", "protection")
        scene.attack(address)
        scene.wait_until_found(address)
        (report,) = [each for each in scene.fleet.threats(address) if each["threat"]["ruleId"] == BRUTE[0]]
        assert report["threat"]["vouched"] == ["sourceIp", "targetService", "user", "userExists"]
        assert report["response"]["outcome"].startswith("impossible: no fence on this host")
        (read,) = scene.fleet.status()["sources"]
        assert read["records"] - read["understood"] <= 1  # BusyBox's first line has no program and process id


def test_without_the_operators_word_nobody_would_be_blocked(scene: Scene) -> None:
    """The same lines by --watch-log are reported without `vouched`."""
    scene.fleet.start_guard("--watch-log", AUTH_LOG, "--mode", "protection")
    scene.attack("203.0.113.82")
    scene.wait_until_found("203.0.113.82")
    for report in scene.fleet.threats("203.0.113.82"):
        assert not report["threat"].get("vouched")
        assert report["response"]["action"] == "notify"


def _well_and_attacked(scene: Scene, source: str) -> None:
    scene.wait_until_well()
    scene.attack(source)
    scene.wait_until_found(source)


def test_a_log_that_is_removed_is_told_and_read_again_once_it_is_back(scene: Scene) -> None:
    """The manager shows it within a minute, and that it is well again without a restart of the guard."""
    host = scene.host
    scene.attack("203.0.113.83")
    scene.fleet.start_guard("--trust-log", AUTH_LOG, "--mode", "protection")
    host.run("rm", AUTH_LOG)
    scene.wait_until_degraded("missing", f"there is no {AUTH_LOG}")
    host.run("systemctl", "restart", "rsyslog")
    host.run("logger", "-p", "auth.info", "-t", "test", "the first line of the new file")
    _well_and_attacked(scene, "203.0.113.84")


def test_a_log_that_the_guard_may_not_read_is_told_until_it_may(scene: Scene) -> None:
    """The guard runs as its own user in the group adm; the reason names what is missing."""
    host = scene.host
    scene.attack("203.0.113.85")
    scene.fleet.start_guard("--trust-log", AUTH_LOG, "--mode", "protection")
    host.run("chmod", "0600", AUTH_LOG)
    scene.wait_until_degraded("unreadable", "add the guard's user to the file's group")
    host.run("chmod", "0640", AUTH_LOG)
    _well_and_attacked(scene, "203.0.113.86")


@pytest.mark.parametrize(
    ("offset", "told", "source"), [("-1h", "went back by 36", 87), ("+2d", "went forward by 1728", 88)]
)
def test_a_clock_that_is_set_is_told_and_attacks_are_found_by_it(
    scene: Scene, offset: str, told: str, source: int
) -> None:
    """The guard's own clock is set while it runs (by libfaketime, since the kernel's is everybody's).

    That this state ends by itself after five minutes is shown on set clocks in the unit tests of the pipeline.
    """
    address = f"203.0.113.{source}"
    scene.attack("203.0.113.89")
    scene.host.write(_FAKETIME, "+0\n")
    scene.fleet.start_guard("--trust-log", AUTH_LOG, "--mode", "protection", environment=_FAKED)
    scene.wait_until_well()
    scene.host.write(_FAKETIME, f"{offset}\n")
    scene.wait_until_degraded("clock", f"the host's clock {told}")
    scene.attack(address)
    scene.wait_until_found(address)
    for report in scene.fleet.threats(address):
        at, received = (datetime.fromisoformat(report[name]) for name in ("eventTime", "receivedAt"))
        assert abs(received - at) < timedelta(minutes=10)  # by the manager's clock, not the host's
