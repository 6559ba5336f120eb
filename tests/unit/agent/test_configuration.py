"""Start options and settings of a guard from command line, environment and settings file."""

import os
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer

from agent.cli.start import _token, start
from agent.configuration import NO_VARIABLE, StartOptions, environment_variable, read_configuration
from agent.errors import ConfigurationError
from agent.settings import GuardSettings
from schemas.config_file import Origin
from schemas.errors import ConfigFileError
from schemas.presence import Mode

NOT_IN_FILES = {"config", "detach", "enroll_token"}
"""Options of `guard start` that are no settings, and the secret."""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "guard.toml"
    file.write_text(text)
    return file


def test_every_option_of_start_can_stand_in_the_file() -> None:
    """Under its name, with underscores; no setting has the same name."""
    options = {name for name, kind in get_type_hints(start).items() if kind is not typer.Context} - {"return"}
    assert options - set(StartOptions.model_fields) == NOT_IN_FILES
    assert set(StartOptions.model_fields) <= options
    assert set(StartOptions.model_fields) & set(GuardSettings.model_fields) == set()
    assert all(get_args(get_type_hints(start, include_extras=True)[name]) for name in StartOptions.model_fields)


def test_options_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    """Each has the value of the first place that gives it; an empty variable gives none."""
    file = written(tmp_path, 'site = "file"\norganization = "file"\nhostname = "file"\nkeep_alive = 9\n')
    environment = {"PANGUARD_SITE": "environment", "PANGUARD_ORGANIZATION": "environment", "PANGUARD_KEEP_ALIVE": ""}
    found = read_configuration({"site": "option"}, environment, file)
    start = found.start
    assert (start.site, start.organization, start.hostname, found.settings.keep_alive) == (
        "option", "environment", "file", 9,
    )  # fmt: skip
    assert [found.origins[name] for name in ("site", "organization", "hostname", "watch")] == list(Origin)


@pytest.mark.parametrize("name", [*StartOptions.model_fields, *GuardSettings.model_fields])
def test_every_option_and_setting_is_taken_from_file_and_environment(tmp_path: Path, name: str) -> None:
    """But for those that have no variable; a list is separated by commas there."""
    other = {"mode": "protection", "max_mode": "learning", "watch": "none", "insecure": "true"}
    model = StartOptions if name in StartOptions.model_fields else GuardSettings
    kind = str(model.model_fields[name].annotation)
    text = other.get(name, "true" if "bool" in kind else "70000000" if name == "outbox_max_bytes" else "77")
    quoted = text if "bool" in kind or kind in {"<class 'int'>", "<class 'float'>"} else f'"{text}"'
    found = read_configuration({}, {}, written(tmp_path, f"{name} = {quoted}\n"))
    part = found.start if model is StartOptions else found.settings
    assert getattr(part, name) != model.model_fields[name].default
    assert found.origins[name] is Origin.FILE
    variable = environment_variable(name)
    assert (variable is None) == (name in NO_VARIABLE)
    if variable is not None:
        given = read_configuration({}, {variable: text}, written(tmp_path, ""))
        assert (
            getattr(given.start if model is StartOptions else given.settings, name) != model.model_fields[name].default
        )
        assert given.origins[name] is Origin.ENVIRONMENT


