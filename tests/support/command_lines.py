"""Parses command lines of the program without running them."""

import shlex
from typing import Any

from typer.main import get_command

import panguard
from fence.cli import command_line


def command_tree() -> Any:
    """Return the command `panguard` with all of its parts."""
    if not panguard.app.registered_groups:
        for add in panguard._PARTS.values():
            add()
    return get_command(panguard.app)


ROOT = command_tree()


def parse(line: str) -> str:
    """Parse a command line and return the path of its command.

    Raises:
        Exception: typer's UsageError, or SystemExit for a line of the fence, which has a command line of its own.
    """
    program, *words = shlex.split(line)
    assert program == "panguard"
    if words[:1] == ["fence"]:
        given = command_line().parse_args(words[1:])
        return f"panguard fence {given.command}"
    context = ROOT.make_context(program, words)
    while hasattr(context.command, "commands"):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return str(context.command_path)
