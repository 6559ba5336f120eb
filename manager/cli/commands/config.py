"""`panguard manager config`: every setting with its value, origin, environment variable and meaning."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from manager.cli.support.escaping import printable
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import ConfigOption, DataDir, Output, OutputOption

if TYPE_CHECKING:
    from manager.configuration import Configuration


def config(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    data_dir: DataDir = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print every setting of a manager started now, and its origin; secrets are masked."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while
    from manager.cli.support.wrapping import print_indented  # noqa: PLC0415 -- the same

    found = configuration(typed_options(context, {"data_dir": data_dir}), config)
    records = described(found)
    if output is Output.JSON:
        print_json(records)
        return
    for record in records:
        value = "-" if record["value"] is None else record["value"]
        origin = f"({record['origin']}; {record['environment']})"
        print_indented(f"{record['setting']} = {value} {origin}", rest=4)
        print_indented(f"    {record['meaning']}", rest=0)
    print_lines(f"Settings file: {found.file or 'none'}")


def typed_options(context: typer.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the command line has; those that typer took from the environment are left out."""
    return {
        name: value
        for name, value in given.items()
        if value is not None and getattr(context.get_parameter_source(name), "name", None) != "ENVIRONMENT"
    }


def described(found: "Configuration") -> list[dict[str, Any]]:
    """Return name, value (secrets masked), origin, environment variable and meaning of each setting."""
    from pydantic import SecretStr  # noqa: PLC0415 -- pydantic takes a while to load

    from manager.configuration import environment_variable  # noqa: PLC0415 -- the same

    records = []
    for name, field in type(found.settings).model_fields.items():
        value = getattr(found.settings, name)
        shown = "********" if isinstance(value, SecretStr) else _plain(value)
        records.append(
            {
                "setting": name,
                "value": shown,
                "origin": found.origins[name].value,
                "environment": environment_variable(name),
                "meaning": field.description,
            }
        )
    return records


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return ", ".join(value) if isinstance(value, tuple | Mapping) else str(value)


def configuration(options: Mapping[str, Any], file: Path | None) -> "Configuration":
    """Return the settings of options, environment and settings file; print warnings on them to standard error.

    Raises:
        CommandFailed: a setting or the file is invalid; the error names it and never quotes the value.
    """
    from manager.configuration import WrongSetting, read_configuration  # noqa: PLC0415 -- settings take a while to load

    try:
        found = read_configuration(options, file)
    except WrongSetting as error:
        raise CommandFailed(ExitCode.USAGE, str(error)) from error
    for sentence in found.warnings:
        typer.echo(f"warning: {printable(sentence)}", err=True)
    return found
