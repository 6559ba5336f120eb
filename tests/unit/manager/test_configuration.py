"""Settings of a manager from options, environment and settings file."""

import os
from pathlib import Path

import pytest

from manager.configuration import SECRET_FILES, WrongSetting, environment_variable, read_configuration
from manager.settings import Settings
from schemas.config_file import Origin


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(environment_variable(name), raising=False)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "manager.toml"
    file.write_text(text)
    return file


def test_options_go_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of four settings has the value of the first place that gives it, and its source says which."""
    file = written(tmp_path, "port = 1\nmqtt_port = 1\nrate_limit = 1\n")
    monkeypatch.setenv("PANGUARD_PORT", "2")
    monkeypatch.setenv("PANGUARD_MQTT_PORT", "2")
    found = read_configuration({"port": 3}, file)
    assert (found.settings.port, found.settings.mqtt_port, found.settings.rate_limit) == (3, 2, 1)
    names = ("port", "mqtt_port", "rate_limit", "batch_limit")
    assert [found.origins[name] for name in names] == list(Origin)
    assert set(found.origins) == set(Settings.model_fields)
    assert found.file == file


def test_settings_with_names_of_their_own_in_the_environment_have_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The admin token and the CORS origins."""
    file = written(tmp_path, 'cors_allowed_origins = ["https://file.example"]\n')
    assert read_configuration({}, file).settings.cors_allowed_origins == ("https://file.example",)
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", "https://environment.example")
    monkeypatch.setenv("MANAGER_AUTH_TOKEN", "environment")
    found = read_configuration({"auth_token": "option"}, file)
    assert found.settings.cors_allowed_origins == ("https://environment.example",)
    assert found.settings.auth_token is not None
    assert found.settings.auth_token.get_secret_value() == "option"
    assert (found.origins["cors_allowed_origins"], found.origins["auth_token"]) == (Origin.ENVIRONMENT, Origin.OPTION)


def test_the_file_in_the_data_directory_is_read_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the environment names the directory; a file that is named takes its place."""
    own = written(tmp_path, "port = 1\n")
    assert read_configuration({"data_dir": tmp_path}).file == own
    monkeypatch.setenv("PANGUARD_DATA_DIR", str(tmp_path))
    assert read_configuration({}).settings.port == 1
    other = tmp_path / "other.toml"
    other.write_text("mqtt_port = 2\n")
    found = read_configuration({}, other)
    assert (found.settings.port, found.settings.mqtt_port, found.file) == (8443, 2, other)
    assert read_configuration({"data_dir": tmp_path / "none"}).file is None


def test_a_file_in_the_data_directory_names_no_other_one(tmp_path: Path) -> None:
    """A file that is named may; the other one would not have been found there."""
    file = written(tmp_path, '# here\ndata_dir = "elsewhere"\n')
    with pytest.raises(WrongSetting, match=r"manager\.toml, line 2: .*--config"):
        read_configuration({"data_dir": tmp_path})
    assert read_configuration({}, file).settings.data_dir == tmp_path / "elsewhere"


def test_relative_paths_count_from_the_files_directory(tmp_path: Path) -> None:
    """Wherever the manager is started; absolute ones stay."""
    settings = read_configuration({}, written(tmp_path, 'tls_key = "tls/k.pem"\ntls_certificate = "/c.pem"\n')).settings
    assert (settings.tls_key, settings.tls_certificate) == (tmp_path / "tls/k.pem", Path("/c.pem"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("'90s'", 90), ("'15m'", 900), ("'7d'", 604_800), ("45", 45), ("0.5", 0.5), ("'45'", 45)]
)
def test_times_are_durations_or_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    """In the file and in the environment."""
    assert read_configuration({}, written(tmp_path, f"stale_after = {text}\n")).settings.stale_after == seconds
    monkeypatch.setenv("PANGUARD_STALE_AFTER", text.strip("'"))
    assert read_configuration({"data_dir": tmp_path / "none"}).settings.stale_after == seconds


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prot = 1", "line 1: there is no setting prot: did you mean port?"),
        ("\nport = 'swordfish'", "line 2: the setting port is wrong: "),
        ("port = true", "line 1: port cannot be true or false"),
        ("tls_key = 1", "line 1: tls_key is a path"),
        ("stale_after = '5 min'", "line 1: the setting stale_after is wrong: it is no duration: write 90s"),
        ("stale_after = nan", "line 1: the setting stale_after is wrong: "),
        ("admin_networks = ['10.0.0.0/33']", "line 1: the setting admin_networks is wrong: "),
        ("notifications = 1", "line 1: a channel is a table"),
        ("[notifications]\nmail = 1", "line 2: a channel is a table"),
        ("port = ", "line 1: this is no TOML"),
    ],
)
def test_a_file_with_a_fault_is_refused_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    """The message names file, line and setting, and never quotes a value."""
    file = written(tmp_path, text)
    with pytest.raises(WrongSetting) as refused:
        read_configuration({}, file)
    assert str(refused.value).startswith(f"{file}, {sentence}")
    assert "swordfish" not in str(refused.value)


def test_a_wrong_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the file's line, where the environment goes before it."""
    monkeypatch.setenv("PANGUARD_PORT", "swordfish")
    with pytest.raises(WrongSetting, match=r"^the setting port is wrong.*\(PANGUARD_PORT in the environment\)$"):
        read_configuration({}, written(tmp_path, "port = 1\n"))


