"""`panguard manager broker`: prepares a Mosquitto of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from manager.cli.support.connection import data_directory
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import DataDir, Once, Output, OutputOption

app = typer.Typer(help="A broker of your own.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `init` a command of its own while it is the only one."""


@app.command("init")
def init(
    *,
    directory: Annotated[Path, typer.Option(help="where Mosquitto's files go; it is started there")] = Path("broker"),
    host: Annotated[str | None, typer.Option(help="the address to listen on; without TLS loopback alone")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="for MQTT [default: 8883, without TLS 1883]")
    ] = None,
    websocket_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="for WebSocket [default: 8884, without TLS none]")
    ] = None,
    plugin: Annotated[Path | None, typer.Option(help="mosquitto_dynamic_security.so, if it is not found")] = None,
    user: Annotated[str | None, typer.Option(help="as whom Mosquitto runs; the files become this user's")] = None,
    copy_certificate: Annotated[
        bool,
        typer.Option(
            "--copy-certificate",
            help="put the broker's certificate and key beside its other files, for one that may not enter --data-dir",
        ),
    ] = False,
    once: Once = False,
    force: Annotated[bool, typer.Option("--force", help="write all of it anew; stop Mosquitto first")] = False,
    data_dir: DataDir = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Prepare a fresh Mosquitto: its credentials, its access rules, and every agent that this manager knows."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load
    from manager.errors import Conflict, SetupError  # noqa: PLC0415 -- the same
    from manager.mosquitto_setup import prepare  # noqa: PLC0415 -- the parts of a manager take a while to load

    try:
        done = prepare(
            data_directory(data_dir),
            directory,
            host=host,
            port=port,
            websocket_port=websocket_port,
            plugin=plugin,
            user=user,
            copy_certificate=copy_certificate,
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
        print_lines(f"{done.directory} was prepared before")
        return
    print_lines(f"{done.directory} is ready, and lets in {done.agents} agents from the start.")
    if not done.tls:
        print_lines("It listens on loopback alone: `panguard manager certs init` first lets it speak TLS.")
    print_lines(
        f"Start it:      cd {done.directory} && mosquitto -c broker.conf",
        f"The manager:   panguard manager start --broker {done.url}",
    )
