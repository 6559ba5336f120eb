"""`panguard manager step-down`: hands the lead over to another manager of the database."""

from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.manager_connection import with_manager_client

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient


@with_manager_client
def step_down(
    client: "ManagerClient",
    *,
    force: Annotated[
        bool, typer.Option("--force", help="also if no manager stands by: then nobody leads meanwhile")
    ] = False,
) -> None:
    """Have the manager that leads commit, and hand the lead over at once to one that stands by, as for an upgrade.

    It stands by itself afterwards. Asked at any manager of the database.
    """
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    client.answer("POST", "/api/step-down", body={"force": force})
    print_lines("stepping down")
