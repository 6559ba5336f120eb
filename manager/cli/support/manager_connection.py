"""Locates the manager and the admin token, and passes an open client to a command."""

import functools
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import typer

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import AuthToken, AuthTokenFile, CaFile, Insecure, ManagerDataDir, ManagerUrl

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient

DEFAULT_URL = "http://127.0.0.1:8443"

CLIENT_TIMEOUT = 15.0
"""Seconds that a command waits for an answer."""

_ADMIN_TOKEN = "admin.token"  # noqa: S105 -- the name of a file
_READY = "manager.ready"

P = ParamSpec("P")


def with_manager_client(command: Callable[Concatenate["ManagerClient", P], None]) -> Callable[..., None]:
    """Decorator: adds the options that locate the manager, and passes an open client as the first argument.

    A parameter named `context` gets the typer context.
    """

    @functools.wraps(command)
    def run(context: typer.Context, *args: P.args, **kwargs: P.kwargs) -> None:
        for name in options:
            kwargs.pop(name)
        if "context" in signature.parameters:
            kwargs["context"] = context
        with open_client(**location(context)) as client:
            command(client, *args, **kwargs)

    options = {
        "manager": ManagerUrl,
        "auth_token": AuthToken,
        "auth_token_file": AuthTokenFile,
        "data_dir": ManagerDataDir,
        "ca_file": CaFile,
        "insecure": Insecure,
    }
    signature = inspect.signature(command)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in list(signature.parameters.items())[1:]
        if name != "context"
    ]
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False if option is Insecure else None, annotation=option
        )
        for name, option in options.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    del run.__wrapped__  # its annotations are not the ones of the whole command line
    run.__signature__ = signature.replace(parameters=[context, *own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [context, *own, *shared]}
    return run


def location(context: typer.Context) -> dict[str, Any]:
    """Return the options that locate the manager; those on the command line take precedence over the environment.

    A data directory on the command line names the manager that runs on it and the admin token in it, so `MANAGER_URL`,
    and `MANAGER_AUTH_TOKEN` where that token can be read, do not count. Neither does `MANAGER_AUTH_TOKEN` beside
    `--auth-token-file`.
    """
    names = ("manager", "auth_token", "auth_token_file", "data_dir", "ca_file", "insecure")
    given = {name: context.params.get(name) for name in names}
    typed = {name for name in names if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"}
    directory = given["data_dir"] if "data_dir" in typed else None
    if directory is not None and "manager" not in typed:
        given["manager"] = None
    its_token = directory is not None and os.access(directory / _ADMIN_TOKEN, os.R_OK)
    if "auth_token" not in typed and (its_token or "auth_token_file" in typed):
        given["auth_token"] = None
    return {**given, "insecure": bool(given["insecure"])}


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
        CommandFailed: no token was given, no manager runs on the data directory, or the CA file has no certificates.
    """
    from manager.cli.support.client import ManagerClient  # noqa: PLC0415 -- an HTTP client is not needed to show help
    from manager.cli.support.tls_trust import tls_context_for  # noqa: PLC0415 -- the same

    directory = data_directory(data_dir)
    by_directory = data_dir is not None or not (auth_token or auth_token_file)
    token = auth_token or _token(auth_token_file, directory)
    url = _without_password(manager) or announced_url(directory, "http")
    if url is None and by_directory:
        raise CommandFailed(ExitCode.UNREACHABLE, _not_announced(directory))
    url = url or DEFAULT_URL
    tls = tls_context_for(url, directory, ca_file, insecure=insecure)
    return ManagerClient(url, token, tls, timeout)


def data_directory(given: Path | None) -> Path:
    """Return the given data directory, or the default one."""
    if given is not None:
        return given
    from manager.settings import default_data_directory  # noqa: PLC0415 -- settings take a while to load

    return default_data_directory()


def announced_url(directory: Path, protocol: str) -> str | None:
    """Return the URL that the manager running on a data directory serves for `http` or `mqtt`; None if none runs."""
    try:
        found: Any = json.loads((directory / _READY).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return str(found[protocol]) if isinstance(found, dict) and protocol in found else None


def _not_announced(directory: Path) -> str:
    """Return the message for a data directory that does not tell the address of a running manager."""
    remedy = "start it, or name another by --data-dir or --manager"
    try:
        (directory / _READY).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return f"no manager runs on {directory}, or it is not ready yet: {remedy}"
    except OSError as error:
        return f"{directory / _READY} cannot be read: {error.strerror}; {remedy}"
    return f"{directory / _READY} cannot be read or is damaged: {remedy}"


def _without_password(url: str | None) -> str | None:
    """Return a URL unchanged; a URL with a password is refused with an error that does not quote it."""
    if url is not None and "@" in url:
        raise CommandFailed(ExitCode.USAGE, "a manager's URL holds no password: write http://host:8443")
    return url


def _token(file: Path | None, directory: Path) -> str:
    path = file or directory / _ADMIN_TOKEN
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
