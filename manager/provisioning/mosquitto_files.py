"""Writes the initial files of a new Mosquitto beside `broker.conf`; later changes are sent over MQTT."""

import base64
import hashlib
import json
import os
import pwd
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manager.errors import SetupError
from manager.provisioning import plugin_commands as commands
from manager.provisioning.logins import Login
from manager.provisioning.roles import AccessRole, static_acl_file
from schemas.topics import Role

PLUGIN = "mosquitto_dynamic_security.so"
STATE = "dynamic-security.json"
DEFAULT_USER = "mosquitto"
"""The user that Mosquitto becomes when root starts it."""

_ITERATIONS = 101
"""The hash iterations, Mosquitto's default; these passwords have 256 random bits and cannot be guessed."""

_SALT = 12
_CONNECTIONS = 20_000
_PLUGIN_FOLDERS = ("/usr/lib/*-linux-gnu", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
_REGISTRATION = "registration"


@dataclass(frozen=True, slots=True)
class Listeners:
    """Ports, address and certificate of Mosquitto's listeners.

    Attributes:
        port: The MQTT port.
        websocket_port: The port of MQTT over WebSocket; None for none.
        host: The address; None for all addresses, which requires TLS.
        certificate: The PEM file with the broker's certificate and its chain, a relative path for one in the broker's
            directory; None for plain text on loopback.
        key: The PEM file with the private key.
    """

    port: int
    websocket_port: int | None = None
    host: str | None = None
    certificate: Path | None = None
    key: Path | None = None


def find_plugin() -> Path | None:
    """Return the path of the installed dynamic-security plugin; None if it is not installed."""
    for folder in _PLUGIN_FOLDERS:
        for found in sorted(Path("/").glob(f"{folder.removeprefix('/')}/{PLUGIN}")):
            return found
    return None


def user_exists(user: str) -> bool:
    """Return whether this machine has a user."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def write(
    directory: Path,
    *,
    listeners: Listeners,
    plugin: Path,
    logins: Iterable[Login],
    roles: Iterable[AccessRole],
    user: str | None,
) -> None:
    """Write the files that `broker.conf` names into a directory, readable by their owner only.

    Args:
        directory: created if it does not exist.
        listeners: Mosquitto's listeners.
        plugin: path of the dynamic-security plugin.
        logins: the initial logins.
        roles: all roles of these logins.
        user: owner of the files, and the user that Mosquitto runs as; None for the current user.

    Raises:
        SetupError: the directory cannot be written, or the user does not exist.
    """
    files = {
        "passwords": f"{Role.REGISTERING}:{_password_line(_REGISTRATION)}\n",
        "acl": static_acl_file(),
        "conf.d/panguard.conf": _configuration(listeners, plugin, user),
        STATE: json.dumps(_state(logins, roles), indent=1),  # last: its presence means that all files are written
    }
    copy(directory, {Path(name): text.encode() for name, text in files.items()}, user)


def copy(directory: Path, files: Mapping[Path, bytes], user: str | None) -> None:
    """Write files into the broker's directory, readable by their owner only; each is replaced atomically.

    Args:
        directory: created if it does not exist.
        files: their content, by path within the directory.
        user: their owner.

    Raises:
        SetupError: they cannot be written, or the user does not exist.
    """
    folders = [directory, *dict.fromkeys(directory / name.parent for name in files if name.parent != Path())]
    try:
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None and os.geteuid() == 0:
            _check_access(directory, user)
        for name, content in files.items():
            _write(directory / name, content)
        if user is not None and os.geteuid() == 0:
            owner, group = pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid
            for path in (*folders, *(directory / name for name in files)):
                os.chown(path, owner, group)
    except OSError as error:
        raise SetupError(f"{error.filename or directory} cannot be written: {error.strerror}") from error
    except KeyError as error:
        raise SetupError(f"there is no user {user} on this machine; name another by --user") from error


def _check_access(directory: Path, user: str) -> None:
    """Raise an error if the user cannot access the directory because of a parent directory."""
    entry = pwd.getpwnam(user)
    if entry.pw_uid == 0:
        return
    groups = os.getgrouplist(user, entry.pw_gid)
    for parent in directory.parents:
        stat = parent.stat()
        owner, group = stat.st_uid == entry.pw_uid, stat.st_gid in groups
        if not stat.st_mode & (0o100 if owner else 0o010 if group else 0o001):
            raise SetupError(
                f"Mosquitto runs as {user}, which may not enter {parent}: name a --directory elsewhere, such as"
                " /etc/mosquitto/panguard, or another --user"
            )


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def _configuration(listeners: Listeners, plugin: Path, user: str | None) -> str:
    lines = ["# Written by `panguard manager broker init`."]
    if user is not None:
        lines.append(f"user {user}")
    lines += [f"plugin {plugin}", f"plugin_opt_config_file {STATE}"]
    ports = ((listeners.port, "mqtt"), (listeners.websocket_port, "websockets"))
    for port, protocol in ports:
        if port is None:
            continue
        host = listeners.host or ("" if listeners.certificate is not None else "127.0.0.1")
        lines += [f"listener {port} {host}".rstrip(), f"protocol {protocol}", f"max_connections {_CONNECTIONS}"]
        if listeners.certificate is not None:
            lines += [f"certfile {listeners.certificate}", f"keyfile {listeners.key}", "tls_version tlsv1.2"]
    return "\n".join(lines) + "\n"


def _state(logins: Iterable[Login], roles: Iterable[AccessRole]) -> dict[str, Any]:
    """Return the plugin's state file: clients with their roles, and denial of everything else."""
    return {
        "defaultACLAccess": {**dict.fromkeys(commands.DENIED_BY_DEFAULT, False), "unsubscribe": True},
        "clients": [_client(login) for login in logins],
        "groups": [],
        "roles": [{"rolename": role.name, "acls": commands.acl_list(role)} for role in roles],
    }


def _client(login: Login) -> dict[str, Any]:
    salt = secrets.token_bytes(_SALT)
    return {
        "username": login.username,
        "textdescription": login.description,
        "roles": commands.role_list(login),
        "password": _hashed(login.password, salt),
        "salt": base64.b64encode(salt).decode(),
        "iterations": _ITERATIONS,
    }


def _password_line(password: str) -> str:
    """Return a password in the format of Mosquitto's password file: PBKDF2 with SHA-512, salt and iterations."""
    salt = secrets.token_bytes(_SALT)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${_hashed(password, salt)}"


def _hashed(password: str, salt: bytes) -> str:
    return base64.b64encode(hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)).decode()
