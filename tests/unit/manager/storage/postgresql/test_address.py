"""Addresses of databases: a password is refused in the URL and never shown, and a file may have it."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.errors import SetupError
from manager.storage.postgresql.address import database_address


@pytest.mark.parametrize(
    "url", ["postgresql://u:hunter2@db/panguard", "postgres://db/panguard?user=u&password=hunter2"]
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    """A command line is seen by every user of the machine; the refusal says where the password belongs."""
    with pytest.raises(SetupError, match="--database-password-file") as refused:
        database_address(url)
    assert "hunter2" not in str(refused.value)


def test_a_password_comes_from_a_file_and_is_not_shown(tmp_path: Path) -> None:
    """The line of the file is the password; neither the address's text nor its representation has it."""
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    address = database_address("postgres://u@db/panguard", file)
    assert (address.url, address.password) == ("postgresql://u@db/panguard", "hunter2")
    assert "hunter2" not in f"{address} {address!r}"


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_file_without_a_password_is_refused(tmp_path: Path, content: str | None) -> None:
    """A missing or an empty file is named."""
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SetupError, match=str(file)):
        database_address("postgresql://u@db/panguard", file)


@given(st.text())
def test_any_other_text_is_a_sentence(text: str) -> None:
    """Whatever an operator gives is an address or a SetupError."""
    with suppress(SetupError):
        assert database_address(text).url.startswith("postgresql://")
