"""`panguard manager blocks import`: reads addresses from a plain list or CSV and blocks them by hand."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from manager.cli.support.agent_lookup import find_agent_id
from manager.cli.support.completion import agents
from manager.cli.support.counting import counted
from manager.cli.support.durations import parse_timedelta
from manager.cli.support.escaping import printable
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.limited_input import InputTooLargeError, read_text
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption
from manager.cli.support.organizations import AllowUnknown, check_organization

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient

Format = Literal["plain", "csv"]

_BATCH = 200
_ADDRESS_COLUMNS = ("value", "address", "ip", "cidr")
_COLUMNS = (*_ADDRESS_COLUMNS, "reason", "for")


class Line(NamedTuple):
    """One address of a file: its line number, the address or CIDR, and its own reason and duration, if any."""

    number: int
    value: str
    reason: str | None = None
    duration: str | None = None


@with_manager_client
def import_blocks(
    client: "ManagerClient",
    file: Annotated[Path, typer.Argument(help="one address or CIDR in each line, or CSV; - is standard input")],
    *,
    format_: Annotated[
        Format | None, typer.Option("--format", help="format of the file [default: csv for *.csv, else plain]")
    ] = None,
    duration: Annotated[str, typer.Option("--for", help="duration where a line has none: 90s, 15m, 4h or 7d")] = "4h",
    reason: Annotated[str | None, typer.Option(help="reason where a line has none, at most 100 characters")] = None,
    organization: Annotated[str | None, typer.Option(help="block only in this organization")] = None,
    group: Annotated[str | None, typer.Option(help="block only on the agents of this policy group")] = None,
    agent: Annotated[
        str | None, typer.Option(help="block only on this agent, by id or hostname", autocompletion=agents)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="block although somebody logged in from there within 7 days; it is audited")
    ] = False,
    allow_unknown: AllowUnknown = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check every line and change nothing")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Block the addresses of a file by hand; if a line is bad, all bad lines are named and nothing is blocked.

    CSV has a header with a column value (or address, ip, cidr), and optionally reason and for (4h).
    """
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    check_organization(client, organization, allow_unknown=allow_unknown)
    lines = _read(file, format_)
    scope = {
        "organization": organization,
        "group": group,
        "agentId": None if agent is None else find_agent_id(client, agent),
        "seconds": parse_timedelta(duration, least="1s", most="366d").total_seconds(),
        "reason": reason,
        "force": force or None,
    }
    body = {name: said for name, said in scope.items() if said is not None}
    batches = [lines[start : start + _BATCH] for start in range(0, len(lines), _BATCH)]
    _check(client, body, batches)
    added = len(lines) if dry_run else _add(client, body, batches)
    if output is Output.JSON:
        print_json({"added": added, "dryRun": dry_run})
    else:
        print_lines(f"{_addresses(added)} would be blocked" if dry_run else f"{_blocked(added)} blocked")


def _check(client: "ManagerClient", body: dict[str, Any], batches: Sequence[Sequence[Line]]) -> None:
    """Ask the manager about every line, and whether it has room for all of them together.

    Raises:
        CommandFailed: it refuses lines, which are printed, or has not enough room.
    """
    refused: list[dict[str, Any]] = []
    new = room = 0
    for batch in _progress(batches, "checked"):
        asked = client.answer("POST", "/api/blocks/import", body={**body, "blocks": _members(batch), "dryRun": True})
        refused += [{**each, "line": batch[each["index"]].number} for each in asked["data"]["refused"]]
        new, room = new + asked["data"]["new"], asked["data"]["room"]
    if refused:
        _name(f"line {each['line']}: {each['reason']}" for each in refused)
        lines = counted(len(refused), "line is", "lines are")
        raise CommandFailed(ExitCode.FAILURE, f"nothing is blocked: {lines} refused")
    if new > room:
        raise CommandFailed(
            ExitCode.CONFLICT,
            f"nothing is blocked: the file has {_addresses(new)} that are not blocked here yet, and there is room for"
            f" {room:,} more: lift some, or block networks instead of single addresses",
        )


def _addresses(number: int) -> str:
    return counted(number, "address", "addresses")


def _blocked(number: int) -> str:
    return counted(number, "address is", "addresses are")


