"""Responses that are as before: what a command ended holds again where the store rejects the command."""

from collections.abc import Iterable
from dataclasses import dataclass

from manager.domain.correlation import Incident, Indicator
from manager.domain.response.emergency_entry import EmergencyEntry
from manager.domain.response.responder import Responder
from manager.domain.response.response_changes import Response, ResponseChanges


@dataclass(frozen=True, slots=True)
class Remembered:
    """The response to one incident before a command.

    Attributes:
        incident_id: The incident.
        indicator: Its indicator.
        response: The response; None where none was remembered.
        is_suppressed: Whether the incident was undone already and kept the indicator from firing.
        entries: Its live entries about the indicator.
    """

    incident_id: str
    indicator: Indicator
    response: Response | None
    is_suppressed: bool
    entries: tuple[EmergencyEntry, ...]


def remember(
    responder: Responder, entries: Iterable[EmergencyEntry], incident: Incident | None = None
) -> list[Remembered]:
    """Return the responses that a command may end: those of some live entries, and that of an incident."""
    indicators: dict[str, Indicator] = {} if incident is None else {incident.id: incident.indicator}
    held: dict[str, list[EmergencyEntry]] = {}
    for entry in entries:
        indicators.setdefault(entry.incident_id, entry.subject.indicator())
        held.setdefault(entry.incident_id, []).append(entry)
    return [
        Remembered(
            incident_id,
            indicator,
            responder.responses.get(incident_id),
            responder.responses.suppresses(indicator, incident_id),
            tuple(held.get(incident_id, ())),
        )
        for incident_id, indicator in indicators.items()
    ]


def put_back(responder: Responder, remembered: Remembered) -> ResponseChanges:
    """Restore a response and its entries, unless a later entry has their place; return the entries that hold again."""
    responder.responses.put_back(
        remembered.incident_id,
        remembered.indicator,
        remembered.response,
        is_suppressed=remembered.is_suppressed,
    )
    entries = [
        entry
        for entry in remembered.entries
        if responder.entries.find(entry.scope, entry.target, entry.subject) is None
    ]
    responder.entries.load(entries)
    return ResponseChanges(added=entries)
