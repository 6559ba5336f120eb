"""`panguard manager audit`: who changed what, when, from where, before and after."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from manager.cli.support.connection import talks_to_manager
from manager.cli.support.durations import ago, moment
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Who changed what, when, and from where.", no_args_is_help=True)

_COLUMNS = ("when", "who", "from", "what", "to what", "before", "after")
_MEMBERS = ("id", "at", "actor", "address", "requestId", "action", "target", "before", "after")
_STATE_SHOWN = 100
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula; hostnames and targets come from outside."""

Since = Annotated[str | None, typer.Option(help="done since: 15m, 24h, 7d, or a time in ISO 8601")]
Actor = Annotated[str | None, typer.Option(help="only by this one: admin, responder, an agent's id")]
Action = Annotated[str | None, typer.Option(help="only this: policy.set, or policy for all of its kind")]
Target = Annotated[str | None, typer.Option(help="only to this: an agent's id, a scope, an incident's id")]


class Format(StrEnum):
    """How entries are exported."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command("list")
@talks_to_manager
def list_audit(
    client: "ManagerClient",
    *,
    since: Since = None,
    actor: Actor = None,
    action: Action = None,
    target: Target = None,
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List changes, newest first."""
    from manager.cli.support.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = client.records("/api/audit", most=limit, since=_since(since), actor=actor, action=action, target=target)
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    print_table(
        _COLUMNS,
        [
            (
                ago(entry["at"], now),
                entry["actor"],
                entry["address"],
                entry["action"],
                entry["target"],
                _shown(entry["before"]),
                _shown(entry["after"]),
            )
            for entry in found
        ],
    )


@app.command("export")
@talks_to_manager
def export(
    client: "ManagerClient",
    *,
    since: Since = None,
    actor: Actor = None,
    action: Action = None,
    target: Target = None,
    format_: Annotated[Format, typer.Option("--format", help="one JSON object a line, or a table")] = Format.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", help="the file to write; standard output by default")
    ] = None,
) -> None:
    """Write all changes, newest first, for another tool."""
    found = client.records("/api/audit", since=_since(since), actor=actor, action=action, target=target)
    with _opened(output) as file:
        if format_ is Format.JSONL:
            file.writelines(json.dumps(entry) + "\n" for entry in found)
            return
        table = csv.writer(file)
        table.writerow(_MEMBERS)
        table.writerows([_cell(entry[member]) for member in _MEMBERS] for entry in found)


def _since(text: str | None) -> str | None:
    return None if text is None else moment(text, datetime.now(UTC))


def _shown(state: "Record | None") -> str | None:
    return None if state is None else json.dumps(state)[:_STATE_SHOWN]


def _cell(value: object) -> str:
    """Return a value as a spreadsheet shows it and never computes it."""
    text = "" if value is None else json.dumps(value) if isinstance(value, dict) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            path.chmod(0o600)
            yield file
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{path} cannot be written: {error.strerror}") from error
