"""`panguard manager access`: access tokens of people and programs."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from manager.cli.support.completion import access_names
from manager.cli.support.durations import parse_timedelta, relative
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption
from manager.cli.support.organizations import AllowUnknown, check_organization

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(
    help="Access tokens of people and programs, each with a role.",
    no_args_is_help=True,
)

RoleWord = Literal["viewer", "responder", "admin", "metrics", "feed"]

_COLUMNS = ("name", "role", "revoked", "expires", "last used", "organizations", "created")
_Name = Annotated[str, typer.Argument(help="the token's name", autocompletion=access_names)]
_Expires = Annotated[str | None, typer.Option(help="validity: 24h, 90d [default: unlimited]")]


@app.command("create")
@with_manager_client
def create_access(
    client: "ManagerClient",
    *,
    name: Annotated[str, typer.Option(help="the holder, as the audit log names it: alice, prometheus")],
    role: Annotated[
        RoleWord,
        typer.Option(
            help="viewer reads; responder also works on incidents, blocks and the allowlist; admin does everything;"
            " metrics reads /metrics, feed the blocklist feeds"
        ),
    ],
    organization: Annotated[
        list[str] | None, typer.Option(help="only this organization; repeatable [default: all]")
    ] = None,
    expires: _Expires = None,
    allow_unknown: AllowUnknown = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create an access token and print it; it is shown only once."""
    for named in organization or ():
        check_organization(client, named, allow_unknown=allow_unknown)
    wanted = {"name": name, "role": role, "organizations": organization or [], "expiresAt": _time(expires)}
    body = {member: value for member, value in wanted.items() if value is not None}
    _print_token(client.answer("POST", "/api/access", body=body)["data"], output)


@app.command("list")
@with_manager_client
def list_access(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """List the access tokens, without their texts."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    found = client.records("/api/access")
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    print_fitted(_COLUMNS, [_row(each, now) for each in found], kept=2)


def _row(access: "Record", now: datetime) -> tuple[object, ...]:
    return (
        access["name"],
        access["role"],
        *(relative(access[member], now) for member in ("revokedAt", "expiresAt", "lastUsedAt")),
        access["organizations"] or "all",
        relative(access["createdAt"], now),
    )


@app.command("rotate")
@with_manager_client
def rotate_access(
    client: "ManagerClient",
    name: _Name,
    expires: Annotated[
        str | None, typer.Option(help="validity from now: 24h, 90d [default: as long as before]")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print a new text for a token; the old one is refused from now on."""
    body = {} if expires is None else {"expiresAt": _time(expires)}
    _print_token(client.answer("POST", f"/api/access/{_quoted(name)}/rotate", body=body)["data"], output)


@app.command("revoke")
@with_manager_client
def revoke_access(client: "ManagerClient", name: _Name) -> None:
    """Revoke a token: it is refused from now on."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    known = [each for each in client.records("/api/access") if each["name"] == name]
    if known and all(each["revokedAt"] is not None for each in known):
        print_lines(f"{name} was revoked at {known[0]['revokedAt']} already; nothing changed")
        return
    print_lines(f"revoked {client.answer('DELETE', f'/api/access/{_quoted(name)}')['data']['name']}")


def _quoted(name: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 -- only here

    return quote(name, safe="")


def _time(validity: str | None) -> str | None:
    return None if validity is None else (datetime.now(UTC) + parse_timedelta(validity)).isoformat()


def _print_token(made: "Record", output: Output) -> None:
    if output is Output.JSON:
        from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

        print_json(made)
    else:
        sys.stdout.write(f"{made['token']}\n")
