"""`panguard manager allowlist`: entries that are never blocked and open no incident."""

from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.completion import allowances
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import AllowanceWord, Output, OutputOption
from manager.cli.support.organizations import AllowUnknown, check_organization

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Indicators that are never blocked and open no incident.", no_args_is_help=True)

Value = Annotated[str, typer.Argument(help="an address, a CIDR, a file hash, or with --kind a process")]
Kind = Annotated[AllowanceWord | None, typer.Option(help="kind of the value [default: derived from the value]")]
Organization = Annotated[str | None, typer.Option(help="the organization [default: the whole fleet]")]


@app.command("list")
@with_manager_client
def list_allowances(
    client: "ManagerClient", organization: Organization = None, output: OutputOption = Output.TABLE
) -> None:
    """List the global allowlist, or all entries that apply to an organization."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    found = client.records("/api/allowlist", org_id=organization)
    if output is Output.JSON:
        print_json(found)
    else:
        members = ("kind", "value", "scope", "target")
        print_fitted(("kind", "value", "scope", "of"), [[each[member] for member in members] for each in found], kept=2)


@app.command("add")
@with_manager_client
def add_allowance(
    client: "ManagerClient",
    value: Value,
    *,
    kind: Kind = None,
    organization: Organization = None,
    allow_unknown: AllowUnknown = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add an entry to the allowlist; blocks that it covers are withdrawn at once."""
    check_organization(client, organization, allow_unknown=allow_unknown)
    body = {"value": value, "kind": kind, "organizationId": organization}
    body = {name: said for name, said in body.items() if said is not None}
    _print("allowed", client.answer("POST", "/api/allowlist", body=body)["data"], output)


@app.command("remove")
@with_manager_client
def remove_allowance(
    client: "ManagerClient",
    value: Annotated[str, typer.Argument(help="the value, as `list` shows it", autocompletion=allowances)],
    *,
    kind: Kind = None,
    organization: Organization = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove an entry from the allowlist."""
    query = {"value": value, "kind": kind, "org_id": organization}
    _print("no longer allowed", client.answer("DELETE", "/api/allowlist", query)["data"], output)


def _print(action: str, done: "Record", output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(done)
        return
    where = "the whole fleet" if done["target"] is None else f"organization {done['target']}"
    said = f"{action}: {done['kind']} {done['value']}, {where}"
    print_lines(said if done["changed"] else f"{said}; it was there already")
