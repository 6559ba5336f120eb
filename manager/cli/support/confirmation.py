"""Confirmation of a change: asked on a terminal only, so that scripts never wait."""

import sys
from typing import Annotated

import typer

from manager.cli.support.failures import CommandFailed, ExitCode

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask on a terminal")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask a question on a terminal; without one, or with `--yes`, go on.

    Raises:
        CommandFailed: the answer is no.
    """
    if yes or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    if not typer.confirm(question):
        raise CommandFailed(ExitCode.FAILURE, "nothing was changed")
