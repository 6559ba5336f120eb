"""Blocklist messages of an organization: the retained snapshot, and the changes between snapshots."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.identifiers import OrganizationId
from schemas.model import Timestamp, WireModel
from schemas.policy import Address, SecondsLeft, ShortText
from schemas.presence import Count

Never = Annotated[list[Address], Field(max_length=1000)]
"""Networks that no guard or fence of the organization takes as a target: its own hosts and whoever runs them."""


class BlocklistEntry(WireModel):
    """One live emergency entry."""

    kind: Literal["ip", "file_hash"]
    value: ShortText
    reason: ShortText | None = None
    expires_at: Timestamp | None = None
    seconds_left: SecondsLeft | None = Field(default=None, description="time left at the message's `sentAt`")
    incident_id: ShortText | None = None


class BlocklistSnapshot(WireModel):
    """All entries of an organization at `sequence`, the fleet's revision at the last change of the list. Signed."""

    organization_id: OrganizationId
    sequence: Count
    sent_at: Timestamp | None = None
    entries: list[BlocklistEntry] = Field(default_factory=list)
    never: Never | None = None


class BlocklistChange(WireModel):
    """The change from one sequence to the next. Signed; a guard that misses one applies the snapshot."""

    organization_id: OrganizationId
    from_sequence: Count
    sequence: Count
    sent_at: Timestamp | None = None
    added: list[BlocklistEntry] = Field(default_factory=list)
    removed: list[BlocklistEntry] = Field(default_factory=list)
    never: Never | None = Field(default=None, description="the whole new list; absent where it stays as it is")
