"""`panguard manager health`: readiness of the manager as an exit code."""

from typing import TYPE_CHECKING

from manager.cli.support.manager_connection import with_manager_client

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient


@with_manager_client
def health(client: "ManagerClient") -> None:
    """Exit 0 if the manager can commit and its broker is connected; else print the reason."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    client.answer("GET", "/health/ready")
    print_lines("ready")
