"""Finds the manager and the admin token, and gives a command an open client."""

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

ANSWER_WITHIN = 15.0
"""Seconds that a command waits for an answer."""

P = ParamSpec("P")


def talks_to_manager(command: Callable[Concatenate["ManagerClient", P], None]) -> Callable[..., None]:
    """Give a command the options that find its manager; its first argument becomes an open client."""

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
        with opened(manager, auth_token, auth_token_file, data_dir, ca_file, insecure=bool(insecure)) as client:
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


def opened(
    manager: str | None,
    auth_token: str | None,
    auth_token_file: Path | None,
    data_dir: Path | None,
    ca_file: Path | None,
    *,
    insecure: bool,
    timeout: float = ANSWER_WITHIN,
) -> "ManagerClient":
    """Return a client of the manager that these options name; each of them may be left open.

    Raises:
        CommandFailed: there is no token, or the manager's certificate could not be believed.
    """
    from manager.cli.support.client import ManagerClient  # noqa: PLC0415 -- an HTTP client is not needed to show help
    from manager.cli.support.tls_trust import trust_for  # noqa: PLC0415 -- the same

    directory = data_directory(data_dir)
    url = _without_password(manager) or announced(directory, "http") or DEFAULT_URL
    tls = trust_for(url, directory, ca_file, insecure=insecure)
    return ManagerClient(url, auth_token or _token(auth_token_file, directory), tls, timeout)


def data_directory(given: Path | None) -> Path:
    """Return the data directory: the one named, or where a manager keeps its data by default."""
    if given is not None:
        return given
    from manager.settings import default_data_directory  # noqa: PLC0415 -- settings take a while to load

    return default_data_directory()


def announced(directory: Path, door: str) -> str | None:
    """Return where the manager that runs on a data directory has a door (`http` or `mqtt`); None if none runs."""
    try:
        found: Any = json.loads((directory / "manager.ready").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return str(found[door]) if isinstance(found, dict) and door in found else None


def _without_password(url: str | None) -> str | None:
    """Return a URL as it was given; one that holds a password is refused without a word of it."""
    if url is not None and "@" in url:
        raise CommandFailed(ExitCode.USAGE, "a manager's URL holds no password: write http://host:8443")
    return url


def _token(file: Path | None, directory: Path) -> str:
    path = file or directory / "admin.token"
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        if file is not None:
            raise CommandFailed(ExitCode.FAILURE, f"{file} cannot be read") from error
        raise CommandFailed(
            ExitCode.UNAUTHORIZED,
            "there is no admin token: set MANAGER_AUTH_TOKEN, or name a file by --auth-token-file",
        ) from error
    return token
