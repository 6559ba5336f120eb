"""Who may log in at the broker: the manager, the observer, and each agent that speaks MQTT."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from manager.domain.agents.agent import Agent, Door
from manager.provisioning.roles import MANAGER, OBSERVER, organization_role
from schemas.keys import AgentKeys

_MARK_LENGTH = 16
_OURS = "panguard"


@dataclass(frozen=True, slots=True)
class Login:
    """One client of the dynamic-security plugin.

    Attributes:
        username: What it logs in as.
        password: What proves it.
        role: The name of its role.
    """

    username: str
    password: str = field(repr=False)
    role: str

    @property
    def mark(self) -> str:
        """Tells whether the broker has this login, role and all, and no other: it stands in the client's description.

        It is made of 64 bits of a hash of a password of 256 random bits, and gives nothing of it away.
        """
        digest = hashlib.sha256(f"{self.username}\0{self.password}\0{self.role}".encode()).hexdigest()
        return f"{_OURS} {digest[:_MARK_LENGTH]}"


def is_ours(mark: str | None) -> bool:
    """Return whether a client's description says that a manager made it; all others are the operator's own."""
    return mark is not None and mark.startswith(f"{_OURS} ")


def agent_login(agent: Agent) -> Login | None:
    """Return an agent's login; None for one that speaks HTTP and has no business at the broker."""
    if agent.door is not Door.MQTT:
        return None
    role = organization_role(agent.organization_id).name
    return Login(agent.agent_id, AgentKeys.derive(agent.credential.secret).mqtt_password, role)


def manager_login(password: str) -> Login:
    """Return the manager's own login."""
    return Login("manager", password, MANAGER)


def observer_login(username: str, password: str) -> Login:
    """Return the login of those who only watch."""
    return Login(username, password, OBSERVER)


class FleetLogins:
    """What the broker should know, as the registry is at the moment when it is asked.

    Args:
        agents: the registered agents, by id.
        others: logins that are always there.
    """

    def __init__(self, agents: Mapping[str, Agent], others: Mapping[str, Login]) -> None:
        self._agents = agents
        self._others = others

    def find(self, username: str) -> Login | None:
        """Return a login; None if nobody is to have this name."""
        agent = self._agents.get(username)
        return agent_login(agent) if agent is not None else self._others.get(username)

    def organizations(self) -> set[str]:
        """Return the organizations of all agents."""
        return {agent.organization_id for agent in self._agents.values()}

    def usernames(self) -> list[str]:
        """Return the names of all who are to be there."""
        return [*self._others, *(name for name, agent in self._agents.items() if agent.door is Door.MQTT)]
