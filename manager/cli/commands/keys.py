"""`panguard manager keys`: the signing key, its rotation, and the fleet's change to the new one."""

from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.confirmation import Yes, confirm
from manager.cli.support.counting import counted
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="The signing key of policies and blocklists: state, rotation, rollback.", no_args_is_help=True)

DryRun = Annotated[bool, typer.Option("--dry-run", help="check that it can be done, and change nothing")]


@app.command("status")
@with_manager_client
def status(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Show the active key, the former ones, and how many agents have changed to the active one."""
    _print(client.get("/api/keys"), output)


@app.command("rotate")
@with_manager_client
def rotate(
    client: "ManagerClient",
    *,
    compromised: Annotated[
        bool,
        typer.Option(
            "--compromised", help="agents refuse the former key at once when they have the new one; no rollback"
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replace the signing key; agents change over within 30 days without registering again."""
    if not dry_run:
        confirm("replace the key that signs policies? Agents that are away for 30 days register again", yes=yes)
    body = {"compromised": compromised, "dryRun": dry_run}
    _print(client.answer("POST", "/api/keys/rotate", body=body)["data"], output)


@app.command("rollback")
@with_manager_client
def rollback(
    client: "ManagerClient", *, dry_run: DryRun = False, yes: Yes = False, output: OutputOption = Output.TABLE
) -> None:
    """Make the key from before the newest rotation the active one again, within its 30 days."""
    if not dry_run:
        confirm("make the former signing key the active one again?", yes=yes)
    _print(client.answer("POST", "/api/keys/rollback", body={"dryRun": dry_run})["data"], output)


def _print(state: "Record", output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines, print_table  # noqa: PLC0415 -- rich takes a while

    if output is Output.JSON:
        print_json(state)
        return
    rows = [("active", state["signKey"], "")]
    rows += [(_former(each), each["signKey"], each["until"] or "ended") for each in reversed(state["former"])]
    print_table(("state", "key", "until"), rows)
    agents = state["agents"]
    print_lines(
        f"{counted(agents['changed'], 'agent')} on the active key, {agents['former']} on a former one,"
        f" {agents['unknown']} not heard about it yet, {agents['http']} over HTTP (nothing to change)."
    )
    if agents["foreign"]:
        print_lines(
            f"{counted(agents['foreign'], 'agent')} on a key that this store never had: see `panguard manager status`."
        )
    if state["behind"]:
        print_lines(f"On a former key: {', '.join(each['hostname'] for each in state['behind'])}")


def _former(key: "Record") -> str:
    return "compromised" if key["compromised"] else "former"
