"""`panguard manager config`: every setting with its value, environment variable and meaning."""

from typing import Any

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import DataDir, Output, OutputOption


def config(data_dir: DataDir = None, output: OutputOption = Output.TABLE) -> None:
    """Print every setting of a manager started now; secrets are masked."""
    from manager.cli.support.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = effective_settings({} if data_dir is None else {"data_dir": data_dir})
    if output is Output.JSON:
        print_json(found)
    else:
        members = ("setting", "value", "environment", "meaning")
        print_table(members, [[setting[member] for member in members] for setting in found], whole=1)


def effective_settings(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the name, value (secrets masked), environment variable and meaning of each setting.

    Raises:
        CommandFailed: the environment holds an invalid value.
    """
    from pydantic import SecretStr  # noqa: PLC0415 -- pydantic takes a while to load

    from manager.settings import Settings  # noqa: PLC0415 -- the same

    settings = read_settings(given)
    found = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        alias = field.validation_alias
        named = alias if isinstance(alias, str) else f"PANGUARD_{name.upper()}"
        secret = isinstance(value, SecretStr)
        shown = (
            "********" if secret else value if value is None or isinstance(value, bool | int | float) else str(value)
        )
        found.append({"setting": name, "value": shown, "environment": str(named), "meaning": field.description})
    return found


def read_settings(given: dict[str, Any]) -> Any:
    """Return the settings of the environment, overridden by the given flags.

    Raises:
        CommandFailed: a setting has an invalid value; the error names it and never quotes the value.
    """
    from pydantic import ValidationError  # noqa: PLC0415 -- settings take a while to load

    from manager.settings import Settings  # noqa: PLC0415 -- the same
    from schemas.decoding import complaint  # noqa: PLC0415 -- the same

    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        setting = ".".join(str(step) for step in first["loc"])
        raise CommandFailed(ExitCode.USAGE, f"the setting {setting} is wrong: {complaint(first)}") from error
