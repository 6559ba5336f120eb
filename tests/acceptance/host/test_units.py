"""The installed units on a booted host: confined, watched, restarted, and there again after flush, kill and reboot."""

import re
import signal

import pytest

from tests.support.booted_host.attacker import WRONG
from tests.support.booted_host.fleet import UNITS
from tests.support.booted_host.scene import Scene
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/integration/guard/test_install.py"), pytest.mark.booted]

BLOCKED = "203.0.113.200"
GUARD, FENCE = UNITS
EXPOSURE = {GUARD: 2.0, FENCE: 2.6}

_PROBE = """
touch /etc/panguard-probe && echo wrote /etc
touch /usr/panguard-probe && echo wrote /usr
nft list ruleset >/dev/null && echo ran nft
echo 1 > /proc/sys/net/ipv4/ip_forward && echo set a kernel parameter
unshare --user true && echo made a namespace
ls /home/alice && echo saw a home
touch /dev/panguard-probe && echo wrote /dev
touch /dev/shm/panguard-probe && echo wrote /dev/shm
mknod /dev/shm/disk b 8 0 && echo made a device
exit 0
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(scene: Scene) -> None:
    scene.fleet.start_manager()
    scene.fleet.install()
    scene.host.write("/opt/rules", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 81 -j DROP\nCOMMIT\n")
    done = scene.host.panguard("guard", "block", BLOCKED, "--for", "1h")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_the_exposure_stays_low(scene: Scene, unit: str) -> None:
    """As systemd rates the units that run: at most 2.0 for the guard, 2.6 for the fence."""
    rated = scene.host.run("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
    (level,) = re.findall(r"level for \S+: (\d+\.\d+)", rated)
    assert float(level) <= EXPOSURE[unit], rated


@pytest.mark.parametrize(("unit", "may"), [(GUARD, ""), (FENCE, "ran nft\n")])
def test_the_confinement_is_really_on(scene: Scene, unit: str, may: str) -> None:
    """A shell in place of the program writes nowhere; only the fence's runs nft."""
    host = scene.host
    text = host.path(f"/etc/systemd/system/{unit}.service").read_text()
    text = re.sub(r"^ExecStart=.*$", "ExecStart=/bin/sh /opt/probe.sh", text, flags=re.MULTILINE)
    text = re.sub(
        r"^(Type=notify|NotifyAccess=.*|WatchdogSec=.*|Restart=.*|Requires=.*|Wants=.*)$", "", text, flags=re.MULTILINE
    )
    text = text.replace(
        "[Service]", "[Service]\nType=oneshot\nStandardOutput=append:/run/probe.out\nStandardError=null", 1
    )
    host.write("/opt/probe.sh", _PROBE)
    host.write("/run/probe.out", "", 0o666)
    host.write("/run/systemd/system/probe.service", text)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", "probe")
    assert host.path("/run/probe.out").read_text() == may
    status = host.path(f"/proc/{_pid(scene, unit)}/status").read_text()
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert unit == FENCE or re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)


def _pid(scene: Scene, unit: str) -> int:
    return int(scene.host.run("systemctl", "show", "--property=MainPID", "--value", unit))


def _kill(scene: Scene, *units: str, number: signal.Signals = signal.SIGKILL) -> None:
    scene.host.run("systemctl", "kill", f"--signal={number.name}", *units)


@pytest.mark.parametrize("killed", [(GUARD,), (FENCE,), UNITS], ids=["guard", "fence", "both"])
def test_what_is_killed_comes_back_and_the_block_holds_meanwhile(scene: Scene, killed: tuple[str, ...]) -> None:
    """By SIGKILL: the kernel keeps the block; guard and fence are started again by themselves."""
    before = {unit: _pid(scene, unit) for unit in killed}
    _kill(scene, *killed)
    assert scene.fleet.in_kernel(BLOCKED)
    assert not scene.attacker.reaches(BLOCKED)
    for unit in killed:
        eventually(lambda unit=unit: _pid(scene, unit) not in (0, before[unit]), what=f"{unit} again", pause=0.2)
    scene.fleet.wait_until_online()
    assert BLOCKED in scene.fleet.blocked()


def test_the_socket_starts_the_fence(scene: Scene) -> None:
    """Whoever asks finds it running."""
    scene.host.run("systemctl", "stop", f"{FENCE}.service")
    assert BLOCKED in scene.fleet.blocked()
    assert _pid(scene, FENCE)


