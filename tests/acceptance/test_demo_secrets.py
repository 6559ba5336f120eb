"""No secret stands anywhere but where it is kept: searched for in what the demo and a crash left behind.

Not with two managers: the demo starts one, and a crash concerns the one that crashes. tests/acceptance/test_secrets.py
has both deployments.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil

from demo.fleet import Fleet
from demo.story import Story
from tests.support.secrets_kept import MAY_HOLD, Secrets, open_to_others


def test_the_demo_leaves_no_secret(tmp_path: Path) -> None:
    """Its whole story with the embedded broker: nothing in its files, and nothing in its processes while they run."""
    secrets, beside = Secrets(), {}
    with Fleet(tmp_path, ["web-1", "web-2", "db-1"]) as fleet:
        story = Story(fleet, lambda _line: None, lambda _agents, _threats: None)
        story.tell()
        secrets.add_manager(tmp_path / "manager")
        for guard in fleet.guards:
            secrets.add_guard(tmp_path / guard.hostname / "identity.json")
            beside[f"{guard.hostname}/identity.json"] = {"agent secret"}
        ours = {child.pid for child in psutil.Process().children() if str(tmp_path) in " ".join(child.cmdline())}
        assert len(ours) == 4
        assert secrets.in_processes(ours) == {}
        for process in [child for pid in ours for child in (psutil.Process(pid), *psutil.Process(pid).children())]:
            assert process.rlimit(resource.RLIMIT_CORE) == (1, 1)
        story.farewell()
    assert secrets.in_files(tmp_path, {**MAY_HOLD, **beside}) == {}
    assert open_to_others(tmp_path / name for name in ("manager", "web-1", "web-2", "db-1")) == set()


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    """Aborted where the system would write a core, a manager leaves none: its keys stay out of it."""
    limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    words = ["prlimit", f"--core={'unlimited' if limit == resource.RLIM_INFINITY else limit}", sys.executable, "-m"]
    words += ["panguard", "manager", "start", "--data-dir", str(tmp_path / "data"), "--port", "0", "--mqtt-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as manager:  # noqa: S603 -- ours
        assert manager.stdout is not None
        assert manager.stdout.readline().startswith(b"ready ")
        assert psutil.Process(manager.pid).rlimit(resource.RLIMIT_CORE) == (min(1, limit) if limit >= 0 else 1,) * 2
        manager.send_signal(6)
        assert manager.wait(60) == -6
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
