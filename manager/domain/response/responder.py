"""Responder: decides on the blocks and thresholds that an incident puts in force, within safety limits.

The rules are the design's (section 3, "Responder"). Two or more agents that report one source address or file hash
block it themselves. From three agents on that vouch for it the whole organization does, where the indicator means the
same everywhere; if these agents are too young or in one network, a person approves that step first. A shared technique
raises the sensitivity of the agents concerned. An agent gets an incident's entry once; when the indicator returns, the
entry lasts longer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from manager.domain.correlation import ChangeKind, Incident, IncidentChange
from manager.domain.response.emergency_entries import EmergencyEntries
from manager.domain.response.emergency_entry import EmergencyEntry, Holder, Subject
from manager.domain.response.entry_terms import (
    describe_outcome,
    entry_duration,
    entry_reason,
    local_scope_reason,
    untimely_reason,
)
from manager.domain.response.never_block import NeverBlock
from manager.domain.response.organization_step import (
    OrganizationResponse,
    OrganizationStep,
    is_established,
    organization_step,
)
from manager.domain.response.rate_cap import Grant, RateCap
from manager.domain.response.response_changes import Response, ResponseChanges, ResponseState
from manager.domain.response.response_merge import awaiting, in_force, merge_responses
from manager.domain.response.response_record import ResponseRecord
from manager.domain.response.settings import FleetView, ResponderSettings
from manager.errors import Conflict


class Responder:
    """Decides on responses. Times are seconds since 1970.

    Args:
        settings: durations, bounds and thresholds.
        never_block: the never-block rules.
        new_id: makes the id of an entry.
    """

    def __init__(self, settings: ResponderSettings, never_block: NeverBlock, new_id: Callable[[], str]) -> None:
        self.frozen = False
        """Whether all automatic response is stopped; live entries stay until they are undone or expire."""
        self.organization_response = OrganizationResponse.VOUCHED
        """The choice of the agents that the organization-wide step counts."""
        self.entries = EmergencyEntries(settings)
        self.responses = ResponseRecord(settings.max_pending)
        self.never_block = never_block
        self._settings = settings
        self._new_id = new_id
        self._cap = RateCap(settings)

    def load(
        self,
        entries: Iterable[EmergencyEntry],
        responses: Iterable[Response],
        incidents: Iterable[Incident],
        facts: FleetView,
        now: float,
    ) -> None:
        """Restore the state: all entries, the newest responses of retained incidents, the open incidents."""
        kept = list(responses)
        self.entries.load(entries)
        self.responses.load(kept, incidents, now)
        self._cap.load(
            Grant(
                min(each.granted_at, now), each.made_by, tuple(dict.fromkeys(facts.token_of(by) for by in each.made_by))
            )
            for each in kept
            if each.granted_at is not None and now - each.granted_at < self._settings.window
        )

    def react(self, change: IncidentChange, facts: FleetView, now: float) -> ResponseChanges:
        """Return the response to a change of an incident."""
        incident = change.incident
        if change.kind is ChangeKind.CLOSED:
            self.responses.closed(incident, now)
            return ResponseChanges()
        self.responses.reopened(incident)
        response_changes, everybody = ResponseChanges(), False
        if change.absorbed is not None:
            response_changes, everybody = self._merge(incident, change.absorbed, now)
        known = self.responses.get(incident.id)
        if known is None and not change.actionable and change.kind in {ChangeKind.OPENED, ChangeKind.RETURNED}:
            reason = untimely_reason(
                incident, facts.untimely_reports(incident.agent_ids), clock_unknown=change.clock_unknown
            )
            return self._record(incident, ResponseState.REFUSED, reason, now)
        if change.actionable or change.vouched or everybody:
            response_changes.merge(self._decide(incident, None if everybody else change, facts, now))
        return response_changes

    def approve(self, incident: Incident, facts: FleetView, now: float, author: str) -> ResponseChanges:
        """Apply the response of an incident that waits for approval, outside the rate cap.

        Raises:
            Conflict: it does not wait for approval.
        """
        known = self.responses.get(incident.id)
        if known is None or known.state is not ResponseState.PENDING_APPROVAL:
            raise Conflict(f"incident {incident.id} does not wait for approval")
        reason = self.never_block.reason(incident.indicator, now)
        if reason is not None:
            return self._refuse(incident, reason, now)
        acting = ResponseState.SIMULATED if self._settings.simulation else ResponseState.APPLIED
        approved = replace(known, state=acting, at=now, approval_expires_at=None, approved_by=author)
        return self._apply(incident, approved, incident.actionable_agent_ids, facts, now)

    def undo(self, incident: Incident, now: float, author: str) -> ResponseChanges:
        """Remove all live entries about an incident's indicator, and prevent further responses of the incident.

        While it is open, no other incident of the same indicator fires. Another one that loses entries is undone, too.
        """
        response_changes = self._withdraw(Subject.of(incident.indicator))
        others = {entry.incident_id: entry for entry in response_changes.removed if entry.incident_id != incident.id}
        for entry in others.values():
            response_changes.merge(self._undo_incident_of(entry, f"undone by {author}", now))
        self.responses.suppress(incident)
        response_changes.merge(self._record(incident, ResponseState.UNDONE, f"undone by {author}", now))
        if not incident.is_open:
            self.responses.closed(incident, now)
        return response_changes

    def remove(self, entry_id: str, now: float, author: str) -> ResponseChanges:
        """Remove one entry; its incident, if still known, does not respond again.

        An id that is not live changes nothing.
        """
        entry = self.entries.get(entry_id)
        if entry is None:
            return ResponseChanges()
        self.entries.remove(entry)
        response_changes = ResponseChanges(removed=[entry])
        response_changes.merge(self._undo_incident_of(entry, f"an entry of it was removed by {author}", now))
        return response_changes

    def freeze(self) -> None:
        """Stop all automatic response."""
        self.frozen = True

    def thaw(self) -> None:
        """Resume automatic response, for each incident from its next report by a further agent on."""
        self.frozen = False

    def record_evidence(
        self, organization_id: str, site: str | None, agent_id: str, evidence: Mapping[str, Any], now: float
    ) -> ResponseChanges:
        """Record a report's logins and paths, before its incidents are decided on.

        A live entry about an address that turns out to have logged in is withdrawn.
        """
        index = self.never_block.evidence
        address = index.record(organization_id, site, agent_id, evidence, now)
        response_changes = ResponseChanges(evidence=index.take_changes())
        if address is not None:
            response_changes.merge(self.withdraw_unblockable(now, [Subject.of(address)]))
        return response_changes

    def withdraw_unblockable(self, now: float, subjects: Iterable[Subject] | None = None) -> ResponseChanges:
        """Withdraw entries that may not be in force any more, after the allowlist or the fleet's addresses changed.

        Args:
            now: the time.
            subjects: the subjects to check; None for all live ones.
        """
        response_changes = ResponseChanges()
        for subject in self.entries.subjects() if subjects is None else subjects:
            entries = self.entries.list_about(subject)
            reason = self.never_block.reason(subject.indicator(), now) if entries else None
            if reason is None:
                continue
            response_changes.merge(self._withdraw(subject))
            for incident_id in sorted({entry.incident_id for entry in entries}):
                response_changes.merge(self._end(incident_id, ResponseState.REFUSED, f"never blocked: {reason}", now))
        return response_changes

    def shift(self, seconds: float) -> list[Response]:
        """Follow a step of the clock; return responses with their new times. Entries and approvals keep their ends."""
        self._cap.shift(seconds)
        return self.responses.shift(seconds)

    def forget_agent(self, agent_id: str) -> ResponseChanges:
        """Drop a removed agent's own entries."""
        response_changes = ResponseChanges(removed=self.entries.list_of("agent", agent_id))
        for entry in response_changes.removed:
            self.entries.remove(entry)
        self.never_block.fleet.discard(agent_id)
        return response_changes

    def next_expiry(self) -> float | None:
        """Return the time of the next expiry, of an entry or of an approval."""
        dues = (self.entries.next_expiry(), self.responses.next_expiry())
        return min((due for due in dues if due is not None), default=None)

    def expire(self, now: float) -> ResponseChanges:
        """Remove the entries and waiting approvals that have expired by now."""
        return ResponseChanges(responses=self.responses.expire(now), removed=self.entries.expire(now))

    def expire_evidence(self, now: float) -> ResponseChanges:
        """Drop evidence that no report has renewed for 7 days, by a clock that is confirmed."""
        index = self.never_block.evidence
        index.expire(now)
        return ResponseChanges(evidence=index.take_changes())

    def _decide(
        self, incident: Incident, change: IncidentChange | None, facts: FleetView, now: float
    ) -> ResponseChanges:
        """Respond to an incident, for the agents that are new in a change of it, or for all of them (None)."""
        objection = self._objection(incident, now)
        if objection is not None:
            return objection
        known = self.responses.get(incident.id)
        acting = ResponseState.SIMULATED if self._settings.simulation else ResponseState.APPLIED
        goes_on = known if known is not None and (known.state is acting or known.awaits_organization) else None
        if self.frozen:
            return self._hold(incident, goes_on, now)
        if goes_on is not None:
            everybody = change is None or goes_on.members_missing
            goes_on = replace(goes_on, members_missing=False)
            agent_ids = incident.actionable_agent_ids if change is None or everybody else change.actionable
            newcomers = None if change is None or everybody else (*change.actionable, *change.vouched)
            return self._apply(incident, goes_on, agent_ids, facts, now, newcomers=newcomers)
        response = Response(incident.id, acting, "", now)
        if incident.kind != "technique":
            members = incident.actionable_agent_ids
            granted = self._cap.request(members, facts.token_of, now, several_tokens=facts.several_tokens)
            if isinstance(granted, str):
                return self._ask_approval(incident, granted, now)
            response = replace(response, granted_at=now, made_by=granted.agent_ids)
        return self._apply(incident, response, incident.actionable_agent_ids, facts, now)

    def _hold(self, incident: Incident, goes_on: Response | None, now: float) -> ResponseChanges:
        """Record a change of an incident while frozen; one that waits because of the rate cap can still be approved."""
        if goes_on is not None:
            return self._save(replace(goes_on, members_missing=True))
        known = self.responses.get(incident.id)
        if known is not None and known.state is ResponseState.PENDING_APPROVAL:
            return ResponseChanges()
        return self._record(incident, ResponseState.REFUSED, "automatic response is frozen", now)

    def _objection(self, incident: Incident, now: float) -> ResponseChanges | None:
        """Return the changes for an incident that must not respond; None if it may."""
        known = self.responses.get(incident.id)
        if known is not None and known.state is ResponseState.UNDONE:
            return ResponseChanges()
        suppressor = self.responses.suppressor(incident.indicator)
        if suppressor is not None:
            self.responses.suppress(incident)
            return self._record(incident, ResponseState.UNDONE, f"incident {suppressor} of it was undone", now)
        reason = self.never_block.reason(incident.indicator, now)
        return self._refuse(incident, reason, now) if reason is not None else None

    def _apply(
        self,
        incident: Incident,
        response: Response,
        agent_ids: Iterable[str],
        facts: FleetView,
        now: float,
        *,
        newcomers: Iterable[str] | None = None,
    ) -> ResponseChanges:
        """Add an incident's missing entries.

        Args:
            incident: the incident.
            response: its response so far.
            agent_ids: the agents that get an entry of their own, unless the whole organization does.
            facts: the fleet.
            now: the time.
            newcomers: the agents that the change is about; None for all.
        """
        response_changes, subject = ResponseChanges(), Subject.of(incident.indicator)
        obstacle = local_scope_reason(incident, self.never_block.evidence)
        step = self._organization_step(incident, response, newcomers, facts, now)
        wide = obstacle is None and (response.organization_wide or (step is not None and step.is_allowed))
        if response.organization_wide and not wide:  # became local after the entry was made
            known = self.entries.find("organization", incident.organization_id, subject)
            if known is not None:
                self.entries.remove(known)
                response_changes.removed.append(known)
            agent_ids = incident.actionable_agent_ids
        holders: list[tuple[Holder, str]] = [("organization", incident.organization_id)]
        if not wide:
            own = incident.organization_id
            holders = [("agent", agent_id) for agent_id in agent_ids if facts.is_in(agent_id, own)]
        elif response.state is ResponseState.SIMULATED and response.organization_wide:
            holders = []
        expires_at = now + entry_duration(incident, self._settings, facts.repeat(incident.organization_id))
        for scope, target in holders:
            known = self.entries.find(scope, target, subject)
            if known is not None and known.incident_id == incident.id:
                continue
            entry = EmergencyEntry(
                self._new_id(), scope, target, subject, entry_reason(incident), incident.id, now, expires_at
            )
            if response.state is ResponseState.SIMULATED:
                response_changes.simulated.append(entry)
                continue
            put = self.entries.put(entry)
            response_changes.removed += put.removed
            if put.added:
                response_changes.added.append(entry)
        if step is not None:
            approval = step.approval if obstacle is None and not wide else None
            reason = describe_outcome(incident, wide=wide, obstacle=obstacle or step.obstacle, approval=approval)
            said = replace(response, reason=reason, organization_wide=wide)
            until = now + self._settings.approval_time
            response_changes.merge(self._save(awaiting(said, until) if approval is not None else in_force(said)))
        return response_changes

    def _organization_step(
        self,
        incident: Incident,
        response: Response,
        newcomers: Iterable[str] | None,
        facts: FleetView,
        now: float,
    ) -> OrganizationStep | None:
        """Check the organization-wide step; return None if it waits for approval and no newcomer can change that."""
        settings = self._settings
        if response.awaits_organization and newcomers is not None:
            established = (is_established(agent_id, settings, facts, now) for agent_id in newcomers)
            if not any(established):
                return None
        step = organization_step(incident, self.organization_response, settings, facts, now)
        return step._replace(approval=None) if response.approved_by is not None else step

    def _merge(self, incident: Incident, absorbed: Incident, now: float) -> tuple[ResponseChanges, bool]:
        """Merge response and entries of an absorbed incident; return whether all members need entries."""
        mine, theirs = self.responses.get(incident.id), self.responses.get(absorbed.id)
        self.responses.closed(absorbed, now)
        response_changes, everybody = ResponseChanges(), False
        if theirs is not None and (mine is None or mine.state is not ResponseState.UNDONE):
            if theirs.state is ResponseState.UNDONE:
                self.responses.suppress(incident)
                response_changes = self._record(incident, ResponseState.UNDONE, theirs.reason, now)
            else:
                merged, everybody = merge_responses(incident.id, mine, theirs, now)
                for response in merged:
                    response_changes.merge(self._save(response))
        response_changes.moved = self.entries.move(Subject.of(incident.indicator), absorbed.id, incident.id)
        return response_changes, everybody

    def _undo_incident_of(self, entry: EmergencyEntry, reason: str, now: float) -> ResponseChanges:
        """Record a removed entry's incident as undone, and prevent further responses of it, if it is still open."""
        self.responses.suppress_known(entry.subject.indicator(), entry.incident_id)
        return self._end(entry.incident_id, ResponseState.UNDONE, reason, now)

    def _end(self, incident_id: str, state: ResponseState, reason: str, now: float) -> ResponseChanges:
        """Record the end of a response; that of an incident closed long ago is remembered anew."""
        known = self.responses.get(incident_id)
        if known is None:
            return ResponseChanges(responses=[self.responses.recall(Response(incident_id, state, reason, now))])
        return self._save(replace(known, state=state, reason=reason, at=now, approval_expires_at=None))

    def _refuse(self, incident: Incident, reason: str, now: float) -> ResponseChanges:
        response_changes = self._withdraw(Subject.of(incident.indicator))
        response_changes.merge(self._record(incident, ResponseState.REFUSED, f"never blocked: {reason}", now))
        return response_changes

    def _ask_approval(self, incident: Incident, reason: str, now: float) -> ResponseChanges:
        known = self.responses.get(incident.id)
        if known is not None and known.state is ResponseState.PENDING_APPROVAL:
            return ResponseChanges()
        expires_at = now + self._settings.approval_time
        return self._save(
            Response(incident.id, ResponseState.PENDING_APPROVAL, reason, now, approval_expires_at=expires_at)
        )

    def _record(self, incident: Incident, state: ResponseState, reason: str, now: float) -> ResponseChanges:
        """Record a response without entries; its grant in the rate cap is kept."""
        known = self.responses.get(incident.id)
        granted_at, made_by = (known.granted_at, known.made_by) if known is not None else (None, ())
        return self._save(Response(incident.id, state, reason, now, granted_at=granted_at, made_by=made_by))

    def _save(self, response: Response) -> ResponseChanges:
        """Record a response, unless the same is recorded already."""
        known = self.responses.get(response.incident_id)
        if known is not None and replace(known, at=response.at) == response:
            return ResponseChanges()
        return ResponseChanges(responses=[response, *self.responses.put(response)])

    def _withdraw(self, subject: Subject) -> ResponseChanges:
        response_changes = ResponseChanges(removed=self.entries.list_about(subject))
        for entry in response_changes.removed:
            self.entries.remove(entry)
        return response_changes
