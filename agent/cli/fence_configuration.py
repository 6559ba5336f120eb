"""The text of `fence.conf` as `guard install` writes it: a new one, or an operator's with the enrollment's settings."""

import re
import socket
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from agent.connection.identity import IDENTITY, IdentityFile
from agent.errors import ConfigurationError
from agent.storage.files import as_owner
from schemas.keys import EnrollmentToken

_BY_MESSAGES = "# Without it the signed policy decides, and the host follows its agent to another organization."


@dataclass(frozen=True, slots=True)
class EnrollmentNames:
    """The names and keys that an enrollment gives to a host.

    Attributes:
        sign_key: The manager's key, from the token, which root gives; empty without a token.
        registered_key: The manager's key that the guard has pinned; empty over HTTP and before the registration.
        agent_id: The agent; empty before the registration, and where the token is of another manager.
        organization_id: Its organization; empty as `agent_id`.
        is_other_manager: The token is of another manager than the one that the guard is registered at.
    """

    sign_key: str = ""
    registered_key: str = ""
    agent_id: str = ""
    organization_id: str = ""
    is_other_manager: bool = False


def names_of(token: EnrollmentToken | None, data: Path, *, over_http: bool) -> EnrollmentNames:
    """Return what a token and the guard's data directory say.

    Raises:
        GuardError: the guard's identity cannot be read.
    """
    sign_key = "" if token is None else token.sign_key
    with as_owner(data):
        known = (data / IDENTITY).exists()
        enrolled = IdentityFile(data, over_http=over_http).identity.enrolled if known else None
    if enrolled is None:
        return EnrollmentNames(sign_key)
    trusted = enrolled.trusted
    registered_key = "" if trusted is None else trusted.current
    if sign_key and trusted is not None and not trusted.knows(sign_key):
        return EnrollmentNames(sign_key, registered_key, is_other_manager=True)
    return EnrollmentNames(sign_key, registered_key, enrolled.agent_id, enrolled.organization_id)


def new(user: str, names: EnrollmentNames, never: Iterable[str]) -> str:
    """Return a new `fence.conf`; it names no organization, so that the host follows its agent."""
    key = names.sign_key or names.registered_key  # the guard could write another into its identity
    lines = [
        "# The fence's configuration. It belongs to root: no manager and no guard can change it.",
        f'guard_user = "{user}"',
        f"sign_keys = {_list([key] if key else [])}",
        "# Without it the first signed policy decides.",
        _line("agent_id", names.agent_id) if names.agent_id else '# agent_id = ""',
        _BY_MESSAGES,
        '# organization_id = ""',
        "# TCP ports of services whose attackers are blocked.",
        "protected_ports = [22]",
        "# Never blocked: the manager and its broker, your own networks, reverse proxies.",
        f"never = {_list(never)}",
        "# Private addresses: never, throttle or block.",
        'private_targets = "never"',
    ]
    return "\n".join(lines) + "\n"


def updated(text: str, names: EnrollmentNames, path: Path) -> tuple[str, list[str]]:
    """Return an existing `fence.conf` with the enrollment's settings, and a line for each change.

    `sign_keys`, where it lacks the token's key, and `agent_id` follow the enrollment; `organization_id` only where it
    is set. With a token of another manager, both names are taken out. All other lines stay as they are.

    Args:
        text: The file's content.
        names: What the enrollment says.
        path: The file, for messages.

    Raises:
        ConfigurationError: the text is no TOML, or its form does not let a setting be changed.
    """
    try:
        before = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no TOML ({error}): mend it, or remove it and run this again") from error
    wanted: dict[str, Any] = {}
    keys = before.get("sign_keys")
    if names.sign_key and not (isinstance(keys, list) and names.sign_key in keys):
        wanted["sign_keys"] = [names.sign_key]
    if names.is_other_manager:
        wanted |= {name: None for name in ("agent_id", "organization_id") if name in before}
    if names.agent_id and before.get("agent_id") != names.agent_id:
        wanted["agent_id"] = names.agent_id
    if names.organization_id and before.get("organization_id", names.organization_id) != names.organization_id:
        wanted["organization_id"] = names.organization_id
    changes = []
    for name, value in wanted.items():
        text = _with(text, name, value)
        instead = f", instead of {_toml(before[name])}" if before.get(name) else ""
        changes.append(f"{name}: {'left to the signed policy' if value is None else _toml(value)}{instead}")
    expected = {name: value for name, value in (before | wanted).items() if value is not None}
    if _read(text) != expected:
        raise ConfigurationError(f"{path} cannot be changed line by line: write into it {'; '.join(changes)}")
    return text, changes


def _read(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def addresses(host: str) -> list[str]:
    """Return the addresses of a name now; loopback needs no entry.

    Raises:
        ConfigurationError: the name cannot be resolved.
    """
    try:
        found = {str(information[4][0]).partition("%")[0] for information in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ConfigurationError(f"{host} cannot be resolved ({error}): write its address into --manager") from error
    return sorted(address for address in found if not ip_address(address).is_loopback)


def missing_from_never(text: str, wanted: Iterable[str]) -> Iterator[str]:
    """Yield the addresses that the `never` of a configuration does not cover."""
    listed, never = (_read(text) or {}).get("never"), []
    for each in listed if isinstance(listed, list) else ():
        with suppress(ValueError):  # the fence refuses it, with the reason
            never.append(ip_network(str(each), strict=False))
    for address in wanted:
        if not any(ip_address(address) in network for network in never):
            yield address


def _with(text: str, name: str, value: Any) -> str:
    """Return a configuration with a setting in place of its former lines, or of its commented line, or at the end."""
    lines = text.splitlines(keepends=True)
    first = next((index for index, line in enumerate(lines) if re.match(rf"\s*{name}\s*=", line)), None)
    after = len(lines) if first is None else _end_of(lines, first)
    if first is None:
        commented = (index for index, line in enumerate(lines) if re.match(rf"#\s*{name}\s*=", line))
        first = next(commented, len(lines))
        after = min(first + 1, len(lines))
    line = f"# {_line(name, '')}" if value is None else _line(name, value)
    lines[first:after] = [f"{line}\n"]
    if first and not lines[first - 1].endswith("\n"):
        lines[first - 1] += "\n"
    return "".join(lines)


def _end_of(lines: list[str], first: int) -> int:
    """Return the index after the last line of a setting; a list may have several."""
    for after in range(first + 1, len(lines)):
        try:
            tomllib.loads("".join(lines[first:after]))
        except tomllib.TOMLDecodeError:
            continue
        return after
    return len(lines)


def _line(name: str, value: Any) -> str:
    return f"{name} = {_toml(value)}"


def _toml(value: Any) -> str:
    return _list(value) if isinstance(value, list) else f'"{value}"'


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(_toml(str(text)) for text in texts)}]"
