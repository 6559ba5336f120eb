"""OpenSSH's client and bare connections from a second network, against a booted host."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from tests.support.booted_host.machine import BootedHost
from tests.support.network import NetworkHost

T = TypeVar("T")

SERVER = "203.0.113.1"
PASSWORD = "correct horse"
WRONG = "wrong"
KEYS_ONLY = [f"203.0.113.{number}" for number in range(60, 70)]
"""Addresses to which the host's sshd offers no password login."""

_HOME = "/opt/attacker"
_SSHD = f"""
UseDNS no
PasswordAuthentication yes
KbdInteractiveAuthentication yes
PermitRootLogin yes
MaxStartups 200
Match Address {",".join(KEYS_ONLY)}
    PasswordAuthentication no
    KbdInteractiveAuthentication no
"""


class Attacker:
    """A machine with the addresses 203.0.113.20 to .239, whose ssh client is the booted host's own program.

    Args:
        host: the attacked host; gets accounts, keys and settings of sshd.
        network: the attacker's network namespace.
        server: the attacked host's address.
    """

    def __init__(self, host: BootedHost, network: NetworkHost, server: str = SERVER) -> None:
        self._host = host
        self.server = server
        self.network = network
        self._answers = 0

    def furnish(self) -> None:
        """Make accounts on the host, keys for the attacker, and let the host's sshd take passwords without a delay."""
        host = self._host
        script = f"""
            set -e
            for user in alice bob carol; do useradd --create-home --shell /bin/sh $user; done
            for user in root alice bob carol; do echo "$user:{PASSWORD}"; done | chpasswd
            sed -i 's/pam_unix.so nullok/pam_unix.so nullok nodelay/' /etc/pam.d/common-auth
            mkdir -p {_HOME}
            chmod 700 {_HOME}
            for key in right wrong0 wrong1 wrong2 wrong3 wrong4; do
                ssh-keygen -q -t ed25519 -N '' -C key -f {_HOME}/$key
            done
            for user in alice bob carol; do
                install -d -o $user -g $user -m 700 /home/$user/.ssh
                install -o $user -g $user -m 600 {_HOME}/right.pub /home/$user/.ssh/authorized_keys
            done
        """
        host.run("sh", "-c", script)
        asks = '#!/bin/sh\nhead -n 1 "$ANSWERS"\nsed -i 1d "$ANSWERS"\n'
        host.write(f"{_HOME}/askpass", asks, 0o700)
        host.write("/etc/ssh/sshd_config.d/tests.conf", _SSHD)
        host.run("systemctl", "restart", "ssh")

    def start(
        self,
        user: str,
        source: str,
        *secrets: str,
        method: str = "password",
        keys: Sequence[str] = (),
        command: str = "true",
        patience: int = 20,
    ) -> subprocess.Popen[str]:
        """Start one connection of the client, which answers with these secrets or offers these keys."""
        self._answers += 1
        answers = f"{_HOME}/answers.{self._answers}"
        self._host.write(answers, "".join(f"{secret}\n" for secret in secrets))
        methods = "publickey" if not secrets else "publickey," * bool(keys) + method
        words = [
            "ssh", "-F", "none", "-b", source, "-l", user,
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-o", f"PreferredAuthentications={methods}", "-o", f"NumberOfPasswordPrompts={max(1, len(secrets))}",
            "-o", "IdentitiesOnly=yes", "-o", f"ConnectTimeout={patience}",
            "-o", f"PubkeyAuthentication={'yes' if keys else 'no'}",
            *(word for key in keys for word in ("-i", f"{_HOME}/{key}")),
            self.server, command,
        ]  # fmt: skip
        asks = {"SSH_ASKPASS": f"{_HOME}/askpass", "SSH_ASKPASS_REQUIRE": "force", "ANSWERS": answers}
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/root", **asks}
        return subprocess.Popen(  # noqa: S603 -- tests
            [*self._host.inside(self.network), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def end(client: subprocess.Popen[str]) -> None:
        """End a client, with the process that entered the namespaces for it."""
        with suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGKILL)
        client.communicate()

    def ssh(
        self,
        user: str,
        source: str,
        *secrets: str,
        method: str = "password",
        keys: Sequence[str] = (),
        command: str = "true",
        within: int = 40,
    ) -> bool:
        """Return whether a connection logs in and its command succeeds; one that is cut off ends after `within` s."""
        client = self.start(user, source, *secrets, method=method, keys=keys, command=command, patience=within)
        try:
            client.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self.end(client)
        return client.returncode == 0

    def within(self, work: Callable[[], T]) -> T:
        """Return the result of a function that runs in its network."""
        return self.network.within(work)

    def answers(self, source: str) -> bool:
        """Return whether the host's kernel answers an address: a port without a service refuses at once."""
        try:
            self.network.connect(self.server, 9, source, 0.2).close()
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def reaches(self, source: str, port: int = 22) -> bool:
        """Return whether the host accepts a TCP connection from an address."""
        try:
            self.network.connect(self.server, port, source, 0.5).close()
        except OSError:
            return False
        return True

    def say(self, source: str, greeting: bytes = b"") -> None:
        """Open a connection to sshd, say something, and wait for its end; without a greeting hang up at once."""

        def connect() -> None:
            with (
                suppress(OSError),
                socket.create_connection((self.server, 22), 5, source_address=(source, 0)) as connection,
            ):
                if greeting:
                    connection.sendall(greeting)
                    while connection.recv(4096):
                        pass

        self.network.within(connect)
