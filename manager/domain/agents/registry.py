"""Registry: one agent for each hostname and organization (lifecycle page, phase 1).

Hostnames are compared without regard to case, Unicode form and a trailing dot; the first spelling is kept.
"""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from msgspec import structs

from manager.domain.agents.agent import Agent, Credential, Door, RegistrationStamp, State
from manager.domain.agents.agents_by_token import AgentsByToken
from manager.domain.agents.host import Host
from manager.domain.instant import Instant
from schemas.identifiers import hostname_key


class Takeover(StrEnum):
    """The rule for a registration that cannot prove the old credential of its host."""

    ALLOW = "allow"
    WHEN_OFFLINE = "when-offline"
    PROOF = "proof"


_AHEAD = 300.0

RefusalCode = Literal["outdated", "conflict"]


@dataclass(frozen=True, slots=True)
class RegistrationRequest:
    """A registration for the registry's decision; its token or proof was verified before.

    `sent_at` (the agent's time) and `digest` (of the payload's bytes) are None where the door has no such thing.
    `token_created_at` is in seconds since 1970.
    """

    host: Host
    organization_id: str
    credential: Credential
    token_id: str | None
    door: Door
    sent_at: float | None = None
    digest: bytes | None = None
    token_created_at: float | None = None


@dataclass(frozen=True, slots=True)
class RemovedAgent:
    """The stamp of a removed agent's newest registration, and the time of the removal.

    A broker may store registrations and deliver them again; the stamp keeps them from restoring a removed agent.
    """

    sent_at: float
    digest: bytes
    removed_at: float

    def forbids(self, request: RegistrationRequest) -> bool:
        """Return whether a request is the removed agent's newest registration, or an older one.

        A host's clock may be set back, so a token that was made after the removal lets it in.
        """
        if request.sent_at is None or (request.token_created_at or 0.0) > self.removed_at:
            return False
        return request.digest == self.digest or request.sent_at < self.sent_at


@dataclass(frozen=True, slots=True)
class AcceptedRegistration:
    """The request was accepted: a new agent, or a reconnection of a known one.

    `replaced` is true where its credential or its door changed: connections under the old one must end.
    """

    agent: Agent
    is_new: bool
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class RepeatedRegistration:
    """The newest registration arrived again, byte for byte: same reply, nothing changes."""

    agent: Agent
    stamp: RegistrationStamp


@dataclass(frozen=True, slots=True)
class RefusedRegistration:
    """The request was refused; `reason` tells the operator what to do."""

    error: RefusalCode
    reason: str


_BLOCK = 256


