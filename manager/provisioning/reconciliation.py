"""Reconciliation: the plugin commands that synchronize a broker's logins and roles with the fleet. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from manager.provisioning import plugin_commands as commands
from manager.provisioning import roles
from manager.provisioning.logins import FleetLogins, is_ours
from manager.provisioning.plugin_commands import Command
from manager.provisioning.roles import (
    MANAGER,
    AccessRole,
    Acl,
    is_of_agents,
    organization_role,
    shared_roles,
)


@dataclass(slots=True)
class PluginState:
    """The clients and roles that the plugin listed: each client's description and roles, and each role's entries."""

    clients: dict[str, tuple[str | None, frozenset[str]]] = field(default_factory=dict)
    roles: dict[str, frozenset[Acl]] = field(default_factory=dict)

    def add_clients(self, listed: list[Mapping[str, Any]]) -> None:
        """Add a page of clients; a disabled client is treated as outdated, so no suspension outlasts a connection."""
        for client in listed:
            text = client.get("textdescription")
            description = text if isinstance(text, str) and not client.get("disabled") else None
            names = frozenset(str(role["rolename"]) for role in client.get("roles", ()))
            self.clients[str(client["username"])] = (description, names)

    def add_roles(self, listed: list[Mapping[str, Any]]) -> None:
        """Add a page of roles."""
        for role in listed:
            self.roles[str(role["rolename"])] = commands.acls_of(role.get("acls", ()))


def reconcile(found: PluginState, wanted: FleetLogins) -> Iterator[list[Command]]:
    """Yield the commands that synchronize the broker with the fleet, grouped in steps.

    `wanted` is read for each step, because the fleet changes during earlier steps. Roles come before the clients that
    have them. Surplus logins and roles are deleted only if a manager created them; an operator's own are left
    alone, and so is the manager's login.
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


def _login(found: PluginState, wanted: FleetLogins, username: str) -> list[Command]:
    """Return the commands that set a user's current wanted login."""
    login = wanted.find(username)
    if login is None:
        return []
    known = found.clients.get(username)
    if known is None:
        return [commands.create_client(login)]
    return [] if known == (login.description, frozenset({login.role})) else commands.replace_client(login)


def _surplus(found: PluginState, wanted: FleetLogins) -> Iterator[list[Command]]:
    for username, (description, names) in found.clients.items():
        ours = is_ours(description) or any(map(is_of_agents, names))
        if ours and MANAGER not in names and wanted.find(username) is None:
            yield [commands.delete_client(username)]
    for name in found.roles:
        if roles.is_ours(name) and name not in {role.name for role in _wanted_roles(wanted)}:
            yield [commands.delete_role(name)]


def _role(found: PluginState, role: AccessRole) -> list[Command]:
    acls = found.roles.get(role.name)
    if acls is None:
        return [commands.create_role(role)]
    return [] if acls == role.acls else [commands.modify_role(role)]
