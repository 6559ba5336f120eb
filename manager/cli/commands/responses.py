"""`panguard manager responses`: automatic response as a whole, frozen and let go on."""

from typing import TYPE_CHECKING

import typer

from manager.cli.support.connection import talks_to_manager
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Automatic response as a whole.", no_args_is_help=True)


@app.command("status")
@talks_to_manager
def show_responses(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Show whether automatic response acts, what is in force, and what waits for approval."""
    _print(client.get("/api/responses"), output)


@app.command("freeze")
@talks_to_manager
def freeze(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Stop all automatic response; what is in force stays until it is undone or ends."""
    _print(client.answer("POST", "/api/responses/freeze")["data"], output)


@app.command("thaw")
@talks_to_manager
def thaw(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Let incidents respond again, from their next report by a further agent on."""
    _print(client.answer("POST", "/api/responses/thaw")["data"], output)


def stands(standing: "Record") -> str:
    """Return how automatic response stands, in words."""
    if standing["frozen"]:
        return "frozen"
    return "simulated only" if standing["simulation"] else "acts"


def _print(standing: "Record", output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(standing)
        return
    print_lines(
        f"Automatic response  {stands(standing)}",
        f"Entries in force    {standing['entries']}",
        f"Wait for approval   {standing['pending']}",
    )
