"""`panguard manager allowlist`: what is never blocked and makes no incident."""

from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.completion import allowances
from manager.cli.support.connection import talks_to_manager
from manager.cli.support.options import AllowanceWord, Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="What is never blocked and makes no incident.", no_args_is_help=True)

Value = Annotated[str, typer.Argument(help="an address, a CIDR, a file hash, or with --kind a process")]
Kind = Annotated[AllowanceWord | None, typer.Option(help="what it is; by default the value says it")]
Organization = Annotated[str | None, typer.Option(help="of this organization; by default of the whole fleet")]


@app.command("list")
@talks_to_manager
def list_allowances(
    client: "ManagerClient", organization: Organization = None, output: OutputOption = Output.TABLE
) -> None:
    """List the fleet's allowlist; with an organization all that counts there."""
    from manager.cli.support.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = client.records("/api/allowlist", org_id=organization)
    if output is Output.JSON:
        print_json(found)
    else:
        members = ("kind", "value", "scope", "target")
        print_table(("kind", "value", "scope", "of"), [[each[member] for member in members] for each in found])


@app.command("add")
@talks_to_manager
def add_allowance(
    client: "ManagerClient",
    value: Value,
    *,
    kind: Kind = None,
    organization: Organization = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put an entry on the allowlist; what is blocked and now allowed is withdrawn at once."""
    body = {"value": value, "kind": kind, "organizationId": organization}
    body = {name: said for name, said in body.items() if said is not None}
    _print("allowed", client.answer("POST", "/api/allowlist", body=body)["data"], output)


@app.command("remove")
@talks_to_manager
def remove_allowance(
    client: "ManagerClient",
    value: Annotated[str, typer.Argument(help="as it stands there", autocompletion=allowances)],
    *,
    kind: Kind = None,
    organization: Organization = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take an entry from the allowlist."""
    query = {"value": value, "kind": kind, "org_id": organization}
    _print("allowed no more", client.answer("DELETE", "/api/allowlist", query)["data"], output)


def _print(what: str, done: "Record", output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(done)
        return
    where = "the whole fleet" if done["target"] is None else f"organization {done['target']}"
    said = f"{what}: {done['kind']} {done['value']}, {where}"
    print_lines(said if done["changed"] else f"{said}; it was so already")
