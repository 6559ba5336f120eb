"""The embedded broker's process: wires the broker to the agents' logins in the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manager.broker import credentials
from manager.broker.access import AccessControl, Authenticator
from manager.broker.process import main
from manager.storage.agent_logins import AgentLogins
from schemas.topics import Principal, Role


def build(config: Mapping[str, Any]) -> tuple[Authenticator, AccessControl]:
    """Return what the broker asks: the accounts of the configuration, and the agents of its `store`, a path."""
    logins = AgentLogins(Path(config["store"]))

    def agent(agent_id: str) -> credentials.Account | None:
        found = logins.find(agent_id)
        if found is None:
            return None
        digest, organization_id = found
        principal = Principal(Role.AGENT, {"agentId": agent_id, "organizationId": organization_id})
        return credentials.Account(digest, principal)

    return credentials.build(config, agent)


if __name__ == "__main__":
    raise SystemExit(main(build))
