"""Writes an sshd log of a host under attack, in OpenSSH's line format."""

from datetime import datetime
from pathlib import Path


class SshdLog:
    """One host's log file; lines are appended, as sshd does.

    Args:
        path: the file.
        hostname: the host's name in each line.
    """

    def __init__(self, path: Path, hostname: str) -> None:
        self.path = path
        self._hostname = hostname
        self._port = 40_000
        path.touch(mode=0o600)

    def failed_logins(self, address: str, count: int) -> None:
        """Append lines of failed password logins as root from one address."""
        with self.path.open("a", encoding="utf-8") as log:
            for _ in range(count):
                self._port += 1
                stamp = datetime.now().astimezone().isoformat()
                log.write(
                    f"{stamp} {self._hostname} sshd[{self._port}]: "
                    f"Failed password for root from {address} port {self._port} ssh2\n"
                )
