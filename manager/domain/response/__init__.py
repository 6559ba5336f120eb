"""Emergency response: blocks and thresholds that incidents put in force automatically. No I/O, no clock."""

from manager.domain.response.blocklists import Blocklists
from manager.domain.response.emergency_entries import EmergencyEntries
from manager.domain.response.emergency_entry import EmergencyEntry, Subject
from manager.domain.response.evidence_index import EvidenceIndex
from manager.domain.response.fleet_addresses import FleetAddresses
from manager.domain.response.never_block import NeverBlock
from manager.domain.response.organization_step import OrganizationResponse
from manager.domain.response.responder import Responder
from manager.domain.response.response_changes import Response, ResponseChanges, ResponseState
from manager.domain.response.settings import FleetView, RepeatOffenderRule, ResponderSettings

__all__ = [
    "Blocklists",
    "EmergencyEntries",
    "EmergencyEntry",
    "EvidenceIndex",
    "FleetAddresses",
    "FleetView",
    "NeverBlock",
    "OrganizationResponse",
    "RepeatOffenderRule",
    "Responder",
    "ResponderSettings",
    "Response",
    "ResponseChanges",
    "ResponseState",
    "Subject",
]
