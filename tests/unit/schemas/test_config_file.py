"""Settings files: the line of each setting, and the refusal of what they cannot hold."""

import tomllib
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config_file import LIMIT, ConfigFile
from schemas.errors import ConfigFileError

KNOWN = ("port", "stale_after", "token_file", "notifications")
SECRETS = {"token": "token_file"}


def checked(text: str) -> ConfigFile:
    config = ConfigFile.parse("m.toml", text.encode())
    config.check(KNOWN, SECRETS, "panguard manager config")
    return config


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("port = 1\nprot = 2\n", 2, "there is no setting prot: did you mean port?"),
        ("Stale-After = 1", 1, "there is no setting 'Stale-After': did you mean stale_after?"),
        ("\n\nzebra = 1", 3, "there is no setting zebra: panguard manager config lists all"),
        ("[notification.mail]\nport = 1", 1, "there is no setting notification: did you mean notifications?"),
        ('"a\\u001b[1m" = 1', 1, "there is no setting 'a\\x1b[1m'"),
        ("port = 1\n# x\ntoken = 'swordfish'", 3, "token is a secret, and settings files hold none"),
    ],
)
def test_a_setting_that_the_file_cannot_have_is_refused_with_its_line(text: str, line: int, sentence: str) -> None:
    """The message has the closest name there is, or the command that lists all; it quotes no value."""
    with pytest.raises(ConfigFileError) as refused:
        checked(text)
    assert str(refused.value).startswith(f"m.toml, line {line}: {sentence}")
    assert "swordfish" not in str(refused.value)


def test_a_secret_is_refused_with_the_setting_that_names_a_file() -> None:
    """The message has the remedy."""
    with pytest.raises(ConfigFileError, match="name that file here by token_file"):
        checked("token = 'x'")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"port = 1\nport\n", "line 2"),
        (b"port = 1\n\nport = 2\n", "line 3"),
        (b"port = [\n1,\n", "line 3"),
        (b"port = '''\n\xff", "line 2"),
        (b"port = " + b"[" * 10_000, "nested too deeply"),
        (b"port = " + b"1" * 5_000, "is no TOML"),
        (b"#" * (LIMIT + 1), "too large"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(content: bytes, line: str) -> None:
    """Also where the fault is the end of the file, or no text."""
    with pytest.raises(ConfigFileError, match=rf"^m\.toml.*{line}"):
        ConfigFile.parse("m.toml", content)


def test_lines_are_those_where_statements_begin() -> None:
    """Names within strings, arrays and comments are none; a table is where its header is."""
    config = ConfigFile.parse(
        "m.toml",
        b"# port = 0\nfirst = [\n1, # port = 2\n]\ntext = '''\nport = 3\n'''\nport = 4\n"
        b"[notifications.mail]\n\n# url\nurl = 'x'\n[notifications.\"x y\"]\nurl = 'y'\n[[many]]\na = 1\n",
    )
    assert [config.line(name) for name in ("first", "text", "port", "notifications", "many")] == [2, 5, 8, 9, 15]
    assert config.line("notifications", "mail", "url") == 12
    assert config.line("notifications", "x y") == 13
    assert config.line("notifications", "x y", "url") == 14
    assert config.line("url") is None


STATEMENTS = st.lists(
    st.sampled_from(
        ["= 1", '= "]"', "= [\n1,\n2, # ]\n]", "= '''\n]\nb = 2\n'''", '= """\n"""', "= {a = 1}\n# c", "= []\n"]
    ),
    min_size=1,
    max_size=8,
)


@given(STATEMENTS)
def test_the_line_is_the_one_where_the_text_was_written(values: list[str]) -> None:
    """For each of some statements, against the lines before it."""
    written, text = {}, ""
    for name, value in zip(ascii_lowercase, values, strict=False):
        written[name] = text.count("\n") + 1
        text += f"{name} {value}\n"
    config = ConfigFile.parse("m.toml", text.encode())
    assert set(tomllib.loads(text)) == set(written)
    assert {name: config.line(name) for name in written} == written
