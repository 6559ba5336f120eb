"""Options and error handling that several commands of the guard share."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command_name

from agent.errors import GuardError
from schemas.errors import SchemaError

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="The guard's data directory [default: /var/lib/panguard/guard for root,"
        " ~/.local/state/panguard/guard for others].",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="A settings file, TOML [default: guard.toml in the data directory, if there]."
    ),
]


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print an error on one line of standard error and exit with code 1."""
    from agent.sources.source import SourceError  # noqa: PLC0415 -- stop and status need none of it

    try:
        yield
    except (GuardError, SchemaError, SourceError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def typed_options(context: typer.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the command line has; those that typer took from the environment are left out."""
    return {
        name: value
        for name, value in given.items()
        if value is not None and getattr(context.get_parameter_source(name), "name", None) != "ENVIRONMENT"
    }


def add_examples(app: typer.Typer, examples: Mapping[str, str], path: str = "") -> None:
    """Show each command's and group's examples at the end of its help.

    Args:
        app: The application.
        examples: Command lines by the words that name the command, one in each line; the application's own under "".
        path: The words that name the application itself.
    """
    if path in examples:
        app.info.epilog = _section(examples[path])
    for command in app.registered_commands:
        words = f"{path} {command.name or get_command_name(getattr(command.callback, '__name__', ''))}".strip()
        if words in examples:
            command.epilog = _section(examples[words])
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_examples(group.typer_instance, examples, f"{path} {group.name}".strip())


def _section(examples: str) -> str:
    """Return the section; the first mark keeps typer from filling its lines."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in examples.strip().splitlines())])
