"""`panguard manager broker`: prepares a Mosquitto broker."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from manager.cli.commands.config import configuration, typed_options
from manager.cli.support.counting import counted
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import (
    DatabaseOption,
    DatabasePasswordFile,
    DataDir,
    KeyFileOption,
    Once,
    Output,
    OutputOption,
)

app = typer.Typer(help="Your own Mosquitto broker.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `init` a subcommand while it is the only one."""


@app.command("init")
def init(
    context: typer.Context,
    *,
    directory: Annotated[Path, typer.Option(help="Mosquitto's working directory with its files")] = Path("broker"),
    host: Annotated[str | None, typer.Option(help="the address to listen on; without TLS only loopback")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="the MQTT port [default: 8883, without TLS 1883]")
    ] = None,
    websocket_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="the WebSocket port [default: 8884, without TLS none]")
    ] = None,
    plugin: Annotated[
        Path | None, typer.Option(help="path of mosquitto_dynamic_security.so, if it is not found")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Mosquitto's user, the owner of the files [default: you; for root: mosquitto]")
    ] = None,
    copy_certificate: Annotated[
        bool,
        typer.Option(
            "--copy-certificate",
            help="copy the broker's certificate and key into its directory, if Mosquitto's user cannot read --data-dir",
        ),
    ] = False,
    once: Once = False,
    force: Annotated[bool, typer.Option("--force", help="overwrite all files; stop Mosquitto first")] = False,
    data_dir: DataDir = None,
    key_file: KeyFileOption = None,
    database: DatabaseOption = None,
    database_password_file: DatabasePasswordFile = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Prepare a new Mosquitto: its credentials, its access rules, and the logins of all known agents."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load
    from manager.errors import Conflict, SetupError  # noqa: PLC0415 -- the same
    from manager.mosquitto_setup import prepare  # noqa: PLC0415 -- the parts of a manager take a while to load

    given = {
        "data_dir": data_dir,
        "key_file": key_file,
        "database": database,
        "database_password_file": database_password_file,
    }
    options = typed_options(context, given)
    settings = configuration(options, None).settings
    try:
        done = prepare(
            settings.data_dir,
            directory,
            host=host,
            port=port,
            websocket_port=websocket_port,
            plugin=plugin,
            user=user,
            copy_certificate=copy_certificate,
            key_file=settings.key_file,
            store=settings.store,
            once=once,
            force=force,
        )
    except Conflict as error:
        raise CommandFailed(ExitCode.CONFLICT, str(error)) from error
    except SetupError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error
    if output is Output.JSON:
        print_json({"directory": str(done.directory), "agents": done.agents, "tls": done.tls, "url": done.url})
        return
    if done.agents is None:
        print_lines(f"{done.directory} is already prepared")
        return
    print_lines(f"{done.directory} is ready, with the logins of {counted(done.agents, 'agent')}.")
    if not done.tls:
        print_lines("It listens on loopback only: for TLS run `panguard manager certs init` first.")
    print_lines(
        f"Start it:      cd {done.directory} && mosquitto -c broker.conf",
        f"The manager:   {_start_command(options, done.url)}",
    )


def _start_command(options: Mapping[str, object], broker: str) -> str:
    """Return the command that starts the manager of this store at the broker, with the options that this one had."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["panguard", "manager", "start", *words, "--broker", broker])
