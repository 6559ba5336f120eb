"""Agents' logins at the embedded broker, read from the store at each CONNECT."""

import re

from manager.storage.location import StoreLocation
from manager.storage.opening import open_store_reader
from manager.storage.statements import Statements
from schemas.identifiers import AGENT_ID

_AGENT_ID = re.compile(AGENT_ID)


class AgentLogins:
    """Reads agents' MQTT logins from the store; a removed agent cannot log in once its removal is committed.

    Args:
        location: the store's place.
    """

    def __init__(self, location: StoreLocation) -> None:
        self._statements = Statements(open_store_reader(location))

    def find(self, agent_id: str) -> tuple[bytes, str] | None:
        """Return the SHA-256 hash of an agent's MQTT password, and its organization; None for an unknown agent."""
        if _AGENT_ID.fullmatch(agent_id) is None:
            return None
        found = self._statements.rows("agents.login", (agent_id,))
        return (bytes(found[0][0]), str(found[0][1])) if found else None
