"""The README's five minutes on a booted Debian, in one terminal, as they stand: with journald, and with files only."""

import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest

from tests.support.booted_host.machine import ROOT, BootedHost
from tests.support.booted_host.scene import Scene
from tests.support.booted_host.syslog import files_only

pytestmark = [pytest.mark.long("tests/acceptance/test_readme.py"), pytest.mark.booted]

BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1:]
"""The blocks after the one about `make`: a manager, a guard, an attack with a look at everything."""

_HOME = "/srv/five-minutes"
_REPORTED = (
    "for look in $(seq 60); do"
    " panguard manager threats list --data-dir data/manager | grep -q 203.0.113.9 && break; sleep 0.5; done"
)


def _terminal(host: BootedHost) -> str:
    """Run the blocks in one shell, and return what its terminal shows.

    A reader looks again until the list of threats shows something.
    """
    host.run("mkdir", "-p", _HOME)
    shutil.copytree(ROOT / "examples", host.path(_HOME) / "examples")
    attack, looks = BLOCKS[2].split("done\n", 1)
    script = f"set -e\n{BLOCKS[0]}{BLOCKS[1]}{attack}done\n{_REPORTED}\n{looks}"
    host.write(f"{_HOME}/script", script)
    environment = f"PATH={ROOT}/.venv/bin:$PATH PYTHONPATH={ROOT} COLUMNS=200"
    words = f"cd {_HOME} && {environment} bash script > terminal 2>&1"
    done = host.result("sh", "-c", words, within=200)
    shown = host.path(f"{_HOME}/terminal").read_text()
    assert done.returncode == 0, shown
    return shown


@pytest.mark.parametrize("logs", [nullcontext, files_only], ids=["journald", "files"])
def test_the_five_minutes_end_with_a_detection_on_the_screen(
    scene: Scene, logs: Callable[[BootedHost], AbstractContextManager[None]]
) -> None:
    """Every command succeeds, the guard reads what the host has, and the list of threats shows the attacker."""
    with logs(scene.host):
        shown = _terminal(scene.host)
    scene.host.run("rm", "-r", _HOME)
    assert re.search(r"^manager started pid=\d+ http=", shown, re.MULTILINE)
    assert re.search(r"^guard started agentId=ag-\w+ pid=\d+ data-dir=", shown, re.MULTILINE)
    assert re.search(r"203\.0\.113\.9 +medium +brute_force +.*ago ", shown)
    source = "file:/var/log/auth.log" if logs is files_only else "journal"
    assert f"source:    {source} ok" in shown
    assert re.search(r"^Active threats +1 in 24 h \(1 medium\)", shown, re.MULTILINE)
    assert re.search(r"^guard stopped pid=\d+$", shown, re.MULTILINE)
    assert shown.endswith("\nstopped\n")
