"""Failures of commands: an exit code for scripts, and an error message for people."""

import sys
from enum import IntEnum
from typing import Any

from typer import Exit
from typer.core import TyperGroup

from manager.cli.support.escaping import printable


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNREACHABLE = 3
    UNAUTHORIZED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    UNTRUSTED = 7


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "failed",
    ExitCode.USAGE: "wrong usage",
    ExitCode.UNREACHABLE: "the manager cannot be reached",
    ExitCode.UNAUTHORIZED: "the manager refuses the token, or there is none",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.CONFLICT: "ambiguous, or in conflict with the current state",
    ExitCode.UNTRUSTED: "the certificate is not trusted, or a secret would leave this machine in plain text",
}
"""Meaning of each exit code, the same as in docs/commands.md."""

EPILOG = f"Exit codes: {', '.join(f'{code.value} {meaning}' for code, meaning in MEANINGS.items())}."


class CommandFailed(Exception):  # noqa: N818 -- reads as a statement about the command
    """A command failed.

    Args:
        code: exit code of the process.
        sentence: the error message with the remedy; may quote untrusted text.
    """

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class FailingGroup(TyperGroup):
    """Command group that prints a CommandFailed as one line on standard error and exits with its code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CommandFailed as failure:
            sys.stderr.write(f"error: {printable(str(failure))}\n")
            raise Exit(failure.code) from failure
