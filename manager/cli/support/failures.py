"""How a command ends that could not do its work: an exit code for scripts, one sentence for people."""

import sys
from enum import IntEnum
from typing import Any

from typer import Exit
from typer.core import TyperGroup

from manager.cli.support.escaping import printable


class ExitCode(IntEnum):
    """What a script can tell from how a command ended."""

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
    ExitCode.UNAUTHORIZED: "it refuses the token",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.CONFLICT: "ambiguous or in conflict with how things stand",
    ExitCode.UNTRUSTED: "its certificate is not believed, or plain text would leave this machine",
}
"""Each exit code in words; docs/commands.md says the same."""

EPILOG = f"Exit codes: {', '.join(f'{code.value} {meaning}' for code, meaning in MEANINGS.items())}."


class CommandFailed(Exception):  # noqa: N818 -- it is what happened to the command
    """A command cannot do its work.

    Args:
        code: how the process ends.
        sentence: what is wrong and what to do about it; may quote text from outside.
    """

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class FailingGroup(TyperGroup):
    """A group of commands whose failures end as one line on standard error and their exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except CommandFailed as failure:
            sys.stderr.write(f"error: {printable(str(failure))}\n")
            raise Exit(failure.code) from failure
