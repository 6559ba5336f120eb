"""A Mosquitto with the shipped broker.conf, prepared as an operator prepares it: by `panguard manager broker init`."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from manager.mosquitto_setup import prepare
from manager.tls.directory import TlsDirectory
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port


class ProductionMosquitto:
    """A context manager around one; the manager that it is for has its data directory at `data`.

    Args:
        data: the manager's data directory; made if it is not there.
        directory: the broker's own; made if it is not there.
    """

    def __init__(self, data: Path, directory: Path) -> None:
        self.data = data
        self.directory = directory
        self.port = free_port()
        self.websocket_port = free_port()
        self._broker = Mosquitto(configuration=directory / "broker.conf", port=self.port)

    @property
    def url(self) -> str:
        """Where the broker is, as the manager's settings name it."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that runs."""
        assert self._broker.pid is not None
        return self._broker.pid

    def credential(self, username: str) -> tuple[str, str]:
        """Return the login of `manager` or `observer`."""
        if username == "manager":
            return username, (self.data / "broker.password").read_text().strip()
        name, _, password = (self.data / "observer.credential").read_text().strip().partition(":")
        return name, password

    def prepare(self, *, force: bool = False) -> None:
        """Write the broker's files as the operator's command does."""
        user = "root" if os.geteuid() == 0 else None  # it would become `mosquitto`, who may not enter this directory
        websocket_port = self.websocket_port if TlsDirectory(self.data).certificate("broker").exists() else None
        prepare(self.data, self.directory, port=self.port, websocket_port=websocket_port, user=user, force=force)

    def __enter__(self) -> Self:
        """Prepare it unless that was done before, and start it."""
        if not (self.directory / "broker.conf").exists():
            self.prepare()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; its files stay."""
        self._broker.__exit__(kind, error, trace)

    def start(self) -> None:
        """Start the broker and wait until it listens."""
        self._broker.start()

    def stop(self) -> None:
        """End it with SIGTERM: it saves what it has."""
        self._broker.stop()

    def kill(self) -> None:
        """End it with SIGKILL: what it has not saved is lost."""
        self._broker.kill()

    def log(self) -> str:
        """Return what the broker has said since its first start."""
        return self._broker.log()