@pytest.mark.parametrize("is_named", [True, False])
def test_a_pipe_or_device_is_no_settings_file(tmp_path: Path, *, is_named: bool) -> None:
    """It is refused, and no command waits for a writer; nor does one read a device."""
    file = tmp_path / "manager.toml"
    os.mkfifo(file)
    with pytest.raises(WrongSetting, match=r"the settings file .* cannot be read: it is no regular file"):
        read_configuration({"data_dir": tmp_path}, file if is_named else None)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(WrongSetting, match=r"the settings file .* cannot be read: it is no regular file"):
        read_configuration({"data_dir": tmp_path}, file if is_named else None)


@pytest.mark.parametrize("path", ["none.toml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    """One that is named has to be there."""
    with pytest.raises(WrongSetting, match=r"the settings file .* cannot be read: "):
        read_configuration({}, tmp_path / path)


@pytest.mark.parametrize(("secret", "named"), SECRET_FILES.items())
def test_secrets_come_from_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, named: str
) -> None:
    """The settings file names one; the environment goes before it; a secret in the settings file is refused."""
    (tmp_path / "secret").write_text("of the file\n")
    file = written(tmp_path, f'{named} = "secret"\n')
    found = read_configuration({}, file)
    assert getattr(found.settings, secret).get_secret_value() == "of the file"
    assert found.origins[secret] is Origin.FILE
    monkeypatch.setenv(environment_variable(secret), "of the environment")
    assert getattr(read_configuration({}, file).settings, secret).get_secret_value() == "of the environment"
    with pytest.raises(WrongSetting, match=f"line 1: {secret} is a secret.*by {named}$"):
        read_configuration({}, written(tmp_path, f'{secret} = "x"\n'))


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
def test_a_secrets_file_that_gives_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """A manager that made a token of its own instead would not be the one that was meant."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(WrongSetting, match="secret, which auth_token_file names, "):
        read_configuration({}, written(tmp_path, 'auth_token_file = "secret"\n'))


def test_channels_of_notifications_are_handed_on(tmp_path: Path) -> None:
    """Tables by name, as they stand in the file."""
    file = written(tmp_path, '[notifications.siem]\ntype = "file"\nurl = "x"\n[notifications.pager]\n')
    assert read_configuration({}, file).settings.notifications == {"siem": {"type": "file", "url": "x"}, "pager": {}}
    assert read_configuration({"data_dir": tmp_path / "none"}).settings.notifications == {}


@pytest.mark.parametrize(
    ("mode", "channel", "is_warned"),
    [
        (0o644, 'type = "apprise"\nurl = "mailtos://me:s3cret@mail.example"', True),
        (0o644, 'type = "webhook"\nurl = "https://me:s3cret@soar.example/x"', True),
        (0o604, 'type = "webhook"\nurl = "https://soar.example/x?token=s3cret"', True),
        (0o640, 'type = "apprise"\nurl = "mailtos://me:s3cret@mail.example"', False),
        (0o644, 'type = "apprise"\nurl_file = "/etc/panguard/night.url"', False),
        (0o644, 'type = "syslog"\nurl = "udp://siem.example:514"', False),
        (0o644, 'type = "file"\nurl = "/var/log/a@b?.json"', False),
    ],
)
def test_a_settings_file_with_a_secret_that_everybody_may_read_is_warned_of(
    tmp_path: Path, mode: int, channel: str, *, is_warned: bool
) -> None:
    """The warning names file, mode, channel and remedy, and no secret."""
    file = written(tmp_path, f"[notifications.night]\n{channel}\n")
    file.chmod(mode)
    found = read_configuration({}, file)
    assert len(found.warnings) == is_warned
    for sentence in found.warnings:
        assert sentence.startswith(f"{file} can be read by every user of this machine (mode {mode:04o})")
        assert "[notifications.night]" in sentence
        assert "chmod o-r" in sentence
        assert "s3cret" not in sentence
