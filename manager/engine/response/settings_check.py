"""Settings check: after a start, lifts the live blocks that the settings in force forbid, and audits what it lifts."""

import json
from collections import Counter, defaultdict

import structlog

from manager.domain.instant import Instant
from manager.domain.response import EmergencyEntry, ResponseChanges
from manager.domain.response.settings_recheck import SettingsRecheck
from manager.engine.commands.audit import add_entry, entries_state
from manager.engine.context import Context
from manager.engine.fleet import Fleet, new_entry_id
from manager.engine.origin import MANAGER
from manager.engine.response import emergency_response, manual_response
from manager.errors import StoreUnavailable

log = structlog.get_logger(__name__)

_KEY = "response_settings"
"""Key of the stored value: the numbers of agents, ages and networks of the last start, as JSON."""


class SettingsCheck:
    """Runs once, with the first batch after a start.

    It lifts the blocks of addresses that are never blocked by now: administrators', the fleet's, the manager's own. If
    an incident or its organization-wide step needs more agents, age or networks than at the last start, it lifts the
    blocks that have less, except those that a person approved.

    Args:
        fleet: the settings and the live blocks.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        settings = fleet.settings.responder
        self._needed = fleet.settings.correlator.thresholds
        self._bounds: dict[str, float] = {
            **{str(kind): agents for kind, agents in self._needed.items()},
            "organization": settings.organization_agents,
            "age": settings.organization_age,
            "networks": settings.organization_networks,
        }
        self._is_due = True

    def tick(self, context: Context, now: Instant) -> None:
        """Check all live blocks at the first call.

        Raises:
            StoreUnavailable: an incident cannot be read; the next call checks again.
        """
        if not self._is_due:
            return
        self._is_due = False
        try:
            self._lift_unblockable(context, now)
            self._lift_by_bounds(context, now)
        except StoreUnavailable:
            self._is_due = True
            raise

    def _lift_unblockable(self, context: Context, now: Instant) -> None:
        responder = self._fleet.responder
        reasons = {
            subject: reason
            for subject in responder.entries.subjects()
            if (reason := responder.never_block.reason(subject.indicator(), now.wall)) is not None
        }
        if reasons:
            response_changes = responder.withdraw_unblockable(now.wall, reasons)
            lifted = {
                entry.incident_id: f"never blocked: {reasons[entry.subject]}" for entry in response_changes.removed
            }
            self._apply(context, response_changes, lifted)
        manual_response.withdraw_unblockable(context)

    def _lift_by_bounds(self, context: Context, now: Instant) -> None:
        stored = self._fleet.meta.get(_KEY)
        before = json.loads(stored) if stored is not None else self._bounds
        if any(bound > before.get(name, bound) for name, bound in self._bounds.items()):
            self._recheck(context, now)
        if stored is None or before != self._bounds:
            context.batch.changes.meta[_KEY] = json.dumps(self._bounds)

    def _recheck(self, context: Context, now: Instant) -> None:
        fleet, archive = self._fleet, context.archive
        recheck = SettingsRecheck(fleet.responder, fleet.settings.responder, new_entry_id)
        facts = fleet.facts(now.wall)
        for incident_id in sorted({entry.incident_id for entry in fleet.responder.entries}):
            incident = archive.find(incident_id)
            response = fleet.responder.responses.get(incident_id) or archive.response(incident_id)
            if incident is None or response is None:
                continue
            changes = recheck.recheck(incident, response, self._needed[incident.kind], facts, now.wall)
            self._apply(context, changes, {each.incident_id: each.reason for each in changes.responses})

    def _apply(self, context: Context, response_changes: ResponseChanges, reasons: dict[str, str]) -> None:
        """Apply changes, log them, and add an audit entry for each incident that loses entries."""
        lifted: dict[str, list[EmergencyEntry]] = defaultdict(list)
        for entry in response_changes.removed:
            lifted[entry.incident_id].append(entry)
        emergency_response.apply(context, response_changes)
        for incident_id, entries in lifted.items():
            after = {"reason": reasons.get(incident_id, "its holder had no more room")}
            add_entry(context, MANAGER, "block.lift", incident_id, before=entries_state(entries), after=after)
        if lifted:
            count = len(response_changes.removed)
            log.warning("blocks_lifted_by_settings", blocks=count, reasons=dict(Counter(reasons.values())))
