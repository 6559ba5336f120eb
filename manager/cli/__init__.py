"""The command line `panguard manager …`: runs a manager, and speaks HTTP to one."""

from manager.cli.command_line import app

__all__ = ["app"]
