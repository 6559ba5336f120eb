"""Access lists for Mosquitto, derived from the topic table: roles of the dynamic-security plugin and a static ACL file.

The plugin (before Mosquitto 2.1) has no placeholders, and saves its whole state at every change. So an agent has only
its organization's role. The static file decides on an agent's own topics by `%u`; the broker uses it if the role
neither allows nor denies.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from manager.domain.ingest.topics import OF_THE_LEADER, SHARED_BY_ANY, WORKER_LIFE
from schemas.topics import PREFIX, REGISTRATION, TABLE, Principal, Role, filters, is_cleared

CONTROL = "$CONTROL/dynamic-security/v1"
"""Topic of commands to the plugin."""

RESPONSES = f"{CONTROL}/response"
"""Topic of the plugin's responses."""

ALL_REGISTRATIONS = f"{PREFIX}registration/#"
"""Topics of registering clients, which the static file opens by client id; agents choose client ids, too."""

MANAGER = "panguard-manager"
OBSERVER = "panguard-observer"
REGISTERING = "panguard-registration"

_OURS = "panguard-"
_ORGANIZATION = "panguard-organization-"
_BEFORE, _AFTER = 10, -1
"""Priorities of denials: evaluated before all allowing entries, or after them."""

AclType = Literal["publishClientSend", "publishClientReceive", "subscribeLiteral", "subscribePattern"]


class Acl(NamedTuple):
    """One entry of a role: allows or denies a kind of access to a topic or filter."""

    type: AclType
    topic: str
    allow: bool = True
    priority: int = 0


class AccessRole(NamedTuple):
    """A role: its name and its entries."""

    name: str
    acls: frozenset[Acl]


def organization_role(organization_id: str) -> AccessRole:
    """Return the role of an organization's agents: shared topics, and the topics of the organization.

    It allows subscriptions to any agent's topics by name, because no role can tell them from the agent's own, and none
    by wildcard; the static file lets the broker deliver only messages on the agent's own topics.

    Raises:
        TopicError: the organization id is invalid.
    """
    acls = {Acl("publishClientSend", ALL_REGISTRATIONS, allow=False)}
    acls |= {Acl("publishClientReceive", ALL_REGISTRATIONS, allow=False)}
    acls |= {Acl("subscribePattern", kind, allow=False, priority=_AFTER) for kind in ("#", "$SYS/#", "$CONTROL/#")}
    acls |= {Acl("subscribeLiteral", topic_filter) for topic_filter in filters(Principal(Role.AGENT, {}))}
    for row in TABLE:
        if Role.AGENT not in row.readers:
            continue
        if row.placeholder == "agentId":
            acls.add(Acl("subscribePattern", row.filter))
            acls.add(Acl("subscribeLiteral", row.filter, allow=False))
            continue
        topic = row.address(organization_id if row.placeholder == "organizationId" else None)
        acls |= {Acl("subscribeLiteral", topic), Acl("publishClientReceive", topic)}
    return AccessRole(_ORGANIZATION + organization_id, frozenset(acls))


def is_of_agents(name: str) -> bool:
    """Return whether a role was made by `organization_role`."""
    return name.startswith(_ORGANIZATION)


def is_ours(name: str) -> bool:
    """Return whether a role's name has the prefix that managers use."""
    return name.startswith(_OURS)


def shared_roles() -> Iterator[AccessRole]:
    """Yield the roles of the manager, of observers and of registering clients; the first two deny everything else.

    The plugin leaves access that no entry names to the static ACL file, which grants every subscription.
    """
    yield AccessRole(MANAGER, frozenset((*_of_the_manager(), *_all_else())))
    yield AccessRole(OBSERVER, frozenset((*_of_observers(), *_all_else())))
    yield AccessRole(REGISTERING, frozenset(_of_registering_clients()))


def _of_the_manager() -> Iterator[Acl]:
    """Yield the manager's entries: its topics, clearing of retained messages of others, the plugin's commands."""
    for row in TABLE:
        if row.publisher is Role.MANAGER or is_cleared(row):
            yield Acl("publishClientSend", row.filter)
        if Role.MANAGER in row.readers:
            yield Acl("publishClientReceive", row.filter)
    for topic_filter in filters(Principal(Role.MANAGER, {})):
        yield Acl("subscribeLiteral", topic_filter)
    kinds: tuple[AclType, ...] = ("publishClientSend", "publishClientReceive", "subscribeLiteral")
    for kind in kinds:
        yield Acl(kind, ALL_REGISTRATIONS)  # to clear messages that clients left there, at any depth
    for topic_filter, _ in OF_THE_LEADER:
        yield Acl("subscribeLiteral", topic_filter)
    for topic_filter in SHARED_BY_ANY:
        yield Acl("subscribePattern", topic_filter)
    for kind in ("publishClientSend", "publishClientReceive"):
        yield Acl(kind, WORKER_LIFE.filter)
    yield Acl("publishClientSend", CONTROL)
    yield Acl("publishClientReceive", RESPONSES)
    yield Acl("subscribeLiteral", RESPONSES)


def _of_observers() -> Iterator[Acl]:
    """Yield the observers' entries: they read everything below the root except registrations."""
    kinds: tuple[AclType, AclType] = ("subscribePattern", "publishClientReceive")
    for kind in kinds:
        yield Acl(kind, f"{PREFIX}#")
        yield Acl(kind, f"{PREFIX}registration/#", allow=False, priority=_BEFORE)


def _of_registering_clients() -> Iterator[Acl]:
    """Yield the entries of registering clients, whose own topics the static file opens by client id.

    A client id may contain slashes, which `%c` inserts into the topic, so topics deeper than a registration are denied.
    """
    yield Acl("publishClientSend", f"{REGISTRATION.filter}/+/#", allow=False, priority=_BEFORE)
    for row in TABLE:
        if Role.REGISTERING in row.readers:
            yield Acl("subscribePattern", row.filter)
    yield from (Acl("subscribeLiteral", each) for each in filters(Principal(Role.REGISTERING, {})))
    for kind in ("#", "$SYS/#", "$CONTROL/#"):
        yield Acl("subscribePattern", kind, allow=False, priority=_AFTER)


def _all_else() -> Iterator[Acl]:
    kinds: tuple[AclType, ...] = ("publishClientSend", "publishClientReceive", "subscribePattern")
    for kind in kinds:
        for topic_filter in ("#", "$SYS/#", "$CONTROL/#"):
            yield Acl(kind, topic_filter, allow=False, priority=_AFTER)


def static_acl_file() -> str:
    """Return the ACL file: access of registering clients by client id, and of agents to their own topics.

    Its patterns apply to every client for which the plugin's roles decide nothing; the plugin has no registering
    clients.
    """
    lines = [
        "# Made from the topic table. A registering client is identified by its client id, and is no agent.",
        f"user {Role.REGISTERING}",
        f"topic deny {PREFIX}agents/#",
        *(f"topic read {row.address()}" for row in TABLE if Role.REGISTERING in row.readers and not row.placeholder),
        "",
    ]
    for holder, kind, substitute in ((Role.AGENT, "agentId", "%u"), (Role.REGISTERING, "clientId", "%c")):
        for row in TABLE:
            if row.placeholder != kind:
                continue
            reads, writes = holder in row.readers, row.publisher is holder
            if reads or writes:
                access = "readwrite" if reads and writes else "read" if reads else "write"
                lines.append(f"pattern {access} {row.filter.replace('+', substitute)}")
    return "\n".join(lines) + "\n"
