"""Runs the services of compose.yaml without an engine, each as contained as there: by the kernel's own means.

A service has the network that all share, its own view of the files (a root that nobody can write, its volumes, and
nothing of the others'), the user of the composition, and no capability.
"""

import shlex
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from manager.provisioning.mosquitto_files import find_plugin
from tests.support.composition import ROOT, command, in_order, mounts, services
from tests.support.waiting import eventually

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8", "COLUMNS": "200"}
_LOOPBACK_UP = (
    "import fcntl, socket, struct, sys\n"
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))\n"  # SIOCSIFFLAGS: up and running
    "print('up', flush=True)\n"
    "sys.stdin.read()\n"
)
_PROGRAM = ["/mnt/venv/bin/python", "-m", "panguard"]


def missing() -> str | None:
    """Return why services cannot be contained here; None if they can."""
    probe = ["unshare", "--mount", "--net", "sh", "-c", _script([], "10001:10001"), "sh", *_PROGRAM, "--help"]
    try:
        ended = subprocess.run(  # noqa: S603 -- our own command
            probe, env=_inner_environment(), capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        return f"{error.filename} is not installed"
    if ended.returncode:
        return f"this machine lets nobody make namespaces for another user: {ended.stderr.strip()[-300:]}"
    return None


class Containers:
    """A context manager around a whole composition; volumes are directories below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.services = services()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.unwell: dict[str, str] = {}
        self._network: subprocess.Popen[bytes] | None = None
        hosts = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *self.services))
        (home / "hosts").write_text(hosts)
        (home / "hosts").chmod(0o644)

    def __enter__(self) -> Self:
        """Make the network that all share."""
        words = ["unshare", "--net", sys.executable, "-c", _LOOPBACK_UP]
        self._network = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 -- our own
        assert self._network.stdout is not None
        assert self._network.stdout.readline() == b"up\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all services, last first, then the network."""
        for name in reversed(list(self.running)):
            self.stop(name)
        if self._network is not None:
            self._network.communicate(timeout=60)

    def up(self) -> None:
        """Start what compose.yaml starts, in its order, each when what it depends on is done or healthy."""
        for name in in_order(self.services):
            if self.services[name]["restart"] == "no":
                ended = self.run(name, command(self.services[name]))
                assert ended.returncode == 0, (name, ended.stdout, ended.stderr)
            elif name not in self.running:
                self.start(name)
                eventually(lambda name=name: self.is_healthy(name), what=f"{name} healthy", pause=0.2)  # type: ignore[misc]

    def start(self, name: str) -> None:
        """Start a service that serves."""
        with self.log(name).open("ab") as output:
            words = self._words(name, command(self.services[name]))
            self.running[name] = subprocess.Popen(  # noqa: S603 -- the words of compose.yaml
                words, env=_inner_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def stop(self, name: str) -> int:
        """End a service as compose does; return its exit code."""
        process = self.running.pop(name)
        process.terminate()
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(60)

    def run(self, name: str, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command as contained as a service is."""
        return subprocess.run(  # noqa: S603 -- the words of compose.yaml, or our own command
            self._words(name, words),
            env=_inner_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def is_healthy(self, name: str) -> bool:
        """Return whether a service's health check succeeds; one that ended by itself fails the claim."""
        process = self.running.get(name)
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{name} ended with {process.returncode}: {self.log(name).read_text()[-3000:]}")
        ended = self.run(name, self.services[name]["healthcheck"]["test"][1:])
        self.unwell[name] = ended.stdout + ended.stderr
        return ended.returncode == 0

    def log(self, name: str) -> Path:
        """Return where a service's output goes."""
        return self.home / f"{name}.log"

    def volume(self, name: str) -> Path:
        """Return the directory of a volume, made as an image makes it: empty, and its user's."""
        directory = self.home / "volumes" / name
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            subprocess.run(["chown", "10001:10001", str(directory)], check=True)  # noqa: S603, S607 -- our own
        return directory

    def _words(self, name: str, words: list[str]) -> list[str]:
        service = self.services[name]
        placed = [word.replace("/usr/lib/mosquitto_dynamic_security.so", str(find_plugin())) for word in words]
        program = _PROGRAM if placed[0] == "panguard" else placed[:1]
        assert self._network is not None
        script = _script([*self._volumes(name)], service["user"], self.home / "hosts", service.get("working_dir", "/"))
        network = (
            [] if service.get("network_mode") == "none" else ["nsenter", f"--net=/proc/{self._network.pid}/ns/net"]
        )
        return [*network, "unshare", "--mount", "sh", "-c", script, "sh", *program, *placed[1:]]

    def _volumes(self, name: str) -> list[tuple[Path, str, bool]]:
        return [
            (self.volume(mount.volume or f"of-{name}"), mount.target, mount.read_only)
            for mount in mounts(self.services[name])
        ]


def _inner_environment() -> dict[str, str]:
    return {**_ENVIRONMENT, "PYTHONPATH": "/mnt/src", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def _script(volumes: list[tuple[Path, str, bool]], user: str, hosts: Path | None = None, directory: str = "/") -> str:
    """Return what makes a service's view of the files, drops all privileges, and becomes its command."""
    uid, _, gid = user.partition(":")
    lines = ["set -e", "mount --make-rprivate /", "mount -t tmpfs -o mode=755 none /mnt", "mkdir /mnt/src /mnt/venv"]
    for source, target in ((ROOT, "/mnt/src"), (Path(sys.prefix), "/mnt/venv")):
        lines += [f"mount --bind {shlex.quote(str(source))} {target}", f"mount -o remount,ro,bind {target}"]
    if hosts is not None:
        lines.append(f"mount --bind {shlex.quote(str(hosts))} /etc/hosts")
    lines.append("mount -t tmpfs -o mode=755 none /var/lib")
    for source, target, read_only in volumes:
        lines += [f"mkdir -p {target}", f"mount --bind {shlex.quote(str(source))} {target}"]
        lines += [f"mount -o remount,ro,bind {target}"] if read_only else []
    lines += ["mount -o remount,ro /var/lib", "mount -t tmpfs -o ro none /tmp", "mount -o remount,ro,bind /"]
    identity = f"--reuid {uid} --regid {gid} --clear-groups"
    lines.append(f"cd {directory}")
    lines.append(f'exec setpriv {identity} --inh-caps=-all --bounding-set=-all --no-new-privs "$@"')
    return "\n".join(lines)
