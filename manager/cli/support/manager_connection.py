"""Locates the manager and the admin token, and passes an open client to a command."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import AuthToken, AuthTokenFile, CaFile, DataDir, Insecure, ManagerUrl

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient

DEFAULT_URL = "http://127.0.0.1:8443"

CLIENT_TIMEOUT = 15.0
"""Seconds that a command waits for an answer."""

P = ParamSpec("P")


def with_manager_client(command: Callable[Concatenate["ManagerClient", P], None]) -> Callable[..., None]:
    """Decorator: adds the options that locate the manager, and passes an open client as the first argument."""

    @functools.wraps(command)
    def run(  # noqa: PLR0917 -- typer gives each by its name
        manager: str | None,
        auth_token: str | None,
        auth_token_file: Path | None,
        data_dir: Path | None,
        ca_file: Path | None,
        insecure: bool,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        with open_client(manager, auth_token, auth_token_file, data_dir, ca_file, insecure=bool(insecure)) as client:
            command(client, *args, **kwargs)

    options = {
        "manager": ManagerUrl,
        "auth_token": AuthToken,
        "auth_token_file": AuthTokenFile,
        "data_dir": DataDir,
        "ca_file": CaFile,
        "insecure": Insecure,
    }
    signature = inspect.signature(command)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in list(signature.parameters.values())[1:]
    ]
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False if option is Insecure else None, annotation=option
        )
        for name, option in options.items()
    ]
    del run.__wrapped__  # its annotations are not the ones of the whole command line
    run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return run


def open_client(
    manager: str | None,
    auth_token: str | None,
    auth_token_file: Path | None,
    data_dir: Path | None,
    ca_file: Path | None,
    *,
    insecure: bool,
    timeout: float = CLIENT_TIMEOUT,
) -> "ManagerClient":
    """Return a client of the manager that these options name; each of them may be None.

    Raises:
        CommandFailed: no token was given, or the CA file contains no certificates.
    """
    from manager.cli.support.client import ManagerClient  # noqa: PLC0415 -- an HTTP client is not needed to show help
    from manager.cli.support.tls_trust import tls_context_for  # noqa: PLC0415 -- the same

    directory = data_directory(data_dir)
    url = _without_password(manager) or announced_url(directory, "http") or DEFAULT_URL
    tls = tls_context_for(url, directory, ca_file, insecure=insecure)
    return ManagerClient(url, auth_token or _token(auth_token_file, directory), tls, timeout)


def data_directory(given: Path | None) -> Path:
    """Return the given data directory, or the default one."""
    if given is not None:
        return given
    from manager.settings import default_data_directory  # noqa: PLC0415 -- settings take a while to load

    return default_data_directory()


def announced_url(directory: Path, protocol: str) -> str | None:
    """Return the URL that the manager running on a data directory serves for `http` or `mqtt`; None if none runs."""
    try:
        found: Any = json.loads((directory / "manager.ready").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return str(found[protocol]) if isinstance(found, dict) and protocol in found else None


def _without_password(url: str | None) -> str | None:
    """Return a URL unchanged; a URL with a password is refused with an error that does not quote it."""
    if url is not None and "@" in url:
        raise CommandFailed(ExitCode.USAGE, "a manager's URL holds no password: write http://host:8443")
    return url


def _token(file: Path | None, directory: Path) -> str:
    path = file or directory / "admin.token"
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        if file is not None:
            raise CommandFailed(ExitCode.FAILURE, f"{file} cannot be read: {reason}") from error
        raise CommandFailed(ExitCode.UNAUTHORIZED, _no_token(directory, path, reason)) from error


def _no_token(directory: Path, path: Path, reason: str) -> str:
    """Return the message for a missing admin token: the place where it was looked for, and ways to give one."""
    found = f"{path}: {reason}" if directory.is_dir() else f"the data directory {directory} does not exist"
    return (
        f"there is no admin token ({found}): name the manager's --data-dir, set MANAGER_AUTH_TOKEN,"
        " or name a file by --auth-token-file"
    )
