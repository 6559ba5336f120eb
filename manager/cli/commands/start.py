"""`panguard manager start`: runs a manager, in the background with `--detach`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from manager.cli.commands.config import configuration, typed_options
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import ConfigOption, DatabaseOption, DatabasePasswordFile, DataDir, KeyFileOption
from manager.role import Role

Host = Annotated[str | None, typer.Option(help="listen address of HTTP and embedded broker [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="the HTTP port; 0 picks a free one [default: 8443]")]
MqttPort = Annotated[int | None, typer.Option(help="the embedded broker's port; 0 picks a free one [default: 1883]")]
Broker = Annotated[str | None, typer.Option(help="embedded, or mqtts://[user@]host:port [default: embedded]")]
AuthToken = Annotated[
    str | None,
    typer.Option("--auth-token", help="the admin token; prefer MANAGER_AUTH_TOKEN: processes show flags"),
]
TrustNetwork = Annotated[
    list[str] | None,
    typer.Option("--trust-network", metavar="CIDR", help="hosts of this network register without a token; repeatable"),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="serve beyond loopback without TLS")]

RoleOption = Annotated[
    Role | None, typer.Option("--role", help="all leads or stands by, ingest takes reports alone [default: all]")
]
Address = Annotated[
    str | None, typer.Option(metavar="URL", help="where the database's other managers reach this one over HTTP")
]

Detach = Annotated[
    bool, typer.Option("--detach", help="run in the background; return once the manager is ready, with its addresses")
]


def start(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    data_dir: DataDir = None,
    key_file: KeyFileOption = None,
    database: DatabaseOption = None,
    database_password_file: DatabasePasswordFile = None,
    role: RoleOption = None,
    address: Address = None,
    host: Host = None,
    port: Port = None,
    mqtt_port: MqttPort = None,
    broker: Broker = None,
    auth_token: AuthToken = None,
    trust_network: TrustNetwork = None,
    insecure: Insecure = False,
    detach: Detach = False,
) -> None:
    """Run a manager until SIGTERM. It prints `ready http=… mqtt=…` once it serves HTTP and MQTT."""
    given = {
        "data_dir": data_dir,
        "key_file": key_file,
        "database": database,
        "database_password_file": database_password_file,
        "role": role,
        "address": address,
        "host": host,
        "port": port,
        "mqtt_port": mqtt_port,
        "broker": broker,
        "auth_token": auth_token,
        "trusted_networks": tuple(trust_network) if trust_network else None,
        "insecure": insecure or None,
    }
    typed = typed_options(context, given)
    settings = configuration(typed, config).settings
    if detach:
        _detach(settings.data_dir, typed, config)
        return
    from manager.cli.support.logs import configure_logs  # noqa: PLC0415 -- the parts of a manager load with the manager
    from manager.errors import ManagerError  # noqa: PLC0415 -- the same
    from manager.runtime.loop import run  # noqa: PLC0415 -- the same

    configure_logs()
    try:
        code = run(settings)
    except ManagerError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error
    raise typer.Exit(code)


def _detach(directory: Path, typed: Mapping[str, Any], config: Path | None) -> None:
    from manager.cli.support.background import start_in_background  # noqa: PLC0415 -- only for this

    environment = dict(os.environ)
    if "auth_token" in typed:
        environment["MANAGER_AUTH_TOKEN"] = typed["auth_token"]  # no list of processes shows the environment
    started = start_in_background(directory.absolute(), arguments(typed, config), environment)
    typer.echo(
        f"manager started pid={started.pid} http={started.http} mqtt={started.mqtt}"
        f" data-dir={directory.absolute()} log={started.log}"
    )


def arguments(typed: Mapping[str, Any], config: Path | None) -> list[str]:
    """Return the words of a command line with these options, but for the token; paths are absolute."""
    paths = ("data_dir", "key_file", "database_password_file")
    flags = {
        "--config": None if config is None else config.absolute(),
        **{f"--{name.replace('_', '-')}": typed[name].absolute() for name in paths if name in typed},
        "--database": typed.get("database"),
        "--role": typed.get("role"),
        "--address": typed.get("address"),
        "--host": typed.get("host"),
        "--port": typed.get("port"),
        "--mqtt-port": typed.get("mqtt_port"),
        "--broker": typed.get("broker"),
    }
    words = [f"{flag}={value}" for flag, value in flags.items() if value is not None]
    words += [f"--trust-network={network}" for network in typed.get("trusted_networks", ())]
    return [*words, "--insecure"] if typed.get("insecure") else words
