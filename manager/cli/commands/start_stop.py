"""`panguard manager start` and `stop`: a manager in the foreground, and its orderly end."""

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from manager.cli.commands.config import read_settings
from manager.cli.support.connection import data_directory
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import DataDir

STOPS_WITHIN = 10.0
"""Seconds after which a manager that was told to stop counts as stuck."""

_POLL = 0.05
_LONGEST_PID = 9

Host = Annotated[str | None, typer.Option(help="the address that both doors listen on [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="the HTTP port; 0 takes a free one [default: 8443]")]
MqttPort = Annotated[int | None, typer.Option(help="the embedded broker's port; 0 takes a free one [default: 1883]")]
Broker = Annotated[str | None, typer.Option(help="embedded, or mqtts://[user@]host:port [default: embedded]")]
AuthToken = Annotated[
    str | None, typer.Option("--auth-token", help="the admin token; MANAGER_AUTH_TOKEN shows it to fewer eyes")
]
TrustNetwork = Annotated[
    list[str] | None,
    typer.Option("--trust-network", metavar="CIDR", help="hosts of this network register without a token; repeatable"),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="serve beyond loopback without TLS")]


def start(
    *,
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    mqtt_port: MqttPort = None,
    broker: Broker = None,
    auth_token: AuthToken = None,
    trust_network: TrustNetwork = None,
    insecure: Insecure = False,
) -> None:
    """Run a manager until SIGTERM. It prints `ready http=… mqtt=…` once both doors are open."""
    given = {
        "data_dir": data_dir,
        "host": host,
        "port": port,
        "mqtt_port": mqtt_port,
        "broker": broker,
        "auth_token": auth_token,
        "trusted_networks": tuple(trust_network) if trust_network else None,
        "insecure": insecure or None,
    }
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    from manager.cli.support.logs import configure_logs  # noqa: PLC0415 -- the parts of a manager load with the manager
    from manager.errors import SetupError  # noqa: PLC0415 -- the same
    from manager.runtime.loop import run  # noqa: PLC0415 -- the same

    configure_logs()
    try:
        code = run(settings)
    except SetupError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error
    raise typer.Exit(code)


def stop(data_dir: DataDir = None) -> None:
    """Stop the manager that runs on a data directory, and wait until it is gone."""
    directory = data_directory(data_dir)
    lock = directory / "manager.pid"
    pid = owner(lock)
    if pid is None:
        raise CommandFailed(ExitCode.NOT_FOUND, f"no manager runs on {directory}")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise CommandFailed(ExitCode.FAILURE, f"the manager, process {pid}, belongs to another user") from error
    deadline = time.monotonic() + STOPS_WITHIN
    while owner(lock) == pid:
        if time.monotonic() >= deadline:
            raise CommandFailed(ExitCode.FAILURE, f"the manager, process {pid}, does not end; look into its log")
        time.sleep(_POLL)
    typer.echo("stopped")


def owner(lock: Path) -> int | None:
    """Return the process that holds a lock file; None if the file is left over, for its pid may be anybody's now."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{lock} cannot be read: {error.strerror}") from error
    try:
        text = os.read(descriptor, 32).strip()
        if not text.isdigit() or len(text) > _LONGEST_PID or not _is_locked(descriptor):
            return None
        return int(text)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
