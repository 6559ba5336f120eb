"""`panguard manager config`: every setting with its value, the environment variable that sets it, and its meaning."""

from typing import Any

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import DataDir, Output, OutputOption


def config(data_dir: DataDir = None, output: OutputOption = Output.TABLE) -> None:
    """Print every setting as a manager that started here and now would have it; secrets are masked."""
    from manager.cli.support.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = settings_in_force({} if data_dir is None else {"data_dir": data_dir})
    if output is Output.JSON:
        print_json(found)
    else:
        members = ("setting", "value", "environment", "meaning")
        print_table(members, [[setting[member] for member in members] for setting in found])


def settings_in_force(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each setting: its name, its value (secrets masked), its environment variable, and what it means.

    Raises:
        CommandFailed: the environment holds a value that no setting can have.
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
    """Return the settings of the environment, with those that flags gave laid over them.

    Raises:
        CommandFailed: one of them has a value that it cannot have; the sentence names it and never repeats the value.
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
