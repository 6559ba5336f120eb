"""The fence's configuration: a TOML file that only root can change."""

import stat
import tomllib
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from fence.addresses import Network, parse

DEFAULT_PATH = Path("/etc/panguard/fence.conf")
DEFAULT_SOCKET = Path("/run/panguard/fence.sock")
DEFAULT_STATE = Path("/var/lib/panguard-fence")

PrivateTargets = Literal["never", "throttle", "block"]


class ConfigError(Exception):
    """The configuration is invalid; the message says what to change."""


class Config(NamedTuple):
    """The settings of the fence, set by root.

    Attributes:
        sign_keys: the manager's Ed25519 keys (32 bytes each) under which managed requests are accepted.
        agent_id: the agent on this host; other agents' policies are refused. Empty: the first signed policy decides.
        organization_id: the organization whose blocklist is accepted. Empty: the first signed blocklist decides.
        guard_uid: the user id of the guard; only this user and root get answers.
        protected_ports: TCP ports of services whose attackers are blocked; each has a witness set.
        ssh_ports: the protected ports on which sshd listens: only their witness sets prove what sshd's records say.
        never: networks that are never a target: manager, broker, administrators, trusted proxies.
        private_targets: `never`, `throttle` or `block`: what may be done to private addresses.
        own_limit, witness_limit: new addresses in five minutes by own decision, without and with a witness.
        longest: seconds after which every measure ends.
        state: the directory of the manifest; only root can write it.
        check_interval: seconds between two checks of the kernel's table.
        idle_exit: seconds without a measure after which a fence that was started by a socket ends; 0 for never.
        join_listener: enter the network namespace of the process that listens on a protected port, if none does here.
    """

    sign_keys: tuple[bytes, ...] = ()
    agent_id: str = ""
    organization_id: str = ""
    guard_uid: int | None = None
    protected_ports: tuple[int, ...] = (22,)
    ssh_ports: tuple[int, ...] = (22,)
    never: tuple[Network, ...] = ()
    private_targets: PrivateTargets = "never"
    own_limit: int = 20
    witness_limit: int = 200
    longest: float = 30 * 86_400.0
    state: Path = DEFAULT_STATE
    check_interval: float = 30.0
    idle_exit: float = 60.0
    join_listener: bool = False


_KNOWN = {
    "sign_keys", "agent_id", "organization_id", "guard_uid", "guard_user", "protected_ports", "ssh_ports", "never",
    "private_targets", "own_limit", "witness_limit", "longest", "state", "check_interval", "idle_exit", "join_listener",
}  # fmt: skip


def read(path: Path) -> Config:
    """Return the configuration of a file.

    Raises:
        ConfigError: the file is missing, writable by others than root, or has an invalid setting.
    """
    try:
        status = path.stat()
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; `panguard guard install` writes it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    if status.st_uid != 0 or stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigError(
            f"{path} must belong to root and be writable by root alone: chown root {path}; chmod 644 {path}"
        )
    try:
        return build(document)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: {error}") from error


def build(document: dict[str, Any]) -> Config:
    """Return the configuration from a parsed TOML document.

    Raises:
        ValueError: a setting is invalid; the message names it.
    """
    unknown = sorted(set(document) - _KNOWN)
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(unknown)}; known are {', '.join(sorted(_KNOWN))}")
    uid = document.get("guard_uid")
    if uid is None and "guard_user" in document:
        uid = _uid_of(str(document["guard_user"]))
    private = document.get("private_targets", "never")
    if private not in get_args(PrivateTargets):
        raise ValueError(f"private_targets is {private!r}; it takes never, throttle or block")
    ports = tuple(_list(document, "protected_ports", [22]))
    if not all(isinstance(port, int) and 0 < port < 65_536 for port in ports) or len(ports) > 32:  # noqa: PLR2004
        raise ValueError("protected_ports takes up to 32 TCP ports")
    return Config(
        sign_keys=tuple(_key(str(text)) for text in _list(document, "sign_keys", [])),
        agent_id=str(document.get("agent_id", "")),
        organization_id=str(document.get("organization_id", "")),
        guard_uid=uid,
        protected_ports=ports,
        ssh_ports=_ssh_ports(document, ports),
        never=tuple(_network(text) for text in _list(document, "never", [])),
        private_targets=private,
        own_limit=_whole(document, "own_limit", 20, 20),
        witness_limit=_whole(document, "witness_limit", 200, 200),
        longest=float(_whole(document, "longest", 30 * 86_400, 30 * 86_400)),
        state=Path(document.get("state", DEFAULT_STATE)),
        check_interval=float(document.get("check_interval", 30.0)),
        idle_exit=float(document.get("idle_exit", 60.0)),
        join_listener=_flag(document, "join_listener"),
    )


def _ssh_ports(document: dict[str, Any], protected: tuple[int, ...]) -> tuple[int, ...]:
    """Return sshd's ports: as configured, else 22 if it is protected, for no other port says whose it is."""
    if "ssh_ports" not in document:
        return (22,) if 22 in protected else ()  # noqa: PLR2004 -- sshd's default
    ports = tuple(_list(document, "ssh_ports", [22]))
    if not set(ports) <= set(protected):
        raise ValueError(f"ssh_ports is {list(ports)}; it takes some of protected_ports, {list(protected)}")
    return ports


def _list(document: dict[str, Any], name: str, default: list[Any]) -> list[Any]:
    value = document.get(name, default)
    if not isinstance(value, list):
        raise TypeError(f"{name} is {value!r}; it takes a list, such as {default or ['…']!r}")
    return value


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it takes true or false")
    return value


def _network(text: Any) -> Network:
    try:
        return parse(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"never has {text!r}, which is no address or network in digits") from error


def _whole(document: dict[str, Any], name: str, default: int, most: int) -> int:
    value = document.get(name, default)
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r}; it takes a whole number from 0 to {most}")
    return value


def _key(text: str) -> bytes:
    from base64 import urlsafe_b64decode  # noqa: PLC0415 -- only where a key is configured

    raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if len(raw) != 32:  # noqa: PLR2004 -- an Ed25519 public key
        raise ValueError(f"{text!r} is no Ed25519 public key in base64url")
    return raw


def _uid_of(user: str) -> int:
    import pwd  # noqa: PLC0415 -- reads /etc/passwd only where a name is configured

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ValueError(f"guard_user {user!r} is no user of this host") from None
