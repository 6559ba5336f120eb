"""Fleet events for people and tools."""

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from schemas.identifiers import AgentId, OrganizationId
from schemas.model import Timestamp, WireModel


class FleetEvent(WireModel):
    """One event of the fleet, with the same form over MQTT (`fleet/{event}`) and in the event stream."""

    event: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")]
    at: Timestamp
    agent_id: AgentId | None = None
    hostname: str | None = None
    organization_id: OrganizationId | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)