def test_the_watchdog_ends_what_hangs(scene: Scene) -> None:
    """A stopped process gives no sign of life: systemd starts another one. With seconds in place of a minute."""
    host = scene.host
    conf = host.path("/etc/panguard/fence.conf")
    before, drop_ins = conf.read_text(), [f"/run/systemd/system/{unit}.service.d/30-watchdog.conf" for unit in UNITS]
    conf.write_text(f"{before}check_interval = 1.0\n")
    for drop_in in drop_ins:
        host.write(drop_in, "[Service]\nWatchdogSec=6\n")
    try:
        _restart(scene)
        pids = {unit: _pid(scene, unit) for unit in UNITS}
        _kill(scene, *UNITS, number=signal.SIGSTOP)
        for unit in UNITS:
            eventually(lambda unit=unit: _pid(scene, unit) not in (0, pids[unit]), what=f"{unit} again", pause=0.2)
        scene.fleet.wait_until_online()
    finally:
        conf.write_text(before)
        for drop_in in drop_ins:
            host.path(drop_in).unlink()
        _restart(scene)


def _restart(scene: Scene) -> None:
    scene.host.run("systemctl", "daemon-reload")
    scene.host.run("systemctl", "restart", *UNITS)
    scene.fleet.wait_until_online()


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (("nft", "flush", "ruleset"), ""),
        (("systemctl", "restart", "nftables"), "table inet filter"),
        (("iptables-restore", "/opt/rules"), "dport 81"),
        (("sh", "-c", "ufw allow 22/tcp && ufw --force enable && ufw reload"), "ufw"),
        (("sh", "-c", "ufw --force disable; systemctl start firewalld && firewall-cmd --reload"), "firewalld"),
    ],
    ids=["flush", "nftables", "iptables-restore", "ufw", "firewalld"],
)
def test_the_block_is_back_whatever_loads_its_own_rules(scene: Scene, words: tuple[str, ...], kept: str) -> None:
    """At once, not only at the next check of the table 30 s later; the rules of others are left as they are."""
    done = scene.host.result(*words)
    assert done.returncode == 0, done
    eventually(lambda: scene.fleet.in_kernel(BLOCKED), what="the block back")
    ruleset = scene.host.run("nft", "list", "ruleset")
    assert kept in ruleset
    assert not scene.attacker.reaches(BLOCKED)


def test_a_reboot_applies_the_blocks_before_the_network_is_up(scene: Scene) -> None:
    """The fence is ready before network-pre.target, with the time left; guard and fence are online again."""
    host = scene.host
    left = scene.fleet.blocked()[BLOCKED]["secondsLeft"]
    host.run("systemctl", "disable", "--now", "firewalld", check=False)
    host.run("sh", "-c", "ufw --force disable", check=False)
    host.run("sync")
    host.reboot()
    assert scene.fleet.in_kernel(BLOCKED)

    def at(unit: str) -> int:
        return int(host.run("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "--value", unit))

    assert 0 < at(f"{FENCE}.service") <= at("network-pre.target")
    assert 0 < scene.fleet.blocked()[BLOCKED]["secondsLeft"] <= left
    scene.fleet.start_manager()
    scene.fleet.wait_until_online()


def test_protection_that_nobody_confirms_falls_back_to_learning(scene: Scene) -> None:
    """With a trial of seconds: blocks are lifted, and the manager hears of it."""
    host = scene.host
    assert scene.attacker.reaches("203.0.113.202")
    host.write(
        f"/run/systemd/system/{GUARD}.service.d/30-trial.conf", "[Service]\nEnvironment=PANGUARD_MODE_TRIAL=12\n"
    )
    host.run("systemctl", "daemon-reload")
    scene.host.panguard("guard", "mode", "learning", "--data-dir", scene.fleet.data)
    eventually(lambda: scene.fleet.agent()["mode"] == "learning", what="learning at the manager", pause=0.1)
    host.run("systemctl", "restart", GUARD)
    scene.host.panguard("guard", "mode", "protection", "--data-dir", scene.fleet.data)
    eventually(lambda: scene.fleet.agent()["mode"] == "protection", what="protection at the manager", pause=0.2)
    for _ in range(2):
        scene.attacker.ssh("root", "203.0.113.202", WRONG, WRONG, WRONG, within=3)
    eventually(lambda: scene.fleet.agent()["mode"] == "learning", what="learning at the manager", pause=0.1)
    eventually(lambda: scene.attacker.reaches("203.0.113.202"), what="the guard's block lifted", pause=0.1)
    assert scene.fleet.in_kernel(BLOCKED)  # the operator's stays
    assert "mode_reverted" in host.journal(f"--unit={GUARD}")
