"""Settings files in TOML: parsing, line numbers, and refusal of unknown settings and secrets. Does no I/O."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePath
from typing import Any, Self

from schemas.errors import ConfigFileError

LIMIT = 64 * 1024
"""The maximum size of a settings file in bytes."""

_CLOSE = 0.6
_LONGEST_NAME = 64
_ENDS = ("]", "}", '"""', "'''")
"""Text in the last line of each statement that has several lines."""

_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class Origin(StrEnum):
    """The place that gave a setting its value. An earlier one takes precedence over a later one."""

    OPTION = "option"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A parsed settings file.

    Attributes:
        name: The file's path, for error messages.
        text: Its content.
        values: Its settings and tables by name.
    """

    name: str
    text: str
    values: Mapping[str, Any]

    @classmethod
    def parse(cls, name: str, content: bytes) -> Self:
        """Parse a file.

        Raises:
            ConfigFileError: it is too large, no UTF-8 or no TOML; the message names file and line.
        """
        if len(content) > LIMIT:
            raise ConfigFileError(f"{name} is too large for a settings file: at most {LIMIT} bytes are read")
        try:
            text = content.decode()
            return cls(name, text, _loads(text))
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ConfigFileError(f"{name}, line {line}: this is no text in UTF-8") from error
        except RecursionError as error:
            raise ConfigFileError(f"{name} is no TOML: it is nested too deeply") from error
        except ValueError as error:
            raise ConfigFileError(_no_toml(name, text, str(error))) from error

    def check(self, known: Collection[str], secrets: Mapping[str, str], listing: str) -> None:
        """Refuse settings that do not exist, and secrets.

        Args:
            known: The names of settings and tables that the file may have.
            secrets: The names of settings that are secrets, each with the setting that names a file instead.
            listing: A command that lists all settings.

        Raises:
            ConfigFileError: the file has another setting, or a secret; the message names file, line and remedy.
        """
        for setting in self.values:
            if setting in secrets:
                raise self.error(
                    f"{setting} is a secret, and settings files hold none: write it into a file of its own,"
                    f" and name that file here by {secrets[setting]}",
                    setting,
                )
            if setting not in known:
                raise self.error(
                    f"there is no setting {_quoted(setting)}{suggestion(setting, known, listing)}", setting
                )

    def resolved(self, paths: Collection[str], flags: Collection[str]) -> Self:
        """Return this file with absolute paths: relative ones count from its directory.

        Args:
            paths: The names of settings that are paths, or lists of paths.
            flags: The names of settings that may be true or false.

        Raises:
            ConfigFileError: a path is no text, or a setting that is no flag is true or false.
        """
        directory = PurePath(self.name).parent
        values = dict(self.values)
        for setting, value in values.items():
            if isinstance(value, bool) and setting not in flags:
                raise self.error(f"{setting} cannot be true or false", setting)
            if setting in paths:
                several = isinstance(value, list)
                texts = value if isinstance(value, list) else [value]
                if not all(isinstance(text, str) for text in texts):
                    raise self.error(f"{setting} is a path: write it in quotes", setting)
                found = [str(directory / text) for text in texts]
                values[setting] = found if several else found[0]
        return replace(self, values=values)

    def error(self, sentence: str, *path: str) -> ConfigFileError:
        """Return an error that names this file and the line where a value begins.

        Args:
            sentence: The message.
            path: The names that lead to the value: table after table, then the setting.
        """
        line = self.line(*path)
        return ConfigFileError(f"{self.name}{'' if line is None else f', line {line}'}: {sentence}")

    def line(self, *path: str) -> int | None:
        """Return the line where a value begins, counted from 1; None if the file does not have it.

        Statement after statement is parsed, each beneath the table header above it.
        """
        lines = self.text.split("\n")
        start, header = 0, ""
        for end in range(1, len(lines) + 1):
            if end - start > 1 and not any(mark in lines[end - 1] for mark in _ENDS):
                continue
            statement = "\n".join(lines[start:end])
            if statement.lstrip().startswith("["):
                header, statement = statement, ""
            try:
                found: Any = _loads(f"{header}\n{statement}")
            except ValueError:
                continue  # the statement goes on in the next line
            for name in path:
                found = found.get(name) if isinstance(found, dict) else None
            if found is not None:
                return start + 1
            start = end
        return None


def _loads(text: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 -- a guard without a settings file needs none of it

    return tomllib.loads(text)


def suggestion(name: str, known: Collection[str], listing: str) -> str:
    """Return the end of an error message about an unknown name: the closest known one, or the command for all."""
    import difflib  # noqa: PLC0415 -- only for people who mistyped: a guard at rest needs none of it

    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=_CLOSE)
    return f": did you mean {close[0]}?" if close else f": {listing} lists all"


def _no_toml(name: str, text: str, reason: str) -> str:
    found = _POSITION.search(reason)
    if found is None:
        return f"{name} is no TOML: {reason}"
    line = found[1] or text.count("\n") + 1
    return f"{name}, line {line}: this is no TOML: {_POSITION.sub('', reason)}"


def _quoted(name: str) -> str:
    cut = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    return cut if cut.isidentifier() and cut.isascii() else repr(cut)
