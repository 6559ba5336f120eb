"""The agents' logins at the embedded broker, read from the store at each connect."""

import re
from pathlib import Path

from manager.storage.connection import open_reader
from schemas.identifiers import AGENT_ID

_AGENT_ID = re.compile(AGENT_ID)


class AgentLogins:
    """Reads one agent's login; a removed agent has none from the commit on.

    Args:
        path: the SQLite store.
    """

    def __init__(self, path: Path) -> None:
        self._database = open_reader(path)

    def find(self, agent_id: str) -> tuple[bytes, str] | None:
        """Return SHA-256 of an agent's MQTT password and its organization."""
        if _AGENT_ID.fullmatch(agent_id) is None:
            return None
        found = self._database.execute_sql(
            "SELECT mqtt_digest, organization_id FROM agent WHERE removed_at IS NULL AND agent_id = "
            f"{self._database.param}",
            (agent_id,),
        ).fetchone()
        return (bytes(found[0]), str(found[1])) if found else None
