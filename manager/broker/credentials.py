"""Who may connect to the embedded broker, and as what; the topic table says what a role may do."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from manager.broker.access import AccessControl, Action, Authenticator
from schemas.identifiers import is_identifier
from schemas.topics import Principal, Role, may


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may connect: SHA-256 of the password, and who that is to the topic table."""

    password_sha256: bytes
    principal: Principal


AgentLookup = Callable[[str], Account | None]
"""Returns an agent's account by its id, as the store has it now; None if there is no such agent."""


class Credentials:
    """Authentication and access control: a few accounts that are always there, and the agents in the store.

    Args:
        accounts: manager, observer and the registering client, by username.
        agent: looks an agent up, at each connect.
    """

    def __init__(self, accounts: Mapping[str, Account], agent: AgentLookup) -> None:
        self._accounts = accounts
        self._agent = agent
        self._agents: dict[str, Principal] = {}

    def authenticate(self, username: str | None, password: str | None, client_id: str) -> bool:
        """Return whether the password is the user's, compared in constant time, and the client id nobody else's."""
        if username is None or password is None or self._is_anothers(username, client_id):
            return False
        account = self._accounts.get(username)
        if account is None:
            account = self._agent(username)
            if account is not None:
                self._agents[username] = account.principal
        expected = account.password_sha256 if account is not None else bytes(32)
        matches = hmac.compare_digest(expected, hashlib.sha256(password.encode("utf-8", "surrogateescape")).digest())
        return matches and account is not None

    def _is_anothers(self, username: str, client_id: str) -> bool:
        """Return whether a client id has the form of somebody else's: a name, a dash, and what only its owner knows.

        So nobody can be kept out by a client that sits on its id while it is away.
        """
        owner = client_id.rpartition("-")[0]
        return owner != username and (owner in self._accounts or is_identifier("agentId", owner))

    def may(self, action: Action, username: str | None, client_id: str, topic: str) -> bool:
        """Return what the topic table says of the user's role."""
        account = self._accounts.get(username or "")
        principal = self._agents.get(username or "") if account is None else account.principal
        if principal is None:
            return False
        if principal.role is Role.REGISTERING:
            principal = Principal(principal.role, {"clientId": client_id})
        return may(principal, action, topic)

    def payer(self, username: str | None, client_id: str) -> str | None:
        """Return the agent; one that registers pays for itself, and the manager not at all."""
        account = self._accounts.get(username or "")
        if account is None:
            return username
        role = account.principal.role
        return None if role is Role.MANAGER else f"{username}/{client_id}" if role is Role.REGISTERING else username


def build(
    config: Mapping[str, Any], agent: AgentLookup = lambda _agent_id: None
) -> tuple[Authenticator, AccessControl]:
    """Return what the broker asks, from the opaque part of its configuration.

    Args:
        config: `users`, by name: `sha256` of the password in hexadecimal, `role`, and `identifiers` for the
            placeholders of the topic table that the role speaks for.
        agent: looks an agent up.

    Raises:
        KeyError: a member is missing.
        ValueError: a digest is no hexadecimal, or a role is none of the topic table's.
    """
    accounts = {
        name: Account(bytes.fromhex(user["sha256"]), Principal(Role(user["role"]), dict(user.get("identifiers", {}))))
        for name, user in config["users"].items()
    }
    credentials = Credentials(accounts, agent)
    return credentials, credentials
