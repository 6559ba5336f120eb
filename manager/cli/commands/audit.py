"""`panguard manager audit`: the audit log, as a table or exported for other tools."""

import csv
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from manager.cli.support.agent_lookup import find_agent
from manager.cli.support.counting import counted
from manager.cli.support.durations import ago, parse_time
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Audit log of all changes.", no_args_is_help=True)

_COLUMNS = ("when", "who", "what", "to what", "hostname", "from", "after", "before")
_MEMBERS = ("id", "at", "actor", "role", "address", "requestId", "action", "target", "hostname", "before", "after")
_STATE_SHOWN = 100
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of spreadsheet formulas; hostnames and targets come from outside."""

Since = Annotated[str | None, typer.Option(help="start of the period: 15m, 24h, 7d ago, or a time in ISO 8601")]
Actor = Annotated[str | None, typer.Option(help="only this actor: an access token's name, admin, or an agent's id")]
Action = Annotated[str | None, typer.Option(help="only this action: policy.set, or policy for all policy actions")]
Target = Annotated[
    str | None, typer.Option(help="only this target: an agent's id or hostname, a scope, or an incident's id")
]


class Format(StrEnum):
    """Export format."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command("list")
@with_manager_client
def list_audit(
    client: "ManagerClient",
    *,
    since: Since = None,
    actor: Actor = None,
    action: Action = None,
    target: Target = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of rows")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List changes, newest first."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    found = _entries(client, limit, target, since=_since(since), actor=actor, action=action)
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    print_fitted(
        _COLUMNS,
        [
            (
                ago(entry["at"], now),
                _who(entry),
                entry["action"],
                entry["target"],
                entry["hostname"],
                entry["address"],
                _shown(entry["after"]),
                _shown(entry["before"]),
            )
            for entry in found
        ],
        kept=4,
    )


@app.command("export")
@with_manager_client
def export(
    client: "ManagerClient",
    *,
    since: Since = None,
    actor: Actor = None,
    action: Action = None,
    target: Target = None,
    format_: Annotated[Format, typer.Option("--format", help="one JSON object per line, or CSV")] = Format.JSONL,
    file: Annotated[
        Path | None, typer.Option("--file", "--output", help="file to write [default: standard output]")
    ] = None,
) -> None:
    """Export all changes, newest first, for another tool; says on standard error how many."""
    if file is not None and file.name in {*Format, *Output}:
        raise CommandFailed(ExitCode.USAGE, f"--file names a file; for the format {file.name} write --format")
    found = _entries(client, None, target, since=_since(since), actor=actor, action=action)
    with _opened(file) as opened:
        if format_ is Format.JSONL:
            opened.writelines(json.dumps(entry) + "\n" for entry in found)
        else:
            table = csv.writer(opened)
            table.writerow(_MEMBERS)
            table.writerows([_cell(entry[member]) for member in _MEMBERS] for entry in found)
    if file is not None:
        typer.echo(f"{counted(len(found), 'entry', 'entries')} in {file}", err=True)


def _who(entry: "Record") -> str:
    """Return the actor of an entry, with the role of an access token."""
    actor, role = str(entry["actor"]), entry["role"]
    return actor if role in {None, actor} else f"{actor} ({role})"


def _entries(client: "ManagerClient", most: int | None, target: str | None, **query: str | None) -> list["Record"]:
    """Return the matching entries; a target without any may be a hostname, which the log has as the agent's id.

    Raises:
        CommandFailed: the target is no target, and a short hostname of several agents.
    """
    read: Callable[..., list[Record]] = client.records if most is None else partial(client.first_records, limit=most)
    found = read("/api/audit", target=target, **query)
    if found or target is None:
        return found
    try:
        agent = find_agent(client, target)
    except CommandFailed as failure:
        if failure.code is ExitCode.CONFLICT:
            raise
        return found
    return read("/api/audit", target=agent["agentId"], **query)


def _since(text: str | None) -> str | None:
    return None if text is None else parse_time(text, datetime.now(UTC))


def _shown(state: "Record | None") -> str | None:
    return None if state is None else json.dumps(state)[:_STATE_SHOWN]


def _cell(value: object) -> str:
    """Return a value that a spreadsheet never evaluates as a formula."""
    text = "" if value is None else json.dumps(value) if isinstance(value, dict) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
        return
    try:
        with open(path, "w", encoding="utf-8", newline="", opener=_open_private) as file:
            yield file
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{path} cannot be written: {error.strerror}") from error


def _open_private(path: str, flags: int) -> int:
    """Open a file that nobody else may read, also one that others could read before."""
    descriptor = os.open(path, flags, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fchmod(descriptor, 0o600)
    return descriptor
