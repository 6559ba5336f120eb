"""Settings recheck: decides again on the live entries of an incident, after a start with stricter settings."""

from collections.abc import Callable
from dataclasses import replace

from manager.domain.correlation import Incident
from manager.domain.response.emergency_entry import EmergencyEntry, Subject
from manager.domain.response.entry_terms import describe_outcome
from manager.domain.response.organization_step import OrganizationStep, organization_step
from manager.domain.response.responder import Responder
from manager.domain.response.response_changes import Response, ResponseChanges, ResponseState
from manager.domain.response.settings import FleetView, ResponderSettings


class SettingsRecheck:
    """Lifts entries for which an incident has too few agents by the settings in force. Approved ones are kept.

    Args:
        responder: has the live entries and the responses.
        settings: the settings in force.
        new_id: makes the id of an entry.
    """

    def __init__(self, responder: Responder, settings: ResponderSettings, new_id: Callable[[], str]) -> None:
        self._responder = responder
        self._settings = settings
        self._new_id = new_id

    def recheck(
        self, incident: Incident, response: Response, needed: int, facts: FleetView, now: float
    ) -> ResponseChanges:
        """Return the changes to an incident's entries and response.

        Args:
            incident: an incident with live entries.
            response: its response.
            needed: the number of agents that an incident of its kind needs.
            facts: the fleet.
            now: seconds since 1970.
        """
        if response.approved_by is not None:
            return ResponseChanges()
        about = self._responder.entries.list_about(Subject.of(incident.indicator))
        entries = [entry for entry in about if entry.incident_id == incident.id]
        agents = sum(1 for _ in incident.actionable_agent_ids)
        if agents < needed:
            return self._lift(
                incident, response, entries, f"{agents} agents reported it in time, {needed} are needed", now
            )
        wide = next((entry for entry in entries if entry.scope == "organization"), None)
        if wide is None:
            return ResponseChanges()
        step = organization_step(incident, self._responder.organization_response, self._settings, facts, now)
        if step.is_allowed:
            return ResponseChanges()
        own = incident.organization_id
        agent_ids = [agent_id for agent_id in incident.actionable_agent_ids if facts.is_in(agent_id, own)]
        response_changes = self._narrow(wide, agent_ids, now)
        response_changes.responses = self._put(incident, self._narrowed(incident, response, step, now), now)
        return response_changes

    def _lift(
        self, incident: Incident, response: Response, entries: list[EmergencyEntry], reason: str, now: float
    ) -> ResponseChanges:
        for entry in entries:
            self._responder.entries.remove(entry)
        refused = replace(
            response,
            state=ResponseState.REFUSED,
            reason=reason,
            at=now,
            organization_wide=False,
            approval_expires_at=None,
        )
        return ResponseChanges(responses=self._put(incident, refused, now), removed=entries)

    def _narrow(self, wide: EmergencyEntry, agent_ids: list[str], now: float) -> ResponseChanges:
        """Replace an organization-wide entry by entries of the incident's agents, with the same end."""
        entries = self._responder.entries
        entries.remove(wide)
        response_changes = ResponseChanges(removed=[wide])
        for agent_id in agent_ids:
            entry = replace(wide, id=self._new_id(), scope="agent", target=agent_id, created_at=now, number=None)
            put = entries.put(entry)
            response_changes.removed += put.removed
            response_changes.added += [entry] if put.added else []
        return response_changes

    def _narrowed(self, incident: Incident, response: Response, step: OrganizationStep, now: float) -> Response:
        reason = describe_outcome(incident, wide=False, obstacle=step.obstacle, approval=step.approval)
        narrowed = replace(response, reason=reason, at=now, organization_wide=False)
        if step.approval is None:
            return narrowed
        ends = now + self._settings.approval_time
        return replace(narrowed, state=ResponseState.PENDING_APPROVAL, approval_expires_at=ends)

    def _put(self, incident: Incident, response: Response, now: float) -> list[Response]:
        record = self._responder.responses
        changed = [response, *record.put(response)]
        if not incident.is_open:
            record.closed(incident, now)
        return changed
