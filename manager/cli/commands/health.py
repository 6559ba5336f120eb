"""`panguard manager health`: whether the manager can do its work, as an exit code."""

from typing import TYPE_CHECKING

from manager.cli.support.connection import talks_to_manager

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient


@talks_to_manager
def health(client: "ManagerClient") -> None:
    """Succeed if the manager can commit and its broker is connected; else say which of them fails."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    client.answer("GET", "/health/ready")
    print_lines("ready")
