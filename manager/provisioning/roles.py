"""What each principal may do at a broker, as roles of the dynamic-security plugin made from the topic table.

The plugin (before Mosquitto 2.1) has no placeholders, so an agent has a role of its own with its literal topics. What
all agents share stands in one role, what an organization shares in another: each agent's own role stays small, for
Mosquitto writes all of them to disk at every change.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from schemas.topics import PREFIX, TABLE, Principal, Role, Topic, filters, is_cleared

CONTROL = "$CONTROL/dynamic-security/v1"
"""Where commands to the plugin are published."""

RESPONSES = f"{CONTROL}/response"
"""Where the plugin answers."""

MANAGER = "panguard-manager"
OBSERVER = "panguard-observer"
AGENT = "panguard-agent"
"""What every agent has beside its own role."""

_OWN = "panguard-agent-"
_ORGANIZATION = "panguard-organization-"
_BEFORE, _AFTER = 10, -1
"""The priorities of what is denied: asked before what is allowed, or after all of it."""

AclType = Literal["publishClientSend", "publishClientReceive", "subscribeLiteral", "subscribePattern"]


class Acl(NamedTuple):
    """One entry of a role: whether a kind of access to a topic or filter is allowed."""

    type: AclType
    topic: str
    allow: bool = True
    priority: int = 0


class AccessRole(NamedTuple):
    """A role by its name, and its entries; their order says nothing."""

    name: str
    acls: frozenset[Acl]


def own_role(agent_id: str) -> AccessRole:
    """Return the role that one agent alone has: it publishes and subscribes under its own id.

    Raises:
        TopicError: the id is none.
    """
    acls = {Acl("publishClientSend", row.address(agent_id)) for row in _rows("agentId") if row.publisher is Role.AGENT}
    acls |= {Acl("subscribeLiteral", row.address(agent_id)) for row in _rows("agentId") if Role.AGENT in row.readers}
    return AccessRole(own_role_name(agent_id), frozenset(acls))


def own_role_name(agent_id: str) -> str:
    """Return the name of an agent's own role."""
    return _OWN + agent_id


def agent_of_role(name: str) -> str | None:
    """Return whose own role a name is; None if it is none's."""
    return name.removeprefix(_OWN) if name.startswith(_OWN) else None


def organization_role(organization_id: str) -> AccessRole:
    """Return the role of an organization's agents: they read its topics.

    Raises:
        TopicError: the id is none.
    """
    rows = [row for row in _rows("organizationId") if Role.AGENT in row.readers]
    acls = {Acl("subscribeLiteral", row.address(organization_id)) for row in rows}
    acls |= {Acl("publishClientReceive", row.address(organization_id)) for row in rows}
    return AccessRole(_ORGANIZATION + organization_id, frozenset(acls))


def shared_roles() -> Iterator[AccessRole]:
    """Yield the roles that there is one of: of agents, of the manager, of observers; each ends with denying all else.

    What no entry names the plugin leaves to the static ACL file, and that grants every subscription.
    """
    yield AccessRole(AGENT, frozenset((*_of_all_agents(), *_all_else())))
    yield AccessRole(MANAGER, frozenset((*_of_the_manager(), *_all_else())))
    yield AccessRole(OBSERVER, frozenset((*_of_observers(), *_all_else())))


def priority(name: str) -> int:
    """Return a role's place among those of a client: the highest is asked first, so that what is shared denies last."""
    return 1 if name.startswith((_OWN, _ORGANIZATION)) else 0


def _rows(kind: str) -> Iterator[Topic]:
    return (row for row in TABLE if row.placeholder == kind)


def _of_all_agents() -> Iterator[Acl]:
    """What any agent may receive; that it is its own it owes to its subscriptions, which its own role allows."""
    for row in TABLE:
        if Role.AGENT in row.readers and row.placeholder != "organizationId":
            yield Acl("publishClientReceive", row.filter)
    for topic_filter in filters(Principal(Role.AGENT, {})):
        yield Acl("subscribeLiteral", topic_filter)


def _of_the_manager() -> Iterator[Acl]:
    """It publishes what is its own, clears what others left retained, and commands the plugin."""
    for row in TABLE:
        if row.publisher is Role.MANAGER or is_cleared(row):
            yield Acl("publishClientSend", row.filter)
        if Role.MANAGER in row.readers:
            yield Acl("publishClientReceive", row.filter)
    for topic_filter in filters(Principal(Role.MANAGER, {})):
        yield Acl("subscribeLiteral", topic_filter)
    yield Acl("publishClientSend", CONTROL)
    yield Acl("publishClientReceive", RESPONSES)
    yield Acl("subscribeLiteral", RESPONSES)


def _of_observers() -> Iterator[Acl]:
    """They read everything below the root but registrations."""
    kinds: tuple[AclType, AclType] = ("subscribePattern", "publishClientReceive")
    for kind in kinds:
        yield Acl(kind, f"{PREFIX}#")
        yield Acl(kind, f"{PREFIX}registration/#", allow=False, priority=_BEFORE)


def _all_else() -> Iterator[Acl]:
    kinds: tuple[AclType, ...] = ("publishClientSend", "publishClientReceive", "subscribePattern")
    for kind in kinds:
        for topic_filter in ("#", "$SYS/#", "$CONTROL/#"):
            yield Acl(kind, topic_filter, allow=False, priority=_AFTER)


def static_acl_file() -> str:
    """Return the ACL file of the clients that the plugin does not know: those that register, each by its client id."""
    lines = [
        "# Made from the topic table: what a client that registers may do. All others are the plugin's.",
        f"user {Role.REGISTERING}",
    ]
    for row in TABLE:
        access = "write" if row.publisher is Role.REGISTERING else "read" if Role.REGISTERING in row.readers else None
        if access is None:
            continue
        if row.placeholder is None:
            lines.append(f"topic {access} {row.address()}")
        else:
            lines.append(f"pattern {access} {row.filter.replace('+', '%c')}")
    return "\n".join(lines) + "\n"
