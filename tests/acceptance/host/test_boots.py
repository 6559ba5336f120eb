"""Boots of a host with installed guard and fence: others' rules that load later, and a root that is read-only."""

import pytest

from tests.support.booted_host.fleet import MANAGER, UNITS
from tests.support.booted_host.machine import ROOT
from tests.support.booted_host.scene import Scene
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/integration/fence/test_fence_blocks.py"), pytest.mark.booted]

BLOCKED, ADMIN = "203.0.113.200", "203.0.113.201"
GUARD, FENCE = UNITS
READ_ONLY = ("/etc", "/usr", "/tmp", "/var/tmp", "/root")  # noqa: S108 -- looked at, not used
WRITABLE = ("/var/lib", "/var/log")

_RULES = """#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    chain input {
        type filter hook input priority filter; policy accept;
        tcp dport 81 drop
    }
}
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(scene: Scene) -> None:
    scene.fleet.start_manager()
    scene.fleet.install()
    done = scene.host.panguard("guard", "block", BLOCKED, "--for", "1h")
    assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def _ordinary_boot(scene: Scene) -> None:
    """Give each test a host that can be written and has no rules of others; each of them boots it anew."""
    if scene.host.result("touch", "/etc/probe").returncode:
        scene.host.crash()
        scene.host.boot()
    scene.host.run("sh", "-c", "systemctl disable --now nftables ufw; ufw --force disable", check=False)


def _let_load_after_the_fence(scene: Scene, unit: str) -> None:
    scene.host.write(f"/etc/systemd/system/{unit}.service.d/late.conf", f"[Unit]\nAfter={FENCE}.service\n")
    scene.host.run("systemctl", "enable", unit)


def _active_since(scene: Scene, unit: str) -> int:
    """Return when a unit became active, in microseconds after the boot."""
    words = ("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "--value", f"{unit}.service")
    return int(scene.host.run(*words))


def _reboot(scene: Scene) -> None:
    scene.host.run("sync")
    scene.host.reboot()


@pytest.mark.parametrize(
    ("unit", "furnish", "theirs"),
    [
        ("nftables", "true", ("nft", "list", "table", "inet", "filter")),
        ("ufw", "ufw allow 22/tcp && ufw --force enable", ("ufw", "status", "verbose")),
    ],
    ids=["nftables", "ufw"],
)
def test_the_block_is_there_after_rules_that_load_later(
    scene: Scene, unit: str, furnish: str, theirs: tuple[str, ...]
) -> None:
    """The distribution's service starts behind the fence; its rules are what they are without a fence."""
    host = scene.host
    host.write("/etc/nftables.conf", _RULES, 0o755)
    host.run("sh", "-c", furnish)
    _let_load_after_the_fence(scene, unit)
    if unit == "nftables":
        host.run("systemctl", "restart", unit)
    alone = host.run(*theirs)
    _reboot(scene)
    assert 0 < _active_since(scene, FENCE) <= _active_since(scene, unit)
    eventually(lambda: scene.fleet.in_kernel(BLOCKED), what="the block")
    assert not scene.attacker.reaches(BLOCKED)
    assert scene.attacker.reaches(ADMIN)
    assert host.run(*theirs) == alone
    scene.fleet.start_manager()
    scene.fleet.wait_until_online()
    assert scene.fleet.in_kernel(BLOCKED)


def test_guard_and_fence_run_with_a_read_only_root(scene: Scene) -> None:
    """Only /var/lib, /var/log and /run can be written: blocks are set again, new ones are taken and survive."""
    host = scene.host
    if ROOT.is_relative_to("/tmp"):  # noqa: S108 -- a private /tmp is empty where /tmp is read-only: show the program
        for unit in UNITS:
            host.write(f"/etc/systemd/system/{unit}.service.d/30-program.conf", "[Service]\nPrivateTmp=no\n")
    host.power_off()
    host.boot(writable=WRITABLE)
    for path in READ_ONLY:
        assert host.result("touch", f"{path}/probe").returncode, f"{path} can be written"
    assert scene.fleet.in_kernel(BLOCKED)
    scene.fleet.start_manager()
    scene.fleet.wait_until_online()
    done = host.panguard("guard", "block", "203.0.113.202", "--for", "1h")
    assert done.returncode == 0, done.stderr
    assert not scene.attacker.reaches("203.0.113.202")
    host.crash()
    host.boot(writable=WRITABLE)
    assert scene.fleet.in_kernel("203.0.113.202")
    assert host.path(MANAGER).exists()
