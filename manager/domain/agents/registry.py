"""Who belongs to the fleet: one agent for each hostname and organization (lifecycle page, phase 1)."""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from manager.domain.agents.agent import Agent, Credential, Door, Host, RegistrationStamp, State
from manager.domain.instant import Instant


class Takeover(StrEnum):
    """When a registration without proof of the old credential may replace it."""

    ALLOW = "allow"
    WHEN_OFFLINE = "when-offline"
    PROOF = "proof"


RefusalCode = Literal["outdated", "conflict"]


@dataclass(frozen=True, slots=True)
class Application:
    """A registration that was proved to come from a holder of a token, as the registry judges it.

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
class Departure:
    """What outlives a removed agent: its newest registration, and when it was removed.

    A broker may keep registrations and offer them again: none of them brings a removed agent back.
    """

    sent_at: float
    digest: bytes
    removed_at: float

    def forbids(self, application: Application) -> bool:
        """Return whether an application is the newest of the removed agent, or older.

        A clock may be set back, so whoever comes with a token that was made after the removal is let in.
        """
        if application.sent_at is None or (application.token_created_at or 0.0) > self.removed_at:
            return False
        return application.digest == self.digest or application.sent_at < self.sent_at


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The application was taken: a new agent, or a reconnection of one that is known.

    `replaced` says that its credential or its door is another than before: what the old one opened must end.
    """

    agent: Agent
    is_new: bool
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Repeated:
    """The newest registration came once more, byte for byte: same reply, nothing changes."""

    agent: Agent
    stamp: RegistrationStamp


@dataclass(frozen=True, slots=True)
class Refused:
    """The application was turned down."""

    error: RefusalCode
    reason: str


class Registry:
    """All agents, by id and by hostname and organization."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self._by_name: dict[tuple[str, str], Agent] = {}
        self._departures: dict[tuple[str, str], Departure] = {}
        self._by_http_digest: dict[bytes, Agent] = {}
        self.names_by_number: dict[int, tuple[str, str]] = {}
        self._highest_number = 0

    def __len__(self) -> int:
        """Return how many agents are registered."""
        return len(self.agents)

    def load(self, agent: Agent) -> None:
        """Take an agent as the store kept it."""
        self.agents[agent.agent_id] = agent
        self._by_name[agent.organization_id, agent.hostname] = agent
        self._by_http_digest[agent.credential.http_digest] = agent
        self.names_by_number[agent.number] = (agent.agent_id, agent.hostname)
        self._highest_number = max(self._highest_number, agent.number)

    def reserve(self, number: int) -> None:
        """Give no new agent a number up to this one: removed agents keep theirs."""
        self._highest_number = max(self._highest_number, number)

    def find(self, agent_id: str) -> Agent | None:
        """Return the agent with this id."""
        return self.agents.get(agent_id)

    def registered(self, organization_id: str, hostname: str) -> Agent | None:
        """Return the agent of this host in this organization."""
        return self._by_name.get((organization_id, hostname))

    def bearer(self, http_digest: bytes) -> Agent | None:
        """Return the agent whose HTTP token has this SHA-256."""
        return self._by_http_digest.get(http_digest)

    def named(self, machine_id: str) -> list[Agent]:
        """Return the agents that a person may mean: the one with this id, else all with this hostname."""
        agent = self.agents.get(machine_id)
        return [agent] if agent else [agent for agent in self.agents.values() if agent.hostname == machine_id]

    def of_organization(self, organization_id: str) -> Iterator[Agent]:
        """Yield the agents of one organization."""
        return (agent for agent in self.agents.values() if agent.organization_id == organization_id)

    def apply(
        self, application: Application, takeover: Takeover, new_id: str, now: Instant
    ) -> Enrolled | Repeated | Refused:
        """Decide on a registration, and take it in the same step.

        Args:
            application: what was asked.
            takeover: when a living instance may be replaced by one that cannot prove the old credential.
            new_id: the id that a new agent gets.
            now: the moment.
        """
        known = self.registered(application.organization_id, application.host.hostname)
        if known is None:
            departure = self._departures.get((application.organization_id, application.host.hostname))
            if departure is not None and departure.forbids(application):
                return Refused(
                    "outdated",
                    "this host was removed since it sent this; if its clock was set back, give it a new token",
                )
            return Enrolled(self._enter(application, new_id, now), is_new=True)
        verdict = self._judge(known, application, takeover)
        if verdict is not None:
            return verdict
        replaced = known.credential.secret != application.credential.secret or known.door is not application.door
        self._forget_bearer(known)
        known.host = application.host
        known.credential = application.credential
        known.token_id = application.token_id
        known.door = application.door
        self._by_http_digest[known.credential.http_digest] = known
        return Enrolled(known, is_new=False, replaced=replaced)

    def stamp(self, agent: Agent, application: Application, reply: bytes) -> None:
        """Remember the newest registration and its reply."""
        if application.sent_at is not None and application.digest is not None:
            agent.stamp = RegistrationStamp(application.sent_at, application.digest, reply)

    def departed(self, organization_id: str, hostname: str, departure: Departure) -> None:
        """Remember that an agent of this name was removed; of several, the last one counts."""
        self._departures[organization_id, hostname] = departure

    def remove(self, agent: Agent, now: float) -> None:
        """Forget an agent for good, but for what keeps its old registrations out."""
        if agent.stamp is not None:
            departure = Departure(agent.stamp.sent_at, agent.stamp.digest, now)
            self.departed(agent.organization_id, agent.hostname, departure)
        del self.agents[agent.agent_id]
        del self._by_name[agent.organization_id, agent.hostname]
        self._forget_bearer(agent)
        del self.names_by_number[agent.number]

    def _forget_bearer(self, agent: Agent) -> None:
        """Let an agent's HTTP token open nothing. A renamed copy of its disk may have registered with the same one."""
        digest = agent.credential.http_digest
        if self._by_http_digest.get(digest) is agent:
            del self._by_http_digest[digest]

    @staticmethod
    def _judge(known: Agent, application: Application, takeover: Takeover) -> Repeated | Refused | None:
        stamp = known.stamp
        if stamp is not None and application.sent_at is not None:
            if application.digest == stamp.digest:
                return Repeated(known, stamp)
            if application.sent_at < stamp.sent_at:
                return Refused(
                    "outdated",
                    "a newer registration of this host is known; if its clock was set back, remove the agent",
                )
        proved = hmac.compare_digest(known.credential.secret, application.credential.secret)
        if proved or takeover is Takeover.ALLOW:
            return None
        if takeover is Takeover.PROOF:
            return Refused("conflict", "this host is registered with another credential; remove the agent first")
        if known.state is State.ONLINE:
            return Refused("conflict", "an instance of this host is online; stop it, or wait until it is stale")
        return None

    def _enter(self, application: Application, new_id: str, now: Instant) -> Agent:
        self._highest_number += 1
        agent = Agent(
            number=self._highest_number,
            agent_id=new_id,
            organization_id=application.organization_id,
            host=application.host,
            credential=application.credential,
            token_id=application.token_id,
            door=application.door,
            registered_at=now.wall,
            state_since=now.wall,
            heard_monotonic=now.monotonic,
        )
        self.load(agent)
        return agent