def test_the_file_in_the_data_directory_is_read_where_none_is_named(tmp_path: Path) -> None:
    """It names no other directory; a file that is named may, and relative paths count from its place."""
    written(tmp_path, 'watch_log = ["a.log", "/b.log"]\nmode = "protection"\nblock_duration = "2h"\n')
    found = read_configuration({"data_dir": tmp_path}, {})
    assert (found.start.watch_log, found.start.mode) == ((tmp_path / "a.log", Path("/b.log")), Mode.PROTECTION)
    assert found.settings.block_duration == 7_200
    file = written(tmp_path, 'data_dir = "elsewhere"\n')
    with pytest.raises(ConfigFileError, match=r"guard\.toml, line 1: .*--config"):
        read_configuration({"data_dir": tmp_path}, {})
    assert read_configuration({}, {}, file).directory == tmp_path / "elsewhere"
    assert read_configuration({"data_dir": tmp_path / "none"}, {}).file is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mod = 1", "line 1: there is no setting mod: did you mean mode?"),
        ("\nenroll_token = 'swordfish'", "line 2: enroll_token is a secret, and settings files hold none: "),
        ("mode = 'swordfish'", "line 1: mode: Input should be 'learning' or 'protection'"),
        ("heartbeat_interval = '5 min'", "line 1: heartbeat_interval: it is no duration: write 90s"),
        ("keep_alive = true", "line 1: keep_alive cannot be true or false"),
        ("watch_log = [1]", "line 1: watch_log is a path"),
        ("[notifications.mail]", "line 1: there is no setting notifications: "),
        ("mode =", "line 1: this is no TOML"),
    ],
)
def test_a_file_with_a_fault_is_refused_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    """The message names file, line and setting, and never quotes a value."""
    file = written(tmp_path, text)
    with pytest.raises((ConfigurationError, ConfigFileError)) as refused:
        read_configuration({}, {}, file)
    assert str(refused.value).startswith(f"{file}, {sentence}")
    assert "swordfish" not in str(refused.value)


def test_errors_name_the_place_that_gave_the_value(tmp_path: Path) -> None:
    """The option, the variable, or file and line."""
    file = written(tmp_path, '# names\nhostname = "a b"\n')
    assert str(read_configuration({"site": "x"}, {}, file).error("site", "is long")) == "--site is long"
    assert str(read_configuration({}, {}, file).error("hostname", "is long")) == f"{file}, line 2: hostname: is long"
    with pytest.raises(ConfigurationError, match=r"^PANGUARD_MODE: Input should be"):
        read_configuration({}, {"PANGUARD_MODE": "x"}, file)


@pytest.mark.parametrize("is_named", [True, False])
def test_a_pipe_or_device_is_no_settings_file(tmp_path: Path, *, is_named: bool) -> None:
    """It is refused, and no command waits for a writer; nor does one read a device."""
    file = tmp_path / "guard.toml"
    os.mkfifo(file)
    with pytest.raises(ConfigurationError, match=r"the settings file .* cannot be read: it is no regular file"):
        read_configuration({"data_dir": tmp_path}, {}, file if is_named else None)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError, match=r"the settings file .* cannot be read: it is no regular file"):
        read_configuration({"data_dir": tmp_path}, {}, file if is_named else None)


@pytest.mark.parametrize("path", ["none.toml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    """One that is named has to be there."""
    with pytest.raises(ConfigurationError, match=r"the settings file .* cannot be read: "):
        read_configuration({}, {}, tmp_path / path)


@pytest.mark.parametrize(
    ("places", "text", "typed", "token"),
    [
        ({}, None, False, "in the file"),
        ({}, "of the environment", False, "of the environment"),
        ({}, "of the option", True, "of the option"),
        ({"environment": "other"}, "of the option", True, "of the option"),
        ({"option": "other"}, "of the environment", False, "in the other file"),
    ],
)
def test_the_enrollment_token_has_the_same_order(
    tmp_path: Path, places: dict[str, str], text: str | None, *, typed: bool, token: str
) -> None:
    """A file that the settings file names counts last; one that is named on the command line counts first."""
    (tmp_path / "token").write_text("in the file\n")
    (tmp_path / "other").write_text("in the other file\n")
    file = written(tmp_path, 'enroll_token_file = "token"\n')
    options = {"enroll_token_file": tmp_path / places["option"]} if "option" in places else {}
    other = str(tmp_path / places.get("environment", ""))
    environment = {"PANGUARD_ENROLL_TOKEN_FILE": other} if "environment" in places else {}
    assert _token(read_configuration(options, environment, file), text, typed=typed) == token