def _add(client: "ManagerClient", body: dict[str, Any], batches: Sequence[Sequence[Line]]) -> int:
    added = 0
    for batch in _progress(batches, "blocked"):
        try:
            client.answer("POST", "/api/blocks/import", body={**body, "blocks": _members(batch)})
        except CommandFailed as error:
            first = batch[0].number
            raise CommandFailed(
                error.code, f"{_blocked(added)} blocked, those from line {first} on are not: {error}"
            ) from error
        added += len(batch)
    return added


def _members(batch: Sequence[Line]) -> list[dict[str, Any]]:
    found = []
    for line in batch:
        seconds = None if line.duration is None else parse_timedelta(line.duration).total_seconds()
        members = {"value": line.value, "reason": line.reason, "seconds": seconds}
        found.append({name: said for name, said in members.items() if said is not None})
    return found


def _read(file: Path, format_: Format | None) -> list[Line]:
    """Return the addresses of a file, each once, however it is written.

    Raises:
        CommandFailed: the file cannot be read, has no address, or has bad lines, which are printed.
    """
    from manager.domain.response.manual_blocks import manual_value  # noqa: PLC0415 -- only this command needs it

    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError, InputTooLargeError) as error:
        raise CommandFailed(ExitCode.USAGE, f"{file} cannot be read: {error}") from error
    is_csv = format_ == "csv" or (format_ is None and file.suffix.lower() == ".csv")
    lines = addresses_in(text, is_csv=is_csv)
    if not lines:
        raise CommandFailed(ExitCode.USAGE, f"{file} has no address")
    bad = [f"line {line.number}: {fault}" for line in lines if (fault := _fault(line)) is not None]
    if bad:
        _name(bad)
        raise CommandFailed(ExitCode.USAGE, f"nothing is blocked: {counted(len(bad), 'bad line')} in {file}")
    return list({manual_value(line.value): line for line in lines}.values())


def addresses_in(text: str, *, is_csv: bool) -> list[Line]:
    """Return the addresses of a list or of CSV, each once, as they are given.

    Raises:
        CommandFailed: it is no CSV with a known header.
    """
    return list({line.value: line for line in (_csv_lines(text) if is_csv else _plain_lines(text))}.values())


def _plain_lines(text: str) -> Iterator[Line]:
    """Yield the addresses of a list; a `#` begins a comment."""
    for number, line in enumerate(text.splitlines(), 1):
        value = line.partition("#")[0].strip()
        if value:
            yield Line(number, value)


def _csv_lines(text: str) -> Iterator[Line]:
    rows = csv.reader(text.splitlines())
    try:
        header = [name.strip().lower() for name in next(rows, [])]
    except csv.Error as error:
        raise CommandFailed(ExitCode.USAGE, f"line 1: {error}") from error
    column = next((header.index(name) for name in _ADDRESS_COLUMNS if name in header), None)
    if column is None or not set(header) <= set(_COLUMNS):
        raise CommandFailed(ExitCode.USAGE, "line 1: the header has a column value (or address, ip, cidr), and may have"
                            " reason and for; take other columns away")  # fmt: skip
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                cells = {name: cell.strip() for name, cell in zip(header, row, strict=False)}
                value = cells.get(header[column], "")
                yield Line(rows.line_num, value, cells.get("reason") or None, cells.get("for") or None)
    except csv.Error as error:
        raise CommandFailed(ExitCode.USAGE, f"line {rows.line_num}: {error}") from error


def _name(faults: Iterable[str]) -> None:
    """Print the faults of a file, one in a line."""
    for fault in faults:
        sys.stderr.write(f"{printable(fault)}\n")


def _fault(line: Line) -> str | None:
    from manager.domain.response.manual_blocks import manual_value  # noqa: PLC0415 -- only this command needs it
    from manager.errors import Invalid  # noqa: PLC0415 -- the same

    try:
        manual_value(line.value)
        if line.duration is not None:
            parse_timedelta(line.duration, least="1s", most="366d")
    except (Invalid, CommandFailed) as error:
        return str(error)
    return "the reason is longer than 100 characters" if line.reason and len(line.reason) > 100 else None  # noqa: PLR2004


def _progress(batches: Sequence[Sequence[Line]], verb: str) -> Iterator[Sequence[Line]]:
    """Yield the batches; on a terminal a line on standard error says how far it is."""
    total, done = sum(map(len, batches)), 0
    for batch in batches:
        yield batch
        done += len(batch)
        if sys.stderr.isatty() and total > _BATCH:
            sys.stderr.write(f"\r{verb} {done} of {total}" + ("\n" if done == total else ""))
            sys.stderr.flush()
