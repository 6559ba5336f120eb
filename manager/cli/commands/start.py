"""`panguard manager start`: runs a manager in the foreground."""

from typing import Annotated

import typer

from manager.cli.commands.config import configuration, typed_options
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import ConfigOption, DataDir

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


def start(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    mqtt_port: MqttPort = None,
    broker: Broker = None,
    auth_token: AuthToken = None,
    trust_network: TrustNetwork = None,
    insecure: Insecure = False,
) -> None:
    """Run a manager until SIGTERM. It prints `ready http=… mqtt=…` once it serves HTTP and MQTT."""
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
    settings = configuration(typed_options(context, given), config).settings
    from manager.cli.support.logs import configure_logs  # noqa: PLC0415 -- the parts of a manager load with the manager
    from manager.errors import ManagerError  # noqa: PLC0415 -- the same
    from manager.runtime.loop import run  # noqa: PLC0415 -- the same

    configure_logs()
    try:
        code = run(settings)
    except ManagerError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error
    raise typer.Exit(code)
