"""Commands of the dynamic-security plugin, and the errors in its responses that count as success."""

from collections.abc import Iterable, Mapping
from typing import Any

from manager.provisioning.logins import Login
from manager.provisioning.roles import AccessRole, Acl

Command = dict[str, Any]

DENIED_BY_DEFAULT = ("publishClientSend", "publishClientReceive", "subscribe")
"""Kinds of access that only a role grants; every client may unsubscribe."""

_HARMLESS = {"create": "already exists", "delete": "not found"}


def default_access() -> Command:
    """Return the command that denies everything that no role allows."""
    acls = [{"acltype": kind, "allow": False} for kind in DENIED_BY_DEFAULT]
    return {"command": "setDefaultACLAccess", "acls": [*acls, {"acltype": "unsubscribe", "allow": True}]}


def create_role(role: AccessRole) -> Command:
    """Return the command that creates a role."""
    return {"command": "createRole", "rolename": role.name, "acls": acl_list(role)}


def modify_role(role: AccessRole) -> Command:
    """Return the command that replaces a role's entries."""
    return {"command": "modifyRole", "rolename": role.name, "acls": acl_list(role)}


def delete_role(name: str) -> Command:
    """Return the command that deletes a role."""
    return {"command": "deleteRole", "rolename": name}


def create_client(login: Login) -> Command:
    """Return the command that creates a login."""
    return {
        "command": "createClient",
        "username": login.username,
        "password": login.password,
        "textdescription": login.description,
        "roles": role_list(login),
    }


def delete_client(username: str) -> Command:
    """Return the command that deletes a login; its connections end at once."""
    return {"command": "deleteClient", "username": username}


def disable_client(username: str) -> Command:
    """Return the command that disables a login; its connections end at once."""
    return {"command": "disableClient", "username": username}


def enable_client(username: str) -> Command:
    """Return the command that enables a disabled login."""
    return {"command": "enableClient", "username": username}


def replace_client(login: Login) -> list[Command]:
    """Return the commands that replace a login's password; connections made with the old password end."""
    return [delete_client(login.username), create_client(login)]


def list_page(kind: str, offset: int, count: int) -> Command:
    """Return the command that lists one page of clients or roles.

    Args:
        kind: `listClients` or `listRoles`.
        offset: entries before the page.
        count: entries in the page at most.
    """
    return {"command": kind, "verbose": True, "offset": offset, "count": count}


def is_failure(response: Mapping[str, Any]) -> bool:
    """Return whether a command failed; creating an existing object and deleting a missing one count as success."""
    error = str(response.get("error", "")).lower()
    harmless = _HARMLESS.get(str(response.get("command", ""))[:6])
    return bool(error) and (harmless is None or harmless not in error)


def role_list(login: Login) -> list[dict[str, Any]]:
    """Return a login's role in the plugin's format: a list of one."""
    return [{"rolename": login.role}]


def acl_list(role: AccessRole) -> list[dict[str, Any]]:
    """Return a role's entries in the plugin's format, sorted."""
    return [
        {"acltype": acl.type, "topic": acl.topic, "priority": acl.priority, "allow": acl.allow}
        for acl in sorted(role.acls)
    ]


def acls_of(entries: Iterable[Mapping[str, Any]]) -> frozenset[Acl]:
    """Parse a role's entries from the plugin's format."""
    return frozenset(
        Acl(entry.get("acltype", ""), entry.get("topic", ""), bool(entry.get("allow")), int(entry.get("priority", 0)))
        for entry in entries
    )
