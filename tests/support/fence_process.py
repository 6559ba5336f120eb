"""A real fence in a network namespace, and a client of its socket."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.network import NetworkHost
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
GUARD_UID = 10_001


class FenceProcess:
    """`python -m fence serve`; a context manager.

    Args:
        host: the namespace that it protects.
        home: for its configuration, state and log.
        settings: lines of its configuration beside those that each test has.
    """

    def __init__(self, host: NetworkHost, home: Path, **settings: Any) -> None:
        self.host = host
        self.home = home
        self.socket = home / "fence.sock"
        self.log = home / "fence.log"
        self.process: subprocess.Popen[bytes] | None = None
        given = {
            "guard_uid": GUARD_UID,
            "protected_ports": [22],
            "state": str(home / "fence-state"),
            "check_interval": 1.0,
            **settings,
        }
        (home / "fence.conf").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        words = ["--socket", str(self.socket), "--config", str(self.home / "fence.conf")]
        self.process = self.host.start(sys.executable, "-m", "fence", "serve", *words, log=self.log, directory=ROOT)
        eventually(self._answers, what=f"the fence; {self.log.read_text()}")

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self.log.read_text())
        try:
            return bool(self.ask(request="status")["ok"])
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return the answer to a request that root makes."""
        return self.send(json.dumps(request).encode())

    def send(self, line: bytes) -> dict[str, Any]:
        """Return the answer to one line."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.socket))
            connection.sendall(line + b"\n")
            with connection.makefile("rb") as answers:
                read = answers.readline()
        if not read:
            raise ConnectionResetError("closed without an answer")
        answer: dict[str, Any] = json.loads(read)
        return answer

    def ask_as(self, uid: int, **request: Any) -> dict[str, Any]:
        """Return the answer to a request from a process of another user, which gives root up once it runs."""
        self.open_path()
        done = subprocess.run(  # noqa: S603 -- our own
            [sys.executable, "-c", _CLIENT, str(self.socket), str(uid)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )
        if done.returncode:
            raise PermissionError(done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def ask_in_new_session(self, **request: Any) -> dict[str, Any]:
        """Return the answer to a request from a process that begins now and has no ancestor but init."""
        script, answer = self.home / "session.py", self.home / "session.json"
        answer.unlink(missing_ok=True)
        script.write_text(_CLIENT)
        command = f"exec setsid --fork {sys.executable} {script} {self.socket} 0 > {answer}.part"
        subprocess.run(["sh", "-c", command], input=json.dumps(request), text=True, check=True)  # noqa: S603, S607 -- ours
        part = Path(f"{answer}.part")
        read: dict[str, Any] = json.loads(eventually(part.read_text, what="the answer in a new session"))
        return read

    def as_guard(self, **request: Any) -> dict[str, Any]:
        """Return the answer to a request that the guard's user makes."""
        return self.ask_as(GUARD_UID, **request)

    def open_path(self) -> None:
        """Let other users walk to the socket: a test's directories are private."""
        for parent in self.socket.parents:
            if parent == Path("/"):
                break
            mode = parent.stat().st_mode
            if not mode & 0o001:
                parent.chmod(mode | 0o011)

    def elements(self, name: str) -> list[Any]:
        """Return a set's elements as the kernel lists them."""
        listed = json.loads(self.host.run("nft", "-j", "list", "set", "inet", "panguard", name))
        found: list[Any] = next(each["set"].get("elem", []) for each in listed["nftables"] if "set" in each)
        return found


_CLIENT = """
import os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(60)
connection.connect(sys.argv[1])
connection.sendall(sys.stdin.read().encode() + b"\\n")
sys.stdout.write(connection.makefile().readline())
"""
