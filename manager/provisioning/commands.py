"""The dynamic-security plugin's commands, and what of its answers is no failure."""

from collections.abc import Iterable, Mapping
from typing import Any

from manager.provisioning.logins import Login
from manager.provisioning.roles import AccessRole, Acl

Command = dict[str, Any]

DENIED_BY_DEFAULT = ("publishClientSend", "publishClientReceive", "subscribe")
"""The kinds of access that nobody has but by a role; whoever is in may unsubscribe."""

_HARMLESS = {"create": "already exists", "delete": "not found"}


def default_access() -> Command:
    """Return what denies everybody what no role allows."""
    acls = [{"acltype": kind, "allow": False} for kind in DENIED_BY_DEFAULT]
    return {"command": "setDefaultACLAccess", "acls": [*acls, {"acltype": "unsubscribe", "allow": True}]}


def create_role(role: AccessRole) -> Command:
    """Return what makes a role."""
    return {"command": "createRole", "rolename": role.name, "acls": acl_list(role)}


def modify_role(role: AccessRole) -> Command:
    """Return what gives a role these entries and no others."""
    return {"command": "modifyRole", "rolename": role.name, "acls": acl_list(role)}


def delete_role(name: str) -> Command:
    """Return what takes a role away from everybody."""
    return {"command": "deleteRole", "rolename": name}


def create_client(login: Login) -> Command:
    """Return what lets somebody in."""
    return {
        "command": "createClient",
        "username": login.username,
        "password": login.password,
        "textdescription": login.mark,
        "roles": role_list(login),
    }


def delete_client(username: str) -> Command:
    """Return what keeps somebody out, and ends the connections of that name at once."""
    return {"command": "deleteClient", "username": username}


def disable_client(username: str) -> Command:
    """Return what keeps somebody out until it is enabled, and ends the connections of that name at once."""
    return {"command": "disableClient", "username": username}


def enable_client(username: str) -> Command:
    """Return what lets somebody in again."""
    return {"command": "enableClient", "username": username}


def replace_client(login: Login) -> list[Command]:
    """Return what lets somebody in under a new password and ends the connections that the old one opened."""
    return [delete_client(login.username), create_client(login)]


def list_page(kind: str, offset: int, count: int) -> Command:
    """Return what asks for a part of all clients or roles.

    Args:
        kind: `listClients` or `listRoles`.
        offset: how many come before it.
        count: how many it has at most.
    """
    return {"command": kind, "verbose": True, "offset": offset, "count": count}


def is_failure(response: Mapping[str, Any]) -> bool:
    """Return whether something is not as it was commanded; what is there or gone already is as it should be."""
    error = str(response.get("error", "")).lower()
    harmless = _HARMLESS.get(str(response.get("command", ""))[:6])
    return bool(error) and (harmless is None or harmless not in error)


def role_list(login: Login) -> list[dict[str, Any]]:
    """Return a login's role as the plugin has it: a list of one."""
    return [{"rolename": login.role}]


def acl_list(role: AccessRole) -> list[dict[str, Any]]:
    """Return a role's entries as the plugin has them, in an order of their own."""
    return [
        {"acltype": acl.type, "topic": acl.topic, "priority": acl.priority, "allow": acl.allow}
        for acl in sorted(role.acls)
    ]


def acls_of(entries: Iterable[Mapping[str, Any]]) -> frozenset[Acl]:
    """Return a role's entries as the plugin listed them."""
    return frozenset(
        Acl(entry.get("acltype", ""), entry.get("topic", ""), bool(entry.get("allow")), int(entry.get("priority", 0)))
        for entry in entries
    )
