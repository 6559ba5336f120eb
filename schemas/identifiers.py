"""Grammar of the ids in topics, paths and tables.

Every id is a plain ASCII word: no `+`, `#`, `/`, NUL or white space can reach a topic, a path or a query.
"""

import re
import unicodedata
from typing import Annotated

from pydantic import StringConstraints

AGENT_ID = r"ag-[0-9a-f]{16}"
CLIENT_ID = r"[0-9a-f]{32}"
ORGANIZATION_ID = r"[A-Za-z0-9._-]{1,64}"
TOKEN_ID = r"[A-Za-z0-9_-]{1,64}"  # noqa: S105 -- the grammar of an id, no token
THREAT_ID = r"[A-Za-z0-9._:-]{1,64}"
LABEL = r"[A-Za-z0-9._:@-]{1,64}"
EVENT_NAME = r"[a-z_]{1,64}"

DEFAULT_ORGANIZATION = "default"
"""The organization of agents that name none."""


def _whole(pattern: str) -> str:
    return f"^{pattern}$"


AgentId = Annotated[str, StringConstraints(pattern=_whole(AGENT_ID))]
"""Id that the manager assigns to an agent: ``ag-`` and 16 hexadecimal digits."""

ClientId = Annotated[str, StringConstraints(pattern=_whole(CLIENT_ID))]
"""128 random bits in hexadecimal, new for each registration."""

OrganizationId = Annotated[str, StringConstraints(pattern=_whole(ORGANIZATION_ID))]
GroupName = OrganizationId
"""The name of a policy group; of the same grammar as an organization."""

TokenId = Annotated[str, StringConstraints(pattern=_whole(TOKEN_ID))]

ThreatId = Annotated[str, StringConstraints(pattern=_whole(THREAT_ID))]
"""Id of a report, unique within its agent; guards use UUIDv7, other HTTP agents their own ids."""

Label = Annotated[str, StringConstraints(pattern=_whole(LABEL))]
"""A site or a tag."""

Hostname = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^\s\x00-\x1f\x7f/+#]+$")]
"""A host's name, without white space, control characters and topic separators."""


def hostname_key(hostname: str) -> str:
    """Return the form in which hostnames are compared: case-folded, NFC, without a trailing dot."""
    key = hostname
    if not (hostname.isascii() and hostname.islower()):
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFD", hostname).casefold())
    return key[:-1] if key.endswith(".") and len(key) > 1 else key


is_threat_id = re.compile(THREAT_ID).fullmatch
"""Returns a match if a text is the id of a report, else None."""

_FULL = {
    "agentId": re.compile(AGENT_ID),
    "clientId": re.compile(CLIENT_ID),
    "organizationId": re.compile(ORGANIZATION_ID),
    "event": re.compile(EVENT_NAME),
}


def is_identifier(kind: str, text: str) -> bool:
    """Return whether `text` is a valid id of `kind`, a placeholder's name in the topic table."""
    return _FULL[kind].fullmatch(text) is not None
