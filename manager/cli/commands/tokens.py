"""`panguard manager tokens`: enrollment tokens for guards."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.completion import tokens
from manager.cli.support.durations import parse_timedelta, relative
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Enrollment tokens.", no_args_is_help=True)

_COLUMNS = (
    "token id", "name", "uses", "left", "expires", "revoked", "organization", "site", "tags", "rate", "ephemeral",
    "created",
)  # fmt: skip


@app.command("create")
@with_manager_client
def create_token(
    client: "ManagerClient",
    *,
    organization: Annotated[
        str | None, typer.Option(help="organization of the agents that register with the token")
    ] = None,
    site: Annotated[str | None, typer.Option(help="site of the agents")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="tag of the agents; repeatable")] = None,
    expires: Annotated[str | None, typer.Option(help="validity: 24h, 7d [default: unlimited]")] = None,
    uses: Annotated[int | None, typer.Option(min=1, help="number of new agents [default: unlimited]")] = None,
    name: Annotated[str | None, typer.Option(help="name, by which it is rotated and revoked")] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1, help="new agents an hour [default: 60 where neither --expires nor --uses is given]"),
    ] = None,
    ephemeral: Annotated[
        bool,
        typer.Option("--ephemeral", help="its agents go offline without an alarm, and are removed after an hour"),
    ] = False,
    keep_in: Annotated[
        Path | None,
        typer.Option(help="write the token to this file, mode 0600, and print nothing; an existing file is kept"),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a token and print it; it is shown only once."""
    if keep_in is not None and keep_in.exists():
        return
    wanted = {
        "organizationId": organization,
        "site": site,
        "tags": tag or [],
        "expiresAt": None if expires is None else (datetime.now(UTC) + parse_timedelta(expires)).isoformat(),
        "maxUses": uses,
        "name": name,
        "rate": rate,
        "ephemeral": ephemeral,
    }
    body = {name: value for name, value in wanted.items() if value is not None}
    made = client.answer("POST", "/api/tokens", body=body)["data"]
    _print_token(made, keep_in, output)


def _print_token(made: "Record", keep_in: Path | None, output: Output) -> None:
    if keep_in is not None:
        _keep(keep_in, made["token"])
    elif output is Output.JSON:
        from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

        print_json(made)
    else:
        sys.stdout.write(f"{made['token']}\n")


def _keep(path: Path, token: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{token}\n")
        draft.replace(path)
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{path} cannot be written: {error.strerror}") from error


@app.command("list")
@with_manager_client
def list_tokens(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """List the tokens, without their secrets."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    found = client.records("/api/tokens")
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    print_fitted(_COLUMNS, [_row(token, now) for token in found], kept=2)


def _row(token: "Record", now: datetime) -> tuple[object, ...]:
    return (
        token["tokenId"],
        token["name"],
        token["uses"],
        token["usesLeft"],
        relative(token["expiresAt"], now),
        relative(token["revokedAt"], now),
        *(token[member] for member in ("organizationId", "site", "tags", "rate", "ephemeral")),
        relative(token["createdAt"], now),
    )


_Token = Annotated[str, typer.Argument(help="the token's id, tok-…, or its name", autocompletion=tokens)]


@app.command("rotate")
@with_manager_client
def rotate_token(
    client: "ManagerClient",
    token_id: _Token,
    *,
    keep_in: Annotated[
        Path | None, typer.Option(help="write the token to this file, mode 0600, and print nothing")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print a new text for a token; the old one enrolls nobody from now on, and enroll.token follows."""
    from urllib.parse import quote  # noqa: PLC0415 -- only here

    _print_token(client.answer("POST", f"/api/tokens/{quote(token_id, safe='')}/rotate")["data"], keep_in, output)


@app.command("revoke")
@with_manager_client
def revoke_token(
    client: "ManagerClient",
    token_id: _Token,
) -> None:
    """Revoke a token; agents that registered with it stay registered."""
    from urllib.parse import quote  # noqa: PLC0415 -- only here

    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    done = client.answer("DELETE", f"/api/tokens/{quote(token_id, safe='')}")["data"]
    print_lines(f"revoked {done['tokenId']}")
