"""`panguard manager clock`: accept the manager's clock, so that old rows are deleted by it."""

from typing import TYPE_CHECKING

import typer

from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient

app = typer.Typer(help="The manager's clock.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `clock` a command group: Typer would merge a group with a single command."""


@app.command("accept")
@with_manager_client
def accept(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Accept the manager's clock as correct: old rows are deleted without waiting for agents or 24 hours."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    accepted = client.answer("POST", "/api/clock/accept")["data"]
    if output is Output.JSON:
        print_json(accepted)
    else:
        print_lines(f"accepted {accepted['at']} as the time")
