"""Authentication and access control of the embedded broker; the topic table decides what a role may do."""

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
    """A login: the SHA-256 of its password, and its principal in the topic table."""

    password_sha256: bytes
    principal: Principal


AgentLookup = Callable[[str], Account | None]
"""Returns an agent's current account in the store by its id; None if there is no such agent."""


class Accounts:
    """A few fixed accounts, and the agents of the store.

    Args:
        accounts: manager, observer and the registering client, by username.
        find_agent: looks up an agent at each connect.
    """

    def __init__(self, accounts: Mapping[str, Account], find_agent: AgentLookup) -> None:
        self._accounts = accounts
        self._find_agent = find_agent
        self._agents: dict[str, Principal] = {}

    def authenticate(self, username: str | None, password: str | None, client_id: str) -> bool:
        """Return whether the password is correct (constant-time comparison) and the client id is not another user's."""
        if username is None or password is None or self._belongs_to_another(username, client_id):
            return False
        account = self._accounts.get(username)
        if account is None:
            account = self._find_agent(username)
            if account is not None:
                self._agents[username] = account.principal
        expected = account.password_sha256 if account is not None else bytes(32)
        matches = hmac.compare_digest(expected, hashlib.sha256(password.encode("utf-8", "surrogateescape")).digest())
        return matches and account is not None

    def _belongs_to_another(self, username: str, client_id: str) -> bool:
        """Return whether a client id has another user's form: a username, a dash, and random bits.

        So no client can use the id of a disconnected user and lock it out.
        """
        owner = client_id.rpartition("-")[0]
        return owner != username and (owner in self._accounts or is_identifier("agentId", owner))

    def may(self, action: Action, username: str | None, client_id: str, topic: str) -> bool:
        """Return whether the topic table allows an action to the user's role."""
        account = self._accounts.get(username or "")
        principal = self._agents.get(username or "") if account is None else account.principal
        if principal is None:
            return False
        if principal.role is Role.REGISTERING:
            principal = Principal(principal.role, {"clientId": client_id})
        return may(principal, action, topic)

    def is_guest(self, username: str | None) -> bool:
        """Return whether the user is the registering client."""
        account = self._accounts.get(username or "")
        return account is not None and account.principal.role is Role.REGISTERING

    def rate_limit_key(self, username: str | None, client_id: str) -> str | None:
        """Return the username; the manager has no limit."""
        del client_id
        account = self._accounts.get(username or "")
        return None if account is not None and account.principal.role is Role.MANAGER else username


def build_access(
    config: Mapping[str, Any], find_agent: AgentLookup = lambda _agent_id: None
) -> tuple[Authenticator, AccessControl]:
    """Return authentication and access control from the `access` member of the broker's configuration.

    Args:
        config: `users`, by name: `sha256` of the password in hexadecimal, `role`, and `identifiers` for the
            placeholders of the topic table that the role speaks for.
        find_agent: looks up an agent.

    Raises:
        KeyError: a member is missing.
        ValueError: a digest is not hexadecimal, or a role is not in the topic table.
    """
    users = {
        name: Account(bytes.fromhex(user["sha256"]), Principal(Role(user["role"]), dict(user.get("identifiers", {}))))
        for name, user in config["users"].items()
    }
    accounts = Accounts(users, find_agent)
    return accounts, accounts
