"""A booted Debian with systemd in a container of its own, on a network of namespaces."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.support.network import NetworkHost
from tests.support.waiting import eventually

T = TypeVar("T")

ROOT = Path(__file__).parents[3]
CACHED = Path(os.environ.get("PANGUARD_TEST_ROOT") or Path.home() / ".cache" / "panguard-tests" / "bookworm-3")
"""The root that `make_root.sh` makes; every boot gets an overlay on it that is thrown away."""


def unavailable() -> str | None:
    """Return why no host can be booted here; None if it can. Makes the root if that is missing."""
    if os.geteuid() != 0:
        return "a booted host takes root"
    programs = {"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap", "nsenter": "util-linux"}
    missing = [package for name, package in programs.items() if shutil.which(name) is None]
    if missing:
        return f"not installed: apt-get install {' '.join(missing)}"
    if sys.base_prefix == "/usr":
        return "the system's own Python cannot be shown to another system: use one with a prefix of its own"
    if not CACHED.exists():
        script = Path(__file__).with_name("make_root.sh")
        made = subprocess.run([str(script), str(CACHED)], capture_output=True, text=True, check=False)  # noqa: S603
        if made.returncode:
            return f"{script.name} failed: {made.stderr[-500:]}"
    return None


class BootedHost:
    """A Debian that boots on an overlay of the cached root; a context manager.

    The interpreter, the virtual environment and the checkout are visible in it, read-only, at their own paths.

    Args:
        network: the network namespace that it boots in.
        memory: the limit of all its processes together, in bytes; None for none.
    """

    def __init__(self, network: NetworkHost, memory: int | None = None) -> None:
        self.network = network
        home = Path(tempfile.mkdtemp(prefix="panguard-host-"))  # not pytest's: mounts are not for others to clear away
        self.console = home / "console.log"
        self.python = sys.executable
        self._home = home
        self._upper = home / "overlay"
        self.root = home / "root"
        self._disk = home / "disk"  # the same tree once more, which stays writable where the root is mounted read-only
        self._groups = _own_groups(f"panguard-{secrets.token_hex(4)}", memory)
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        self._mount()
        try:
            self.boot()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def boot(self, writable: Sequence[str] = ()) -> None:
        """Start it, and wait until systemd has started everything.

        Args:
            writable: Directories; with any, the rest of the disk is mounted read-only, /tmp and /var/tmp too.
        """
        self.network.run("nft", "flush", "ruleset")  # a kernel that boots has no rules; this network outlives a boot
        shown = {sys.base_prefix, sys.prefix, str(ROOT)}
        words = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot", "--console=pipe"]
        words += ["--register=no", "--keep-unit", "--link-journal=no", "--capability=all", "--machine=guarded"]
        words += [f"--network-namespace-path=/run/netns/{self.network.name}", "--resolv-conf=off"]
        words += [f"--bind-ro={path}" for path in sorted(shown)]
        if writable:
            for path in shown:  # places to mount on cannot be made on a read-only disk
                (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
            words += ["--read-only", *(f"--bind={self._disk}{path}:{path}" for path in writable)]
        joined = 'for group in $GROUPS_OF_HOST; do echo $$ > "$group/cgroup.procs"; done; exec "$@"'
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(  # noqa: S603 -- our own words
                ["/bin/sh", "-c", joined, "sh", *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={
                    **os.environ,
                    "GROUPS_OF_HOST": " ".join(map(str, self._groups)),
                    "SYSTEMD_NSPAWN_TMPFS_TMP": "0" if writable else "1",
                },
            )
        self.wait_until_started()

    def wait_until_started(self) -> None:
        """Wait until systemd says that the start is complete."""
        eventually(self._started, 150, f"a started host; {self.console}", 0.2)

    def reboot(self) -> None:
        """Reboot as an operator does; what is on its disk stays."""
        self.power_off()
        self.boot()

    def power_off(self) -> None:
        """Shut it down as an operator does; `boot` starts it again with what is on its disk."""
        assert self._nspawn is not None
        self.result("systemctl", "poweroff")
        self._nspawn.wait(60)
        self._nspawn, self._leader = None, 0

    @property
    def oom_kills(self) -> int:
        """The number of its processes that the kernel has killed for want of memory."""
        files = [group / name for group in self._groups for name in ("memory.events", "memory.oom_control")]
        lines = [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]
        return sum(int(number) for name, number in lines if name == "oom_kill")

    def crash(self) -> None:
        """End it at once, as a loss of power does."""
        if self._leader:
            with suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
        if self._nspawn is not None:
            self._nspawn.wait(60)
        self._nspawn, self._leader = None, 0

    def run(
        self,
        *words: str,
        input_: str | None = None,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> str:
        """Run a command in it as root and return the output."""
        done = self.result(*words, input_=input_, environment=environment)
        if check:
            assert done.returncode == 0, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def result(
        self,
        *words: str,
        input_: str | None = None,
        environment: Mapping[str, str] | None = None,
        within: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root and return the result."""
        return subprocess.run(  # noqa: S603 -- tests
            [*self.inside(), *words],
            input=input_,
            capture_output=True,
            text=True,
            check=False,
            env=_PATH | dict(environment or {}),
            timeout=within,
        )

    def inside(self, network: NetworkHost | None = None) -> list[str]:
        """Return the words before a command that runs in it, in its network or in that of another host."""
        namespaces = f"/proc/{self._leader}/ns"
        net = f"{namespaces}/net" if network is None else f"/run/netns/{network.name}"
        words = ["nsenter", f"--mount={namespaces}/mnt", f"--pid={namespaces}/pid", f"--uts={namespaces}/uts"]
        return [*words, f"--ipc={namespaces}/ipc", f"--net={net}"]

    def panguard(self, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a `panguard` command in it, as root, and return the result."""
        command = [sys.executable, "-m", "panguard", *words]
        return self.result(*command, environment={"PYTHONPATH": str(ROOT), **(environment or {})})

    def service(
        self,
        unit: str,
        *words: str,
        user: str = "root",
        environment: Mapping[str, str] | None = None,
        properties: Sequence[str] = (),
    ) -> None:
        """Start a `panguard` command as a transient unit; its output goes to /var/log/UNIT.log."""
        log = f"append:/var/log/{unit}.log"
        properties = (f"StandardOutput={log}", f"StandardError={log}", *properties)
        self.result("systemctl", "reset-failed", unit)
        given = {"PYTHONPATH": str(ROOT), **(environment or {})}
        command = [
            "systemd-run",
            "--quiet",
            f"--unit={unit}",
            f"--uid={user}",
            *(f"--property={p}" for p in properties),
        ]
        command += [f"--setenv={name}={value}" for name, value in given.items()]
        self.run(*command, sys.executable, "-m", "panguard", *words)

    def path(self, path: str) -> Path:
        """Return one of its paths as this process reaches it, with its mounts."""
        return Path(f"/proc/{self._leader}/root") / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file in it."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def within(self, work: Callable[[], T]) -> T:
        """Return the result of a function that runs in its network."""
        return self.network.within(work)

    def journal(self, *words: str) -> str:
        """Return messages of its journal."""
        return self.run("journalctl", "--no-pager", "--output=cat", *words)

    def _started(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self.console.read_text(errors="replace")[-2000:]
        self._leader = self._find_leader()
        if not self._leader:
            return False
        with suppress(subprocess.TimeoutExpired):
            return self.result("systemctl", "is-system-running", within=60).stdout.strip() in {"running", "degraded"}
        return False

    def _find_leader(self) -> int:
        """Return the process that is number 1 in the host; 0 if there is none."""
        assert self._nspawn is not None
        waiting = [self._nspawn.pid]
        while waiting:
            pid = waiting.pop()
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
                if len(numbers) > 1 and numbers[-1] == "1":
                    return pid
                waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return 0

    def _mount(self) -> None:
        for folder in (self._upper, self.root, self._disk):
            folder.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", "size=2g,mode=0755", "tmpfs", str(self._upper))
        for name in ("upper", "work"):
            (self._upper / name).mkdir()
        layers = f"lowerdir={CACHED},upperdir={self._upper}/upper,workdir={self._upper}/work"
        _run("mount", "-t", "overlay", "-o", layers, "overlay", str(self.root))
        _run("mount", "--bind", str(self.root), str(self._disk))
        (self.root / "root").chmod(0o755)  # an interpreter below it is for every user

    def _remove(self) -> None:
        self.crash()
        for mount in (self._disk, self.root, self._upper):
            subprocess.run(["umount", "--lazy", str(mount)], capture_output=True, check=False)  # noqa: S603, S607
        if not any(map(os.path.ismount, (self._disk, self.root, self._upper))):
            shutil.rmtree(self._home, ignore_errors=True)
        for group in self._groups:
            for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                with suppress(OSError):
                    folder.rmdir()
            with suppress(OSError):
                group.rmdir()


_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 -- tests
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


def _own_groups(name: str, memory: int | None) -> list[Path]:
    """Make control groups, so that several hosts do not share one; with the limit of memory where it is given."""
    made = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, more = line.partition(" - ")
        kind, _, options = more.split()[:3]
        wanted = kind == "cgroup2" or (kind == "cgroup" and {"name=systemd", "memory"} & set(options.split(",")))
        if not wanted:
            continue
        group = Path(mount.split()[4]) / name
        try:
            group.mkdir()
        except OSError:
            continue
        made.append(group)
        if memory is not None:
            for limit in ("memory.max", "memory.limit_in_bytes"):
                if (group / limit).exists():
                    (group / limit).write_text(str(memory))
    return made
