"""A log into which sshd's lines arrive."""

from datetime import UTC, datetime
from pathlib import Path


class SshdLog:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def attack(self, address: str, failures: int = 5, first_port: int = 40_000) -> None:
        """Write failed logins of one address, as sshd does."""
        self.write(
            *(
                f"Failed password for root from {address} port {port} ssh2"
                for port in range(first_port, first_port + failures)
            )
        )

    def write(self, *messages: str) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.path.open("a") as log:
            log.writelines(f"{stamp} srv-01 sshd[4711]: {message}\n" for message in messages)
