"""`panguard manager responses`: state of automatic response, freeze, thaw, and the reach of blocks."""

from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption, ReachWord

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Automatic response: state, freeze, thaw, and the reach of blocks.", no_args_is_help=True)


@app.command("status")
@with_manager_client
def show_responses(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Show the state of automatic response, the entries in force, and the incidents to approve."""
    _print(client.get("/api/responses"), output)


@app.command("freeze")
@with_manager_client
def freeze(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Stop all automatic response; entries in force stay until they are undone or expire."""
    _print(client.answer("POST", "/api/responses/freeze")["data"], output)


@app.command("thaw")
@with_manager_client
def thaw(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Resume automatic response: an incident responds at its next report by a further agent."""
    _print(client.answer("POST", "/api/responses/thaw")["data"], output)


@app.command("organization")
@with_manager_client
def choose_organization_response(
    client: "ManagerClient",
    counted: Annotated[ReachWord, typer.Argument(help="vouched: agents that prove who wrote the report; or any")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Choose which agents a block of the whole organization counts; the manager keeps the choice."""
    body = {"organizationResponse": counted}
    _print(client.answer("PUT", "/api/responses", body=body)["data"], output)


def _state_text(state: "Record") -> str:
    """Describe the state of automatic response."""
    if state["frozen"]:
        return "frozen"
    return "simulated only" if state["simulation"] else "active"


def _print(state: "Record", output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(state)
        return
    chosen = "" if state["organizationResponseChosen"] else " (not chosen yet)"
    print_lines(
        f"Automatic response  {_state_text(state)}",
        f"Organization        counts {state['organizationResponse']} agents{chosen}",
        f"Entries in force    {state['entries']}",
        f"Wait for approval   {state['pending']}",
    )
