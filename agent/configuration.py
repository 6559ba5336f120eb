"""Reads the start options and settings of a guard from command line, environment and settings file."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agent.errors import ConfigurationError
from agent.options import Watch
from agent.settings import GuardSettings
from agent.storage.files import as_owner
from agent.storage.instance_lock import default_data_directory
from schemas.config_file import LIMIT, ConfigFile, Origin
from schemas.decoding import complaint
from schemas.presence import Mode

CONFIG_FILE = "guard.toml"
"""The settings file that is read from the data directory where no other is named."""

Model = TypeVar("Model", bound=BaseModel)

_LISTING = "panguard guard config"
_SECRETS = {"enroll_token": "enroll_token_file"}
_PATHS = frozenset(
    {"data_dir", "watch_log", "trust_log", "enroll_token_file", "ca_file", "journal_directory", "fence_socket"}
)
_FLAGS = frozenset({"insecure", "simulate_enforcement"})


def _listed(value: object) -> object:
    """Parse a comma-separated list."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Paths = Annotated[tuple[Path, ...], BeforeValidator(_listed)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class StartOptions(BaseModel):
    """The options of ``guard start``; the settings file has each under this name."""

    model_config = ConfigDict(frozen=True)

    manager: str | None = Field(default=None, description="address of the manager's broker, or of the manager")
    data_dir: Path | None = Field(default=None, description="the guard's data directory")
    watch: Watch | None = Field(default=None, description="auto reads the best log of the host, none reads nothing")
    watch_log: Paths = Field(default=(), description="log files that prove no writer")
    trust_log: Paths = Field(default=(), description="log files that only trusted programs can write")
    hostname: str | None = Field(default=None, description="hostname to register with; default the host's own")
    mode: Mode = Field(default=Mode.LEARNING, description="mode of the host, where the policy sets none")
    max_mode: Mode = Field(default=Mode.PROTECTION, description="the most that the host allows")
    organization: str | None = Field(default=None, description="organization to register in")
    site: str | None = Field(default=None, description="site of the host")
    tag: Words = Field(default=(), description="tags that the host states of itself")
    enroll_token_file: Path | None = Field(default=None, description="file with the enrollment token")
    ca_file: Path | None = Field(default=None, description="trusted CA certificates, PEM")
    insecure: bool = Field(default=False, description="allow connections without TLS to other hosts")


NO_VARIABLE = frozenset({"data_dir", "insecure"})
"""Options that the environment cannot give: its variables of these names are the manager's."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The start options and settings of a guard, and their origins.

    Attributes:
        start: The start options.
        settings: The settings.
        origins: The origin of each, by its name.
        file: The settings file that was read; None if there is none.
    """

    start: StartOptions
    settings: GuardSettings
    origins: Mapping[str, Origin]
    file: ConfigFile | None

    @property
    def directory(self) -> Path:
        """The guard's data directory."""
        return self.start.data_dir or default_data_directory()

    def error(self, name: str, sentence: str) -> ConfigurationError:
        """Return an error about an option or setting, which names the place that gave it."""
        return _error(name, sentence, self.origins, self.file)


def read_configuration(
    options: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None
) -> Configuration:
    """Return the options and settings of command line, environment and settings file, in this order of precedence.

    Args:
        options: The options on the command line, by name.
        environment: The environment variables.
        file: The settings file; None for `guard.toml` in the data directory, where it exists.

    Raises:
        ConfigurationError: the file cannot be read, or something in it or in the environment is invalid.
        ConfigFileError: the file is malformed, or has a setting that does not exist, or a secret.
        StorageError: the data directory cannot be used.
    """
    config = _read(file) if file is not None else _read_default(options.get("data_dir"))
    fields = (*StartOptions.model_fields, *GuardSettings.model_fields)
    variables = {name: variable for name in fields if (variable := environment_variable(name)) is not None}
    given = {name: environment[variable] for name, variable in variables.items() if environment.get(variable)}
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = dict.fromkeys(fields, Origin.DEFAULT)
    layers = ((Origin.FILE, config.values if config else {}), (Origin.ENVIRONMENT, given), (Origin.OPTION, options))
    for origin, layer in layers:
        values |= layer
        origins |= dict.fromkeys(layer, origin)
    return Configuration(
        _validated(StartOptions, values, origins, config),
        _validated(GuardSettings, values, origins, config),
        origins,
        config,
    )


def environment_variable(name: str) -> str | None:
    """Return the environment variable of a start option or setting; None if it has none."""
    return None if name in NO_VARIABLE else f"PANGUARD_{name.upper()}"


def _read_default(directory: Path | None) -> ConfigFile | None:
    directory = directory or default_data_directory()
    path = directory / CONFIG_FILE
    with as_owner(directory):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigurationError(f"the settings file {path} cannot be read: {error.strerror}") from error
        config = _read(path)
    if "data_dir" in config.values:
        sentence = "this file was found in the data directory, so it cannot name another: give --data-dir or --config"
        raise config.error(sentence, "data_dir")
    return config


def _read(path: Path) -> ConfigFile:
    path = path.absolute()
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigurationError(f"the settings file {path} cannot be read: it is no regular file")
            content = file.read(LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"the settings file {path} cannot be read: {error.strerror}") from error
    config = ConfigFile.parse(os.fspath(path), content)
    config.check((*StartOptions.model_fields, *GuardSettings.model_fields), _SECRETS, _LISTING)
    return config.resolved(_PATHS, _FLAGS)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _validated(
    model: type[Model], values: Mapping[str, Any], origins: Mapping[str, Origin], config: ConfigFile | None
) -> Model:
    try:
        return model.model_validate({name: value for name, value in values.items() if name in model.model_fields})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0])
        raise _error(name, complaint(first), origins, config) from error


def _error(name: str, sentence: str, origins: Mapping[str, Origin], config: ConfigFile | None) -> ConfigurationError:
    if origins[name] is Origin.FILE and config is not None:
        return ConfigurationError(str(config.error(f"{name}: {sentence}", name)))
    if origins[name] is Origin.ENVIRONMENT:
        return ConfigurationError(f"{environment_variable(name)}: {sentence}")
    return ConfigurationError(f"--{name.replace('_', '-')} {sentence}")
