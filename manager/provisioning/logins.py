"""Logins at the broker: the manager, the observer, and each agent that uses MQTT."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from manager.domain.agents.agent import Agent, Door
from manager.provisioning.roles import MANAGER, OBSERVER, REGISTERING, organization_role
from schemas.keys import AgentKeys
from schemas.topics import Role

_DIGEST_LENGTH = 16
_OURS = "panguard"


@dataclass(frozen=True, slots=True)
class Login:
    """One client of the dynamic-security plugin.

    Attributes:
        username: The login's name.
        password: The login's password.
        role: The name of its role.
    """

    username: str
    password: str = field(repr=False)
    role: str

    @property
    def description(self) -> str:
        """The client's text description: a digest by which the manager recognizes this password and role at the broker.

        It consists of 64 bits of a hash over a password of 256 random bits, so it reveals nothing about the password.
        """
        digest = hashlib.sha256(f"{self.username}\0{self.password}\0{self.role}".encode()).hexdigest()
        return f"{_OURS} {digest[:_DIGEST_LENGTH]}"


def is_ours(description: str | None) -> bool:
    """Return whether a manager created a client, by its description; all other clients are the operator's."""
    return description is not None and description.startswith(f"{_OURS} ")


def agent_login(agent: Agent) -> Login | None:
    """Return an agent's login; None for an HTTP agent, which has none at the broker."""
    if agent.door is not Door.MQTT:
        return None
    role = organization_role(agent.organization_id).name
    return Login(agent.agent_id, AgentKeys.derive(agent.credential.secret).mqtt_password, role)


def manager_login(password: str) -> Login:
    """Return the manager's own login."""
    return Login("manager", password, MANAGER)


def observer_login(username: str, password: str) -> Login:
    """Return the login of observers, who only read."""
    return Login(username, password, OBSERVER)


def registration_login() -> Login:
    """Return the login of registering clients, whose password is public."""
    return Login(str(Role.REGISTERING), str(Role.REGISTERING), REGISTERING)


class FleetLogins:
    """The logins that the broker should have, computed from the registry at each call.

    Args:
        agents: the registered agents, by id.
        others: fixed logins.
    """

    def __init__(self, agents: Mapping[str, Agent], others: Mapping[str, Login]) -> None:
        self._agents = agents
        self._others = others

    def find(self, username: str) -> Login | None:
        """Return the login of a username; None if it should have none."""
        agent = self._agents.get(username)
        return agent_login(agent) if agent is not None else self._others.get(username)

    def organizations(self) -> set[str]:
        """Return the organizations of all agents."""
        return {agent.organization_id for agent in self._agents.values()}

    def usernames(self) -> list[str]:
        """Return the names of all logins."""
        return [*self._others, *(name for name, agent in self._agents.items() if agent.door is Door.MQTT)]
