"""What each principal may do at a broker: roles of the dynamic-security plugin and a static ACL file, from the table.

The plugin (before Mosquitto 2.1) has no placeholders, and saves all it knows at every change. So an agent has no role
of its own, only that of its organization; which of the agents' topics are its own the static file says, where `%u` is
known, and is asked by the broker where the role neither allows nor denies.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from schemas.topics import PREFIX, TABLE, Principal, Role, filters, is_cleared

CONTROL = "$CONTROL/dynamic-security/v1"
"""Where commands to the plugin are published."""

RESPONSES = f"{CONTROL}/response"
"""Where the plugin answers."""

NOT_FOR_AGENTS = f"{PREFIX}registration/#"
"""What the static file opens to clients that register, by their client ids; agents choose client ids too."""

MANAGER = "panguard-manager"
OBSERVER = "panguard-observer"

_OURS = "panguard-"
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


def organization_role(organization_id: str) -> AccessRole:
    """Return the role of an organization's agents: what they share, and the topics of the organization.

    It lets an agent subscribe to other agents' topics by name, which no role could tell from its own, and never by
    wildcard; the static file has the broker deliver what is its own, and nothing else.

    Raises:
        TopicError: the id is none.
    """
    acls = {Acl("publishClientSend", NOT_FOR_AGENTS, allow=False)}
    acls |= {Acl("publishClientReceive", NOT_FOR_AGENTS, allow=False)}
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
    """Return whether a role is that of an organization's agents."""
    return name.startswith(_ORGANIZATION)


def is_ours(name: str) -> bool:
    """Return whether a role's name is one that only a manager gives."""
    return name.startswith(_OURS)


def shared_roles() -> Iterator[AccessRole]:
    """Yield the roles that there is one of: of the manager and of observers; each ends with denying all else.

    What no entry names the plugin leaves to the static ACL file, and that grants every subscription.
    """
    yield AccessRole(MANAGER, frozenset((*_of_the_manager(), *_all_else())))
    yield AccessRole(OBSERVER, frozenset((*_of_observers(), *_all_else())))


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
    """Return the ACL file: what clients that register may do, by client id, and what agents may with their own topics.

    Its patterns hold for everybody whom the plugin's roles leave to it; the plugin does not know clients that register.
    """
    lines = [
        "# Made from the topic table. A client that registers is known by its client id, and is no agent.",
        f"user {Role.REGISTERING}",
        f"topic deny {PREFIX}agents/#",
        *(f"topic read {row.address()}" for row in TABLE if Role.REGISTERING in row.readers and not row.placeholder),
        "",
    ]
    for holder, kind, word in ((Role.AGENT, "agentId", "%u"), (Role.REGISTERING, "clientId", "%c")):
        for row in TABLE:
            if row.placeholder != kind:
                continue
            reads, writes = holder in row.readers, row.publisher is holder
            if reads or writes:
                access = "readwrite" if reads and writes else "read" if reads else "write"
                lines.append(f"pattern {access} {row.filter.replace('+', word)}")
    return "\n".join(lines) + "\n"