class _Numbered:
    """Agents by number, in blocks of consecutive numbers: a sixth of the memory of a dict by number."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[Agent | None]] = {}

    def __setitem__(self, number: int, agent: Agent) -> None:
        block = self._blocks.setdefault(number // _BLOCK, [None] * _BLOCK)
        block[number % _BLOCK] = agent

    def __delitem__(self, number: int) -> None:
        block = self._blocks[number // _BLOCK]
        block[number % _BLOCK] = None
        if not any(block):
            del self._blocks[number // _BLOCK]

    def get(self, number: int) -> Agent | None:
        block = self._blocks.get(number // _BLOCK)
        return None if block is None else block[number % _BLOCK]


class Registry:
    """All agents, indexed by id, by organization and hostname, and by HTTP token."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self._by_name: dict[str, dict[str, Agent]] = {}
        """Agents by organization, and in it by hostname."""
        self._moved: dict[tuple[str, str], Agent] = {}
        """Agents that an operator moved, by the organization and hostname that their registrations name."""
        self._namesakes: dict[tuple[str, str], list[Agent]] = {}
        """Further agents of one hostname in other spellings, from stores of earlier releases."""
        self._removed: dict[tuple[str, str], RemovedAgent] = {}
        self._by_token = AgentsByToken()
        self._by_number = _Numbered()
        self._highest_number = 0

    def __len__(self) -> int:
        """Return the number of registered agents."""
        return len(self.agents)

    def load(self, agent: Agent) -> None:
        """Add an agent from the store."""
        self.agents[agent.agent_id] = agent
        if self._names(agent).setdefault(hostname_key(agent.hostname), agent) is not agent:
            self._namesakes.setdefault(_name(agent), []).append(agent)
        if agent.registered_in is not None:
            self._moved[agent.registered_in, hostname_key(agent.hostname)] = agent
        self._by_token.add(agent)
        self._by_number[agent.number] = agent
        self._highest_number = max(self._highest_number, agent.number)

    def adopt(self, built: "Registry") -> None:
        """Take over everything of a registry that was built from the store; this one has nothing yet."""
        vars(self).update(vars(built))

    def put_back(self, agent: Agent) -> None:
        """Add an agent again whose removal the store rejected; its old registrations are not refused."""
        self._removed.pop((agent.registered_in or agent.organization_id, hostname_key(agent.hostname)), None)
        self.load(agent)

    def reserve_numbers(self, number: int) -> None:
        """Reserve all numbers up to this one, because removed agents keep their numbers."""
        self._highest_number = max(self._highest_number, number)

    def find(self, agent_id: str) -> Agent | None:
        """Return the agent with this id."""
        return self.agents.get(agent_id)

    def find_by_number(self, number: int) -> Agent | None:
        """Return the agent with this number; None for a removed one."""
        return self._by_number.get(number)

    def find_by_hostname(self, organization_id: str, hostname: str) -> Agent | None:
        """Return the agent of this hostname, in any spelling, in this organization or moved from it."""
        key = organization_id, hostname_key(hostname)
        exact = (agent for agent in self._namesakes.get(key, ()) if agent.hostname == hostname)
        return next(exact, None) or self._by_name.get(key[0], {}).get(key[1]) or self._moved.get(key)

    def move(self, agent: Agent, organization_id: str) -> bool:
        """Move an agent to another organization; return whether it did: the hostname must be free there.

        Registrations that name its former organization go on to find it.
        """
        there = self.find_by_hostname(organization_id, agent.hostname)
        if there is not None and there is not agent:
            return False
        self._drop_name(agent)
        agent.registered_in = agent.registered_in or agent.organization_id
        agent.organization_id = organization_id
        self._names(agent)[hostname_key(agent.hostname)] = agent
        self._moved[agent.registered_in, hostname_key(agent.hostname)] = agent
        return True

    def move_back(self, agent: Agent, organization_id: str, registered_in: str | None) -> None:
        """Take a move back, because the store rejected it."""
        self._drop_name(agent)
        agent.organization_id, agent.registered_in = organization_id, registered_in
        self._names(agent).setdefault(hostname_key(agent.hostname), agent)
        if registered_in is not None:
            self._moved[registered_in, hostname_key(agent.hostname)] = agent

    def spellings(self, hostname: str) -> list[str]:
        """Return the spellings of a hostname in all organizations; safe from any thread."""
        wanted = hostname_key(hostname)
        in_each = [agents.get(wanted) for agents in list(self._by_name.values())]
        found = [agent.hostname for agent in in_each if agent is not None]
        found += [agent.hostname for agents in list(self._namesakes.values()) for agent in list(agents)]
        return sorted({each for each in found if hostname_key(each) == wanted})

    def beginning_with(self, labels: str) -> list[str]:
        """Return the hostnames that have these first labels and further ones; safe from any thread."""
        wanted = f"{hostname_key(labels)}."
        hostnames = [agent.hostname for agent in list(self.agents.values())]
        return sorted({each for each in hostnames if hostname_key(each).startswith(wanted)})

    def find_by_http_digest(self, http_digest: bytes) -> Agent | None:
        """Return the agent whose HTTP token has this SHA-256."""
        return self._by_token.find(http_digest)

    def of_organization(self, organization_id: str) -> Iterator[Agent]:
        """Yield the agents of one organization."""
        return (agent for agent in self.agents.values() if agent.organization_id == organization_id)

    def register(
        self, request: RegistrationRequest, takeover: Takeover, new_id: str, now: Instant
    ) -> AcceptedRegistration | RepeatedRegistration | RefusedRegistration:
        """Accept or refuse a registration, and update the registry.

        Args:
            request: the verified registration.
            takeover: rule for a living instance whose old credential is not proved.
            new_id: id for a new agent.
            now: the time.
        """
        known = self.find_by_hostname(request.organization_id, request.host.hostname)
        if known is None:
            removed = self._removed.get((request.organization_id, hostname_key(request.host.hostname)))
            if removed is not None and removed.forbids(request):
                return RefusedRegistration(
                    "outdated",
                    "this host was removed since it sent this; if its clock was set back, give it a new token",
                )
            return AcceptedRegistration(self._create(request, new_id, now), is_new=True)
        verdict = self._judge(known, request, takeover)
        if verdict is not None:
            return verdict
        replaced = known.credential.secret != request.credential.secret or known.door is not request.door
        self._by_token.discard(known)
        known.host = _host_of_known(known, request.host)
        known.credential = request.credential
        known.token_id = request.token_id
        known.door = request.door
        self._by_token.add(known)
        return AcceptedRegistration(known, is_new=False, replaced=replaced)

    def stamp(self, agent: Agent, request: RegistrationRequest, reply: bytes, now: float) -> None:
        """Record the agent's newest registration and the reply to it."""
        if request.sent_at is not None and request.digest is not None:
            agent.stamp = RegistrationStamp(cap_stamp(request.sent_at, now), request.digest, reply)

    def record_removed(self, organization_id: str, hostname: str, removed: RemovedAgent) -> None:
        """Record the stamp of a removed agent; the last one of a hostname counts."""
        sent_at = cap_stamp(removed.sent_at, removed.removed_at)
        key = organization_id, hostname_key(hostname)
        self._removed.pop(key, None)
        self._removed[key] = replace(removed, sent_at=sent_at)

    def forget_removed(self, before: float) -> None:
        """Drop the stamps of agents that were removed before a time; they are kept in the order of their removal."""
        while self._removed and next(iter(self._removed.values())).removed_at < before:
            del self._removed[next(iter(self._removed))]

    def remove(self, agent: Agent, now: float) -> None:
        """Remove an agent; only the stamp that blocks its old registrations is kept."""
        if agent.stamp is not None:
            removed = RemovedAgent(agent.stamp.sent_at, agent.stamp.digest, now)
            self.record_removed(agent.registered_in or agent.organization_id, agent.hostname, removed)
        del self.agents[agent.agent_id]
        self._drop_name(agent)
        self._by_token.discard(agent)
        del self._by_number[agent.number]

    def _names(self, agent: Agent) -> dict[str, Agent]:
        """Return the agents of an agent's organization by hostname."""
        return self._by_name.setdefault(agent.organization_id, {})

    def _drop_name(self, agent: Agent) -> None:
        if agent.registered_in is not None:
            self._moved.pop((agent.registered_in, hostname_key(agent.hostname)), None)
        name, names = _name(agent), self._names(agent)
        namesakes = self._namesakes.get(name, [])
        if names[name[1]] is not agent:
            namesakes.remove(agent)
        elif namesakes:
            names[name[1]] = namesakes.pop(0)
        else:
            del names[name[1]]
        if not namesakes:
            self._namesakes.pop(name, None)

    @staticmethod
    def _judge(
        known: Agent, request: RegistrationRequest, takeover: Takeover
    ) -> RepeatedRegistration | RefusedRegistration | None:
        stamp = known.stamp
        if stamp is not None and request.sent_at is not None:
            if request.digest == stamp.digest:
                return RepeatedRegistration(known, stamp)
            if request.sent_at < stamp.sent_at:
                return RefusedRegistration(
                    "outdated",
                    "a newer registration of this host is known; if its clock was set back, remove the agent",
                )
        proved = hmac.compare_digest(known.credential.secret, request.credential.secret)
        if proved or takeover is Takeover.ALLOW:
            return None
        if takeover is Takeover.PROOF:
            return RefusedRegistration(
                "conflict",
                "another agent of this hostname is registered with its own credential: remove it first, or give this"
                " host another hostname",
            )
        if known.state is State.ONLINE:
            return RefusedRegistration(
                "conflict",
                "another agent of this hostname is online: if it is another machine, give this one another hostname;"
                " else stop it, or wait until it is stale",
            )
        return None

    def _create(self, request: RegistrationRequest, new_id: str, now: Instant) -> Agent:
        self._highest_number += 1
        agent = Agent(
            number=self._highest_number,
            agent_id=new_id,
            organization_id=request.organization_id,
            host=request.host,
            credential=request.credential,
            token_id=request.token_id,
            door=request.door,
            registered_at=now.wall,
            state_since=now.wall,
            heard_monotonic=now.monotonic,
        )
        self.load(agent)
        return agent


def cap_stamp(sent_at: float, received: float) -> float:
    """Return the time of a registration: the agent's, or the time of receipt if the agent's is over 300 s ahead.

    Otherwise a host whose clock was once set years ahead could never register again.
    """
    return received if sent_at - received > _AHEAD else sent_at


def _host_of_known(known: Agent, host: Host) -> Host:
    """Return the host of a known agent after a registration: what an operator set is kept, tags and site never lost."""
    keeps_tags = "tags" in known.operator_set or not host.tags
    tags = known.host.tags if keeps_tags else host.tags
    keeps_site = "site" in known.operator_set or host.site is None
    site = known.host.site if keeps_site else host.site
    return structs.replace(host.changed(tags=tags, site=site), hostname=known.hostname)


def _name(agent: Agent) -> tuple[str, str]:
    return agent.organization_id, hostname_key(agent.hostname)
