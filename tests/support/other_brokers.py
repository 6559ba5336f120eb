"""NATS and RabbitMQ of one's own: on free loopback ports, with a directory of their own, ended with the block."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.ports import free_port
from tests.support.waiting import eventually

_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


class _Broker:
    """A process that listens for MQTT on `port`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._kept = tempfile.TemporaryDirectory(prefix="broker-")
        self.directory = Path(self._kept.name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The broker's URL for the manager's settings."""
        return f"mqtt://127.0.0.1:{self.port}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Write the configuration; return the command and its environment."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether the log says that the broker serves MQTT."""
        raise NotImplementedError

    def log(self) -> str:
        """Return the broker's output."""
        path = self.directory / "output.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        command, environment = self.command()
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- the installed broker, with files written here
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                cwd=self.directory,
                start_new_session=True,
            )
        try:
            eventually(self._looks_ready, 180, "the broker's readiness")  # RabbitMQ takes half a minute of CPU
        except AssertionError:
            self.stop()
            self._kept.cleanup()
            raise
        return self

    def _looks_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        return self.is_ready()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._kept.cleanup()

    def stop(self) -> None:
        """End all processes of the broker."""
        if self._process is None:
            return
        family = [self._process.pid, *(child.pid for child in psutil.Process(self._process.pid).children(True))]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(60)
        self._process = None


class Nats(_Broker):
    """nats-server with its MQTT listener and JetStream, which MQTT needs."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        path = shutil.which("nats-server", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
        assert path is not None
        configuration = self.directory / "nats.conf"
        configuration.write_text(
            f'server_name: "panguard"\nhost: "127.0.0.1"\nport: {free_port()}\n'
            f'jetstream {{ store_dir: "{self.directory}" }}\nmqtt {{ host: "127.0.0.1", port: {self.port} }}\n'
        )
        return [path, "-c", str(configuration)], {}

    def is_ready(self) -> bool:
        return "Server is ready" in self.log()


class RabbitMq(_Broker):
    """rabbitmq-server with its MQTT plugin, and one login.

    Args:
        username: of the login, which may do everything.
        password: of the login.
    """

    def __init__(self, username: str, password: str) -> None:
        super().__init__()
        self._login = (username, password)
        self._epmd = free_port()

    def command(self) -> tuple[list[str], dict[str, str]]:
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{free_port()}\nmqtt.listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"default_user = {self._login[0]}\ndefault_pass = {self._login[1]}\nlog.console = true\n"
        )
        (self.directory / "enabled_plugins").write_text("[rabbitmq_mqtt].")
        environment = {
            "HOME": str(self.directory),
            "RABBITMQ_NODENAME": f"panguard{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        return [_RABBITMQ], environment

    def is_ready(self) -> bool:
        return "Server startup complete" in self.log()

    def stop(self) -> None:
        """End the broker, and the port mapper that it has started beside itself."""
        super().stop()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == "epmd" and process.environ().get("ERL_EPMD_PORT") == str(self._epmd):
                    process.kill()
