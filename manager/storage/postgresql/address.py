"""Addresses of PostgreSQL databases: a URL without a password, and the password from a file."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from manager.errors import SetupError

_SCHEMES = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A server, a database and a user; its text has no password.

    Attributes:
        url: the URL, in libpq's form, without a password.
        password: the user's password; None where libpq finds it in its password file, or none is needed.
    """

    url: str
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the URL."""
        return self.url


def database_address(url: str, password_file: Path | None = None) -> DatabaseAddress:
    """Return the address of a URL, with the password in a file if one is named.

    Raises:
        SetupError: the URL is malformed or has a password, or the file cannot be read.
    """
    try:
        url.encode()
    except UnicodeEncodeError:
        raise SetupError("the database's URL is not UTF-8: give postgresql://USER@HOST:PORT/NAME") from None
    try:
        parts = urlsplit(url)
        has_password = parts.password is not None or any(name == "password" for name, _ in parse_qsl(parts.query))
    except ValueError as error:
        raise SetupError(f"the database is not a URL: {error}; give postgresql://USER@HOST:PORT/NAME") from error
    if has_password:  # before anything that repeats the URL
        raise SetupError(
            "the database's URL has a password, which other users of this machine may see in the list of processes:"
            " leave it out, and name a file that has it by --database-password-file, or use libpq's password file"
        )
    if parts.scheme not in _SCHEMES:
        raise SetupError(f"a database is named by postgresql://USER@HOST:PORT/NAME, not by {url}")
    normal = url if parts.scheme == "postgresql" else url.replace("postgres://", "postgresql://", 1)
    return DatabaseAddress(normal, None if password_file is None else _password(password_file))


def _password(path: Path) -> str:
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise SetupError(f"the file of the database password {path} cannot be read: {error}") from error
    if not text:
        raise SetupError(f"the file of the database password {path} is empty")
    return text
