"""A host of 512 MB on which another program takes all memory: guard and fence come back, and blocks stay."""

import pytest

from tests.support.booted_host.fleet import UNITS
from tests.support.booted_host.scene import Scene
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/integration/fence/test_fence_blocks.py"), pytest.mark.booted]

BLOCKED = "203.0.113.200"
GUARD, FENCE = UNITS
MEMORY = 512 * 1024 * 1024

_HOG = f"""
import os, sys, time

processes, parent = int(sys.argv[1]), os.getpid()
for _ in range(processes - 1):
    if os.fork() == 0:
        break
taken = []
while True:
    if len(taken) * processes * 1024 * 1024 < {2 * MEMORY}:  # where no limit holds, the machine is not filled
        taken.append(b"x" * (1024 * 1024))
    # the pace at which memory is taken: the kernel's killer is to be met by a program that grows, not by one step
    time.sleep(0.001)
    if os.getpid() != parent and os.getppid() != parent:
        break
    if os.getpid() == parent and processes > 1 and os.waitpid(-1, os.WNOHANG)[0]:
        sys.exit(1)
"""
"""Takes memory in so many processes, without an end; once the kernel has killed one of them, all end."""

_HOG_UNIT = """
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/python3 /opt/hog.py {}
Restart=always
RestartSec=0.5
OOMPolicy=continue
"""


@pytest.fixture(scope="module")
def memory() -> int:
    """A small virtual machine's."""
    return MEMORY


@pytest.fixture(scope="module", autouse=True)
def _installed(scene: Scene) -> None:
    scene.fleet.start_manager(properties=["Restart=always"])
    scene.fleet.install()
    done = scene.host.panguard("guard", "block", BLOCKED, "--for", "1h")
    assert done.returncode == 0, done.stderr


def _restarts(scene: Scene, unit: str) -> int:
    return int(scene.host.run("systemctl", "show", "--property=NRestarts", "--value", f"{unit}.service"))


@pytest.mark.parametrize(("processes", "killed"), [(1, "hog"), (3, GUARD)], ids=["the program", "the guard"])
def test_blocks_hold_while_memory_runs_out(scene: Scene, processes: int, killed: str) -> None:
    """The kernel kills the largest, or the guard by its score: the block never falls, and all are there afterwards."""
    host = scene.host
    host.write("/opt/hog.py", _HOG)
    host.write("/run/systemd/system/hog.service", _HOG_UNIT.format(processes))
    host.run("systemctl", "daemon-reload")
    restarts, kills = 0 if killed == "hog" else _restarts(scene, killed), host.oom_kills
    host.run("systemctl", "start", "hog")

    def was_killed() -> bool:
        assert scene.fleet.in_kernel(BLOCKED)
        return _restarts(scene, killed) >= restarts + 2

    try:
        eventually(was_killed, 120, f"{killed} killed twice", 0.5)
    finally:
        host.run("systemctl", "stop", "hog")
    assert host.oom_kills >= kills + 2
    scene.fleet.wait_until_online()
    assert BLOCKED in scene.fleet.blocked()
    assert not scene.attacker.reaches(BLOCKED)
