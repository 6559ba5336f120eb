"""`panguard guard`: commands that start, stop and inspect the guard on this host."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from agent.cli import measures
from agent.cli.examples import EXAMPLES
from agent.cli.options import DataDir, add_examples, one_sentence
from agent.cli.printable import printable
from agent.cli.start import config, start
from agent.storage import instance_lock
from schemas.presence import Mode

app = typer.Typer(
    help="The guard on this host: detects threats, reports them to the manager, and applies the fleet's policy.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_STOP_PATIENCE = 30.0
_DEGRADED = 3

app.command("start")(start)
app.command("config", short_help="Print every option and setting with its value and origin.")(config)


@app.command()
def stop(data_dir: DataDir = None) -> None:
    """Stop the guard of a data directory; it signs off and stays registered."""
    with one_sentence():
        pid = instance_lock.stop(data_dir or instance_lock.default_data_directory(), _STOP_PATIENCE)
    typer.echo(f"guard stopped pid={pid}")


@app.command()
def status(
    data_dir: DataDir = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="Output format.")] = "text",
) -> None:
    """Show session, health, sources, mode, enforced blocks, policy, reports and the latest responses."""
    from agent.cli.live_fence import with_live_fence  # noqa: PLC0415 -- start needs none of it
    from agent.cli.status_text import as_text  # noqa: PLC0415 -- the same
    from agent.status import inspect_guard  # noqa: PLC0415 -- the same

    with one_sentence():
        fields = with_live_fence(inspect_guard(data_dir or instance_lock.default_data_directory()))
    typer.echo(json.dumps(fields, indent=2) if output == "json" else _printable_lines(as_text(fields)))


@app.command()
def health(
    data_dir: DataDir = None,
    allow_degraded: Annotated[
        bool, typer.Option("--allow-degraded", help="Exit 0 for a degraded guard too, if it is connected.")
    ] = False,
) -> None:
    """Check the guard's health: exits 0 if healthy, 1 if not connected, 3 if connected and degraded.

    It is degraded while one of its logs is missing, unreadable, silent or of an unknown format, or, in mode protection,
    while the fence is stopped by `panic`. A guard that is not connected keeps detecting and stores its reports.
    """
    from agent.cli.live_fence import with_live_fence  # noqa: PLC0415 -- start needs none of it
    from agent.connection.reconnect_loop import Phase  # noqa: PLC0415 -- the same
    from agent.status import inspect_guard, problems  # noqa: PLC0415 -- the same

    with one_sentence():
        fields = with_live_fence(inspect_guard(data_dir or instance_lock.default_data_directory()))
    state, reason = fields["state"], fields.get("notConnected")
    if state != Phase.ONLINE:
        typer.echo(f"error: the guard is {state}" + (f": {printable(str(reason))}" if reason else ""), err=True)
        raise typer.Exit(1)
    told = problems(fields)
    if told:
        typer.echo(f"degraded: {printable('; '.join(told))}", err=True)
        raise typer.Exit(0 if allow_degraded else _DEGRADED)
    typer.echo(str(state))


@app.command("try")
def try_(
    file: Annotated[str | None, typer.Argument(help="A log file, plain or compressed; - reads standard input.")] = None,
    *,
    sample: Annotated[Literal["ssh"] | None, typer.Option(help="Use harmless sample lines instead of a file.")] = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="Output format.")] = "text",
) -> None:
    """Detect threats in a log file and print the verdicts. Nothing is reported to a manager, nothing is blocked."""
    from agent.cli import try_log  # noqa: PLC0415 -- start and status need none of it
    from agent.host import local_zone  # noqa: PLC0415 -- the same

    if (file is None) == (sample is None):
        typer.echo("error: name one log file, or use --sample ssh", err=True)
        raise typer.Exit(2)
    now = time.time()
    try:
        if file is None:
            trial = try_log.try_lines(try_log.sample_lines(now), local_zone(), now)
        else:
            with try_log.log_lines(file) as lines:
                trial = try_log.try_lines(lines, local_zone(), now)
    except try_log.UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error)
        typer.echo(f"error: {file} cannot be read: {reason}", err=True)
        raise typer.Exit(2) from error
    typer.echo(try_log.as_json(trial.verdicts) if output == "json" else try_log.as_table(trial))


@app.command()
def doctor(
    data_dir: DataDir = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="Output format.")] = "text",
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Apply the remedy: configure rsyslog to write records of root's processes into a separate log.",
        ),
    ] = False,
) -> None:
    """Examine this host's logs: which ones the guard can read, which program writes them, and which prove their writer.

    Exits 0 if all logs of the running guard are well, or without a running guard if a log with logins can be read;
    else 3.
    """
    from agent.cli.doctor import examine, fix_rsyslog  # noqa: PLC0415 -- start needs none of it

    with one_sentence():
        if fix:
            for line in fix_rsyslog():
                typer.echo(line, err=True)
        found = examine(data_dir or instance_lock.default_data_directory())
    typer.echo(json.dumps(found.document(), indent=2) if output == "json" else _printable_lines(found.lines()))
    raise typer.Exit(0 if found.well else _DEGRADED)


for _command in measures.COMMANDS:
    app.command()(_command)
app.add_typer(measures.blocks, name="blocks")


@app.command("install")
def install_(
    *,
    manager: Annotated[str, typer.Option(help="The manager's broker or the manager itself, as for `guard start`.")],
    enroll_token_file: Annotated[
        Path | None, typer.Option(help="A file with the enrollment token; it is copied to /etc/panguard.")
    ] = None,
    mode: Annotated[Mode, typer.Option(help="The host's mode, where the policy sets none.")] = Mode.LEARNING,
    max_mode: Annotated[Mode, typer.Option(help="The most that this host allows.")] = Mode.PROTECTION,
    ca_file: Annotated[Path | None, typer.Option(help="The CA certificates to trust, PEM.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A further word for `guard start`, such as --tag=web. May be repeated.")
    ] = None,
    root: Annotated[Path, typer.Option(help="The host's root directory; another one for images.")] = Path("/"),
    start: Annotated[bool, typer.Option(help="Start the units.")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Install also a program that another user than root can change.")
    ] = False,
) -> None:
    """Install guard and fence as systemd units on this host: user, configuration, hardened units. As root."""
    from agent.cli.install import Installation, install  # noqa: PLC0415 -- start needs none of it
    from agent.link.address import ManagerAddress  # noqa: PLC0415 -- the same
    from agent.options import read_token_file  # noqa: PLC0415 -- the same
    from schemas.keys import EnrollmentToken  # noqa: PLC0415 -- the same

    with one_sentence():
        text = None if enroll_token_file is None else read_token_file(enroll_token_file)
        wanted = Installation(
            manager=ManagerAddress.parse(manager),
            token=EnrollmentToken.parse(text) if text else None,
            mode=mode,
            max_mode=max_mode,
            ca_file=ca_file,
            options=tuple(option or ()),
        )
        for line in install(wanted, root, start=start, force=force):
            typer.echo(line)


_outbox = typer.Typer(help="Reports without a receipt from the manager, and refused reports.", no_args_is_help=True)
app.add_typer(_outbox, name="outbox")


@_outbox.callback()
def outbox() -> None:
    """Keep `outbox` a command group: Typer would merge a group with a single command."""


@_outbox.command()
def retry(
    data_dir: DataDir = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="Output format.")] = "text",
) -> None:
    """Send refused reports (dead letters) again with the same ids; a running guard sends them at its next heartbeat."""
    from agent.report.outbox import retry_dead_letters  # noqa: PLC0415 -- start needs none of it
    from agent.storage.database import Database  # noqa: PLC0415 -- the same
    from agent.storage.files import as_owner  # noqa: PLC0415 -- the same

    directory = data_dir or instance_lock.default_data_directory()
    with one_sentence(), as_owner(directory), Database.opened(directory) as database:
        moved, left = retry_dead_letters(database)
    kept = f"; {left} stay, for they were too large to be sent" if left else ""
    typer.echo(json.dumps({"retried": moved, "left": left}) if output == "json" else f"retried: {moved}{kept}")


add_examples(app, EXAMPLES)


def _printable_lines(lines: Iterable[str]) -> str:
    return "\n".join(printable(line) for line in lines)
