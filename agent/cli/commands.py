"""`panguard guard`: commands that start, stop and inspect the guard on this host."""

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from agent.cli import measures
from agent.cli.printable import printable
from agent.errors import GuardError
from agent.storage import instance_lock
from schemas.errors import SchemaError
from schemas.presence import Mode

app = typer.Typer(
    help="The guard on this host: detects threats, reports them to the manager, and applies the fleet's policy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_STOP_PATIENCE = 10.0
_DEGRADED = 3

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="The guard's data directory [default: /var/lib/panguard/guard for root,"
        " ~/.local/state/panguard/guard for others].",
        show_default=False,
    ),
]


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Print an error on one line of standard error and exit with code 1."""
    from agent.sources.source import SourceError  # noqa: PLC0415 -- stop and status need none of it

    try:
        yield
    except (GuardError, SchemaError, SourceError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def start(
    *,
    manager: Annotated[
        str,
        typer.Option(
            help="The manager's broker, mqtt://host:port or mqtts://host:port,"
            " or the manager itself, http://host:8443 or https://host:8443."
        ),
    ],
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
        Mode, typer.Option(help="In learning mode the guard only reports and takes no action.")
    ] = Mode.LEARNING,
    max_mode: Annotated[
        Mode, typer.Option(help="The most that this host allows: learning never acts, whatever the policy says.")
    ] = Mode.PROTECTION,
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
    from agent.options import Options, read_token_file  # noqa: PLC0415 -- stop and status need none of it

    directory = data_dir or instance_lock.default_data_directory()
    with _one_sentence():
        token = read_token_file(enroll_token_file) if enroll_token_file else enroll_token
        options = Options.check(
            manager=manager,
            directory=directory,
            mode=mode,
            max_mode=max_mode,
            logs=watch_log or (),
            trusted_logs=trust_log or (),
            watch=watch,
            hostname=hostname,
            organization=organization,
            site=site,
            tags=tag or (),
            token=token,
            ca_file=ca_file,
            insecure=insecure,
        )
        if detach:
            _detach(options, token)
        else:
            _run(options)


@app.command()
def stop(data_dir: DataDir = None) -> None:
    """Stop the guard of a data directory; it signs off and stays registered."""
    with _one_sentence():
        pid = instance_lock.stop(data_dir or instance_lock.default_data_directory(), _STOP_PATIENCE)
    typer.echo(f"guard stopped pid={pid}")


@app.command()
def status(
    data_dir: DataDir = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="Output format.")] = "text",
) -> None:
    """Show session, health, sources, mode, enforced blocks, policy, reports and the latest responses."""
    from agent.cli.status_text import as_text  # noqa: PLC0415 -- start needs none of it
    from agent.status import inspect_guard  # noqa: PLC0415 -- the same

    with _one_sentence():
        fields = inspect_guard(data_dir or instance_lock.default_data_directory())
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
    from agent.connection.reconnect_loop import Phase  # noqa: PLC0415 -- start needs none of it
    from agent.status import inspect_guard, problems  # noqa: PLC0415 -- the same

    with _one_sentence():
        fields = inspect_guard(data_dir or instance_lock.default_data_directory())
    state, reason = fields["state"], fields.get("notConnected")
    if state != Phase.ONLINE:
        typer.echo(f"error: the guard is {state}" + (f": {printable(str(reason))}" if reason else ""), err=True)
        raise typer.Exit(1)
    told = problems(fields)
    if fields.get("mode") == Mode.PROTECTION and not any(each.startswith("fence ") for each in told):
        told += measures.stopped(None)
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

    with _one_sentence():
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

    with _one_sentence():
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
    with _one_sentence(), as_owner(directory), Database.opened(directory) as database:
        moved, left = retry_dead_letters(database)
    kept = f"; {left} stay, for they were too large to be sent" if left else ""
    typer.echo(json.dumps({"retried": moved, "left": left}) if output == "json" else f"retried: {moved}{kept}")


def _run(options: Any) -> None:
    from agent.memory import relax_garbage_collector  # noqa: PLC0415
    from agent.runtime import Runtime  # noqa: PLC0415 -- stop and status need none of it
    from agent.settings import read_settings  # noqa: PLC0415

    runtime = Runtime(options, read_settings(os.environ), _announce)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: runtime.stop())
    relax_garbage_collector()
    runtime.run()


def _announce(agent_id: str, session: int) -> None:
    typer.echo(f"guard ready agentId={agent_id} session={session}")


def _detach(options: Any, token: str | None) -> None:
    from agent.cli.detach import start_in_background  # noqa: PLC0415 -- a guard in the foreground needs none of it

    started = start_in_background(options.directory, options.arguments(), token)
    agent = "" if started.agent_id is None else f"agentId={started.agent_id} "
    typer.echo(f"guard started {agent}pid={started.pid} data-dir={options.directory}")
    for warning in started.warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)


def _printable_lines(lines: Iterable[str]) -> str:
    return "\n".join(printable(line) for line in lines)
