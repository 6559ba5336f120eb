"""What the broker lacks, has too much, or has wrong, against what the fleet wants: a rule without I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from manager.provisioning import commands, roles
from manager.provisioning.commands import Command
from manager.provisioning.logins import FleetLogins, is_ours
from manager.provisioning.roles import (
    MANAGER,
    AccessRole,
    Acl,
    is_of_agents,
    organization_role,
    shared_roles,
)


@dataclass(slots=True)
class Found:
    """What the plugin listed: each client's mark and roles, and each role's entries."""

    clients: dict[str, tuple[str | None, frozenset[str]]] = field(default_factory=dict)
    roles: dict[str, frozenset[Acl]] = field(default_factory=dict)

    def take_clients(self, listed: list[Mapping[str, Any]]) -> None:
        """Take a page of clients. One that is disabled counts as wrong: no suspension outlasts a connection."""
        for client in listed:
            said = client.get("textdescription")
            mark = said if isinstance(said, str) and not client.get("disabled") else None
            names = frozenset(str(role["rolename"]) for role in client.get("roles", ()))
            self.clients[str(client["username"])] = (mark, names)

    def take_roles(self, listed: list[Mapping[str, Any]]) -> None:
        """Take a page of roles."""
        for role in listed:
            self.roles[str(role["rolename"])] = commands.acls_of(role.get("acls", ()))


def differences(found: Found, wanted: FleetLogins) -> Iterator[list[Command]]:
    """Yield what makes the broker agree with the fleet, in steps that belong together.

    `wanted` is asked when a step is taken, not before: the fleet goes on while it is carried out. Roles come before
    who has them. What is too much goes only where a manager made it; what an operator added is left alone, and so is
    the manager's own login, by which it is speaking.
    """
    for role in _wanted_roles(wanted):
        step = _role(found, role)
        if step:
            yield step
    for username in wanted.usernames():
        step = _login(found, wanted, username)
        if step:
            yield step
    yield from _surplus(found, wanted)


def _wanted_roles(wanted: FleetLogins) -> list[AccessRole]:
    return [*shared_roles(), *map(organization_role, sorted(wanted.organizations()))]


def _login(found: Found, wanted: FleetLogins, username: str) -> list[Command]:
    """Return what gives somebody the login that is wanted now."""
    login = wanted.find(username)
    if login is None:
        return []
    known = found.clients.get(username)
    if known is None:
        return [commands.create_client(login)]
    return [] if known == (login.mark, frozenset({login.role})) else commands.replace_client(login)


def _surplus(found: Found, wanted: FleetLogins) -> Iterator[list[Command]]:
    for username, (mark, names) in found.clients.items():
        ours = is_ours(mark) or any(map(is_of_agents, names))
        if ours and MANAGER not in names and wanted.find(username) is None:
            yield [commands.delete_client(username)]
    for name in found.roles:
        if roles.is_ours(name) and name not in {role.name for role in _wanted_roles(wanted)}:
            yield [commands.delete_role(name)]


def _role(found: Found, role: AccessRole) -> list[Command]:
    acls = found.roles.get(role.name)
    if acls is None:
        return [commands.create_role(role)]
    return [] if acls == role.acls else [commands.modify_role(role)]
