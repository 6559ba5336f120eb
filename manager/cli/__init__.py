"""Command line `panguard manager …`: runs a manager or sends commands to one over HTTP."""

from manager.cli.application import app

__all__ = ["app"]
