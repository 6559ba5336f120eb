"""The command line `panguard manager …`: runs a manager, and speaks HTTP to one."""

from manager.cli.application import app

__all__ = ["app"]
