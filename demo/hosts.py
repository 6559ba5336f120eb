"""The demo's hosts: network namespaces with a TCP service and a fence each, and an attacker who connects to them."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ATTACKER, VISITOR = "203.0.113.66", "203.0.113.67"
PORT = 22

_READY_WITHIN = 10.0
_ANSWERS_WITHIN = 1.0

_SERVICE = f"""
import socket
listener = socket.create_server(("0.0.0.0", {PORT}))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"SSH-2.0-demo\\r\\n")
"""
_VISIT = f"""
import socket, sys
address, source = (sys.argv[1], {PORT}), (sys.argv[2], 0)
try:
    with socket.create_connection(address, {_ANSWERS_WITHIN}, source_address=source) as connection:
        sys.exit(0 if connection.recv(64) else 1)
except OSError:
    sys.exit(1)
"""


def simulated_because() -> str | None:
    """Return why blocks can only be simulated on this machine; None if they can be real."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = [name for name in ("ip", "nft") if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    probe = f"pgdemo-{secrets.token_hex(3)}"
    try:
        _run("ip", "netns", "add", probe)
        try:
            _run("ip", "netns", "exec", probe, "nft", "add", "table", "inet", "probe")
        finally:
            _run("ip", "netns", "delete", probe)
    except OSError as error:
        return f"network namespaces cannot be used: {error}"
    return None


class GuardedHost:
    """One namespace with its service and its fence."""

    def __init__(self, namespace: str, address: str, home: Path) -> None:
        self.address = address
        self.socket = home / f"{namespace}.sock"
        self._namespace = namespace
        self._home = home
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, sign_key: str) -> None:
        """Start the service and the fence; wait until both are ready.

        Raises:
            OSError: one of them does not come up.
        """
        config = self._home / f"{self._namespace}.conf"
        settings = {"sign_keys": [sign_key], "state": str(self._home / f"{self._namespace}.state")}
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
        config.chmod(0o600)
        service = self._start("service", "-c", _SERVICE)
        fence = self._start(
            "fence", "-m", "panguard", "fence", "serve", "--socket", str(self.socket), "--config", str(config)
        )
        deadline = time.monotonic() + _READY_WITHIN
        while not (self.socket.exists() and b"ready" in self._log("service").read_bytes()):
            if time.monotonic() > deadline or service.poll() is not None or fence.poll() is not None:
                raise OSError(f"{self._namespace} did not come up: {self._log('fence').read_text()[-500:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop both."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(10)

    def _start(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 -- our own command, no shell
                [*_within(self._namespace), sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _log(self, name: str) -> Path:
        return self._home / f"{self._namespace}.{name}.log"


class Hosts:
    """The guarded hosts and the attacker's one on a bridge. A context manager that takes all of it away at its end.

    Args:
        home: for sockets, configuration and logs.
        count: the number of guarded hosts.
    """

    def __init__(self, home: Path, count: int) -> None:
        self._tag = f"pgdemo{secrets.token_hex(3)}"
        self._namespaces: list[str] = []
        self._attacker = f"{self._tag}-a"
        self.guarded = [
            GuardedHost(f"{self._tag}-{number}", f"203.0.113.{10 + number}", home) for number in range(count)
        ]

    def __enter__(self) -> Self:
        """Make the network."""
        try:
            self._add("hub")
            _run("ip", "-n", self._namespaces[0], "link", "add", "hub", "type", "bridge")
            _run("ip", "-n", self._namespaces[0], "link", "set", "hub", "up")
            for number, host in enumerate(self.guarded):
                self._join(str(number), host.address)
            self._join("a", ATTACKER, VISITOR)
        except OSError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the hosts and take the namespaces away."""
        for host in self.guarded:
            host.stop()
        while self._namespaces:
            _run("ip", "netns", "delete", self._namespaces.pop())

    def reaches(self, host: GuardedHost, source: str = ATTACKER) -> bool:
        """Return whether a source address gets the service's greeting over a real TCP connection."""
        command = [*_within(self._attacker), sys.executable, "-I", "-S", "-c", _VISIT, host.address, source]
        return subprocess.run(command, check=False).returncode == 0  # noqa: S603 -- our own command, no shell

    def _add(self, name: str) -> None:
        namespace = f"{self._tag}-{name}"
        _run("ip", "netns", "add", namespace)
        self._namespaces.append(namespace)

    def _join(self, name: str, *addresses: str) -> None:
        """Make a namespace with addresses and a cable to the bridge."""
        self._add(name)
        hub, namespace = self._namespaces[0], self._namespaces[-1]
        cable = ("link", "add", "eth0", "type", "veth", "peer", "name", f"to-{name}", "netns", hub)
        _run("ip", "-n", namespace, *cable)
        _run("ip", "-n", hub, "link", "set", f"to-{name}", "master", "hub", "up")
        for address in addresses:
            _run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _run("ip", "-n", namespace, "link", "set", link, "up")


_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def _within(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace]


def _run(*words: str) -> None:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_PATH}"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 -- no shell
    if done.returncode:
        raise OSError(f"{' '.join(words[:3])}: {done.stderr.strip()}")
