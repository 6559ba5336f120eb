"""Entry point of the embedded broker's process: wires the broker to the agents' logins in the store."""

from collections.abc import Mapping
from typing import Any

from manager.broker import accounts
from manager.broker.access import AccessControl, Authenticator
from manager.broker.process import main
from manager.storage.agent_logins import AgentLogins
from manager.storage.location import location_from
from schemas.topics import Principal, Role


def build_access(config: Mapping[str, Any]) -> tuple[Authenticator, AccessControl]:
    """Return authentication and access control: the accounts of the configuration, and the agents in its `store`.

    Args:
        config: the configuration's `access` member; `store` is the record of the store's place.
    """
    logins = AgentLogins(location_from(config["store"]))

    def find_agent(agent_id: str) -> accounts.Account | None:
        login = logins.find(agent_id)
        if login is None:
            return None
        digest, organization_id = login
        principal = Principal(Role.AGENT, {"agentId": agent_id, "organizationId": organization_id})
        return accounts.Account(digest, principal)

    return accounts.build_access(config, find_agent)


if __name__ == "__main__":
    raise SystemExit(main(build_access))
