"""Reads a manager's settings from options, environment and settings file, and tells where each one came from."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from manager.errors import SetupError
from manager.settings import Settings, default_data_directory
from schemas.config_file import LIMIT, ConfigFile, Origin
from schemas.decoding import complaint
from schemas.errors import ConfigFileError

CONFIG_FILE = "manager.toml"
"""The settings file that is read from the data directory where no other is named."""

SECRET_FILES: Mapping[str, str] = MappingProxyType(
    {"auth_token": "auth_token_file", "broker_password": "broker_password_file"}
)
"""Settings that are secrets, each with the setting that names a file with it."""

_LISTING = "panguard manager config"
_LONGEST_SECRET = 4096
_PATHS = frozenset(name for name, field in Settings.model_fields.items() if field.annotation in {Path, Path | None})
_FLAGS = frozenset(name for name, field in Settings.model_fields.items() if field.annotation is bool)


class WrongSetting(SetupError):  # noqa: N818 -- named after the cause
    """A setting has an invalid value, or its file cannot be read; the message names it and never quotes the value."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A manager's settings and their origins.

    Attributes:
        settings: The settings.
        origins: Where each setting came from, by its name.
        file: The settings file that was read; None if there is none.
        warnings: Sentences on what an operator should change.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    file: Path | None
    warnings: tuple[str, ...] = ()


def read_configuration(options: Mapping[str, Any], file: Path | None = None) -> Configuration:
    """Return the settings of options, environment and settings file, in this order of precedence.

    Args:
        options: Settings from the command line, by name.
        file: The settings file; None for `manager.toml` in the data directory, where it exists.

    Raises:
        WrongSetting: the file cannot be read or is malformed, or a setting does not exist or is invalid.
    """
    environment = _environment()
    config = _read(file) if file is not None else _read_default(options, environment)
    values = {} if config is None else dict(config.values)
    origins = dict.fromkeys(values, Origin.FILE)
    for origin, given in ((Origin.ENVIRONMENT, environment), (Origin.OPTION, options)):
        values |= given
        origins |= dict.fromkeys(given, origin)
    for secret, named in SECRET_FILES.items():
        if named in values and secret not in values:
            origins[secret] = origins[named]
            values[secret] = _secret(named, values[named])
    settings = _validated(values, origins, config)
    everything = {name: origins.get(name, Origin.DEFAULT) for name in Settings.model_fields}
    if config is None:
        return Configuration(settings, everything, None)
    return Configuration(settings, everything, Path(config.name), _warnings(config))


def environment_variable(name: str) -> str:
    """Return the name of a setting's environment variable."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"PANGUARD_{name.upper()}"


def _environment() -> dict[str, Any]:
    found = EnvSettingsSource(Settings)()
    variables = {environment_variable(name): name for name in Settings.model_fields}
    return {variables.get(name, name): value for name, value in found.items()}


def _read_default(options: Mapping[str, Any], environment: Mapping[str, Any]) -> ConfigFile | None:
    given = options.get("data_dir") or environment.get("data_dir")
    directory = default_data_directory() if given is None else Path(given)
    path = directory / CONFIG_FILE
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise WrongSetting(f"the settings file {path} cannot be read: {error.strerror}") from error
    config = _read(path)
    if "data_dir" in config.values:
        sentence = "this file was found in the data directory, so it cannot name another: give --data-dir or --config"
        raise WrongSetting(str(config.error(sentence, "data_dir")))
    return config


def _read(path: Path) -> ConfigFile:
    path = path.absolute()
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise WrongSetting(f"the settings file {path} cannot be read: it is no regular file")
            content = file.read(LIMIT + 1)
    except OSError as error:
        raise WrongSetting(f"the settings file {path} cannot be read: {error.strerror}") from error
    try:
        config = ConfigFile.parse(str(path), content)
        config.check(Settings.model_fields, SECRET_FILES, _LISTING)
        config = config.resolved(_PATHS, _FLAGS)
    except ConfigFileError as error:
        raise WrongSetting(str(error)) from error
    _check_channels(config, config.values.get("notifications", {}))
    return config


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_channels(config: ConfigFile, tables: Any) -> None:
    """Refuse notifications that are no tables with names; their content is checked by the notifier.

    Raises:
        WrongSetting: a channel is no table.
    """
    faults = [name for name, table in tables.items() if not isinstance(table, dict)] if isinstance(tables, dict) else []
    if faults or not isinstance(tables, dict):
        sentence = "a channel is a table with a name: write [notifications.NAME]"
        raise WrongSetting(str(config.error(sentence, "notifications", *faults[:1])))


def _warnings(config: ConfigFile) -> tuple[str, ...]:
    """Return a warning if every user of the machine may read the file, and an address in it may hold a secret."""
    tables = config.values.get("notifications", {})
    names = [name for name, table in tables.items() if _may_hold_secret(table.get("type"), table.get("url"))]
    try:
        mode = stat.S_IMODE(Path(config.name).stat().st_mode)
    except OSError:
        return ()
    if not names or not mode & stat.S_IROTH:
        return ()
    sentence = (
        f"{config.name} can be read by every user of this machine (mode {mode:04o}), and the url of"
        f" [notifications.{names[0]}] may hold a password or token: run `chmod o-r {config.name}`, or give url_file"
    )
    return (sentence,)


def _may_hold_secret(kind: object, url: object) -> bool:
    """Return whether a channel's address may hold a secret: those of Apprise, and any with user or query."""
    return isinstance(url, str) and (kind == "apprise" or "@" in url or "?" in url) and kind != "file"


def _secret(named: str, path: Any) -> SecretStr:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LONGEST_SECRET).decode().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise WrongSetting(f"{path}, which {named} names, cannot be read: {reason}") from error
    if not text:
        raise WrongSetting(f"{path}, which {named} names, is empty")
    return SecretStr(text)


def _validated(values: Mapping[str, Any], origins: Mapping[str, Origin], config: ConfigFile | None) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise WrongSetting(_fault(first, origins, config)) from error


def _fault(detail: ErrorDetails, origins: Mapping[str, Origin], config: ConfigFile | None) -> str:
    """Return the error message for an invalid value: it names the setting, and the file's line or the variable."""
    steps = [str(step) for step in detail["loc"]]
    aliases = {environment_variable(name): name for name in Settings.model_fields}
    name = aliases.get(steps[0], steps[0])
    setting = ".".join([name, *steps[1:]])
    sentence = f"the setting {setting} is wrong: {complaint(detail)}"
    if config is not None and origins.get(name) is Origin.FILE:
        return str(config.error(sentence, name))
    if origins.get(name) is Origin.OPTION:
        return sentence
    return (
        f"{sentence} ({environment_variable(name)} in the environment)" if name in Settings.model_fields else sentence
    )
