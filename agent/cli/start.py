"""`panguard guard start` and `config`: runs the guard; prints the options and settings that it would run with."""

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agent.cli.options import ConfigOption, DataDir, one_sentence, typed_options
from agent.cli.printable import printable
from agent.storage import instance_lock
from schemas.presence import Mode

if TYPE_CHECKING:
    from agent.configuration import Configuration
    from agent.options import Options


def start(
    context: typer.Context,
    *,
    manager: Annotated[
        str | None,
        typer.Option(
            help="The manager's broker, mqtt://host:port or mqtts://host:port,"
            " or the manager itself, http://host:8443 or https://host:8443."
        ),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDir = None,
    watch: Annotated[
        Literal["auto", "none"] | None,
        typer.Option(
            help="auto reads the best log of this host: the journal, else the authentication log; none reads"
            " nothing [default: auto if no log is named].",
            show_default=False,
        ),
    ] = None,
    watch_log: Annotated[
        list[Path] | None,
        typer.Option(help="A log file to read, such as /var/log/auth.log; it proves no writer. May be repeated."),
    ] = None,
    trust_log: Annotated[
        list[Path] | None,
        typer.Option(
            help="A log file that only trusted programs can write; its addresses may be blocked. May be repeated."
        ),
    ] = None,
    hostname: Annotated[
        str | None, typer.Option(help="The hostname to register with [default: the host's own].")
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(help="In learning mode the guard only reports and takes no action [default: learning]."),
    ] = None,
    max_mode: Annotated[
        Mode | None,
        typer.Option(
            help="The most that this host allows: learning never acts, whatever the policy says [default: protection]."
        ),
    ] = None,
    organization: Annotated[str | None, typer.Option(help="The organization to register in.")] = None,
    site: Annotated[str | None, typer.Option(help="The site of this host.")] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            help="A tag that this host states of itself; it is shown, and chooses no policy. May be repeated."
        ),
    ] = None,
    enroll_token_file: Annotated[Path | None, typer.Option(help="A file with the enrollment token.")] = None,
    enroll_token: Annotated[
        str | None,
        typer.Option(
            envvar="PANGUARD_ENROLL_TOKEN",
            help="The enrollment token; prefer the environment or a file: process lists show arguments.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PANGUARD_CA_FILE",
            help="The CA certificates to trust, PEM [default: the CA of the enrollment token, else the system's].",
            show_default=False,
        ),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow connections without TLS to other hosts.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background; return once the guard is registered.")
    ] = False,
) -> None:
    """Start the guard: register with the manager and run until SIGTERM."""
    given = {
        "manager": manager,
        "data_dir": data_dir,
        "watch": watch,
        "watch_log": watch_log or None,
        "trust_log": trust_log or None,
        "hostname": hostname,
        "mode": mode,
        "max_mode": max_mode,
        "organization": organization,
        "site": site,
        "tag": tag or None,
        "enroll_token_file": enroll_token_file,
        "ca_file": ca_file,
        "insecure": insecure or None,
    }
    with one_sentence():
        found = _configuration(typed_options(context, given), config)
        instance_lock.refuse_foreign(found.directory)
        typed = bool(typed_options(context, {"enroll_token": enroll_token}))
        token = _token(found, enroll_token, typed=typed)
        options = _options(found, token)
        if detach:
            _detach(options, token, None if config is None else config.absolute())
        else:
            _run(options, found)


def config(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    data_dir: DataDir = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="Output format.")] = "text",
) -> None:
    """Print every option and setting of a guard started now, and its origin: environment, settings file or default."""
    with one_sentence():
        found = _configuration(typed_options(context, {"data_dir": data_dir}), config)
    records = _described(found)
    if output == "json":
        typer.echo(json.dumps(records, indent=2))
        return
    for record in records:
        typer.echo(printable(f"{record['setting']} = {record['value']} ({record['origin']})"))
        typer.echo(printable(f"    {record['meaning']}"))
    typer.echo(printable(f"Settings file: {found.file.name if found.file else 'none'}"))


def _configuration(options: dict[str, Any], file: Path | None) -> "Configuration":
    from agent.configuration import read_configuration  # noqa: PLC0415 -- stop and status need none of it

    return read_configuration(options, os.environ, file)


def _described(found: "Configuration") -> list[dict[str, Any]]:
    """Return name, value, origin, environment variable and meaning of each option and setting."""
    from agent.configuration import environment_variable  # noqa: PLC0415 -- stop and status need none of it

    records = []
    for part in (found.start, found.settings):
        for name, field in type(part).model_fields.items():
            value = getattr(part, name) if name != "data_dir" else found.directory
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            plain = shown is None or isinstance(shown, bool | int | float)
            records.append(
                {
                    "setting": name,
                    "value": shown if plain else str(shown),
                    "origin": found.origins[name].value,
                    "environment": environment_variable(name),
                    "meaning": field.description,
                }
            )
    return records


def _token(found: "Configuration", text: str | None, *, typed: bool) -> str | None:
    """Return the enrollment token: of the file that has been named, unless the text comes from an earlier origin."""
    from agent.options import read_token_file  # noqa: PLC0415 -- stop and status need none of it
    from schemas.config_file import Origin  # noqa: PLC0415 -- the same

    file = found.start.enroll_token_file
    order = list(Origin)
    text_from = Origin.OPTION if typed else Origin.ENVIRONMENT
    if file is None or (text and order.index(text_from) < order.index(found.origins["enroll_token_file"])):
        return text
    return read_token_file(file)


def _options(found: "Configuration", token: str | None) -> "Options":
    from agent.options import Options  # noqa: PLC0415 -- stop and status need none of it

    given = found.start
    if given.manager is None:
        typer.echo(
            "error: no manager is named: say --manager mqtts://HOST, set PANGUARD_MANAGER,"
            ' or write manager = "mqtts://HOST" into the settings file',
            err=True,
        )
        raise typer.Exit(2)
    return Options.check(
        manager=given.manager,
        directory=found.directory,
        mode=given.mode,
        max_mode=given.max_mode,
        logs=given.watch_log,
        trusted_logs=given.trust_log,
        watch=given.watch,
        hostname=given.hostname,
        organization=given.organization,
        site=given.site,
        tags=given.tag,
        token=token,
        ca_file=given.ca_file,
        insecure=given.insecure,
        error=found.error,
    )


def _run(options: "Options", found: "Configuration") -> None:
    from agent.memory import relax_garbage_collector  # noqa: PLC0415
    from agent.runtime import Runtime  # noqa: PLC0415 -- stop and status need none of it

    runtime = Runtime(options, found.settings, _announce)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: runtime.stop())
    relax_garbage_collector()
    runtime.run()


def _announce(agent_id: str, session: int) -> None:
    typer.echo(f"guard ready agentId={agent_id} session={session}")


def _detach(options: "Options", token: str | None, config: Path | None) -> None:
    from agent.cli.detach import start_in_background  # noqa: PLC0415 -- a guard in the foreground needs none of it

    words = [] if config is None else ["--config", str(config)]
    started = start_in_background(options.directory, [*options.arguments(), *words], token)
    agent = "" if started.agent_id is None else f"agentId={started.agent_id} "
    typer.echo(f"guard started {agent}pid={started.pid} data-dir={options.directory}")
    for warning in started.warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)
