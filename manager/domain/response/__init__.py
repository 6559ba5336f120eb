"""Emergency response: blocks and thresholds that incidents put in force automatically. No I/O, no clock."""

from manager.domain.response.blocklists import Blocklists
from manager.domain.response.emergency_entries import EmergencyEntries
from manager.domain.response.emergency_entry import EmergencyEntry, Subject
from manager.domain.response.evidence import Evidence
from manager.domain.response.fleet_addresses import FleetAddresses
from manager.domain.response.never_block import NeverBlock
from manager.domain.response.reaction import Reaction, Response, ResponseState
from manager.domain.response.responder import Responder
from manager.domain.response.settings import FleetView, RepeatOffenderRule, ResponderSettings

__all__ = [
    "Blocklists",
    "EmergencyEntries",
    "EmergencyEntry",
    "Evidence",
    "FleetAddresses",
    "FleetView",
    "NeverBlock",
    "Reaction",
    "RepeatOffenderRule",
    "Responder",
    "ResponderSettings",
    "Response",
    "ResponseState",
    "Subject",
]
