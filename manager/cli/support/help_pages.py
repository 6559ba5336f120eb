"""Help pages: options in panels, and examples below them."""

from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command_name

CONNECTION = "Connection"
"""The panel of the options that locate the manager."""


class HelpCommand(TyperCommand):
    """Command whose help has the options of a panel in a section of their own, below the others."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def complete_help(app: typer.Typer, examples: Mapping[str, str], path: str = "") -> None:
    """Give each command and group of an application its examples.

    Args:
        app: The application.
        examples: Command lines by the words that name the command, one in each line; the application's own under "".
        path: The words that name the application itself.
    """
    own = examples.get(path)
    if own is not None:
        app.info.epilog = "\n\n".join(text for text in (_text(own), _given(app.info.epilog)) if text)
    for command in app.registered_commands:
        name = command.name or get_command_name(getattr(command.callback, "__name__", ""))
        command.cls = HelpCommand
        words = f"{path} {name}".strip()
        if words in examples:
            command.epilog = _text(examples[words])
    for group in app.registered_groups:
        if group.typer_instance is not None:
            complete_help(group.typer_instance, examples, f"{path} {group.name}".strip())


def _text(examples: str) -> str:
    """Return the section; the first mark keeps typer from filling its lines."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in examples.strip().splitlines())])


def _given(epilog: Any) -> str:
    return epilog if isinstance(epilog, str) else ""
