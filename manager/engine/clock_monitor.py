"""Clock monitor: shifts wall-clock state after a step of the manager's clock, and logs and audits the step.

Without it, a clock that is set forward by more than 300 s makes every report late, and one that is set back makes the
newest reports look older than those in memory. Steps while no manager runs are detected as long as the host does not
boot; after a boot, clock offsets are right again once their older half hour is dropped (`ClockOffset`).
"""

from collections.abc import Mapping
from math import isfinite

import structlog

from manager.domain.agents.agent import Door
from manager.domain.agents.liveness import Liveness
from manager.domain.correlation import Correlator
from manager.domain.instant import ClockSteps, Instant
from manager.engine.commands.audit import add_entry
from manager.engine.context import Context
from manager.engine.fleet import Fleet
from manager.engine.origin import MANAGER
from manager.errors import StoreUnavailable
from schemas.model import iso

log = structlog.get_logger(__name__)

_KEY = "clock_reference"
"""Key of the stored value: the boot id, and the wall time minus the monotonic time of this boot."""

_STALL = 10.0
"""Seconds between two steps after which the manager counts as having been suspended."""


def pending_step(meta: Mapping[str, str], boot_id: str, now: Instant) -> float:
    """Return the seconds by which the first tick after a start will shift the stored state; 0.0 without a step.

    Args:
        meta: the single values of the store.
        boot_id: that of the running host; a reference of another boot counts for nothing.
        now: the start.
    """
    return ClockSteps(_stored_reference(meta.get(_KEY), boot_id)).observe(now)


class ClockMonitor:
    """Compares the wall clock with the monotonic clock at each batch, and shifts the state after a step.

    Args:
        fleet: its agents' clock offsets and its responder are shifted.
        correlator: its memory is shifted.
    """

    def __init__(self, fleet: Fleet, correlator: Correlator) -> None:
        self._fleet = fleet
        self._correlator = correlator
        self._boot_id = fleet.settings.boot_id
        self._stored = fleet.meta.get(_KEY)
        self._steps = ClockSteps(_stored_reference(self._stored, self._boot_id))

    def pending_step(self, now: Instant) -> float:
        """Return the seconds by which the next tick will shift the state; 0.0 without a step."""
        return ClockSteps(self._steps.reference).observe(now)

    def tick(self, context: Context, now: Instant) -> None:
        """Detect a step of the wall clock and shift the state, before any message of the batch is handled."""
        step = self._steps.observe(now)
        if step:
            self._shift(context, step)
            before, after = {"at": iso(now.wall - step)}, {"at": iso(now.wall)}
            log.warning("manager_clock_stepped", seconds=round(step, 3), before=before["at"], after=after["at"])
            add_entry(context, MANAGER, "clock.step", "manager", before=before, after=after)
            self._fleet.counters["clock_steps"] += 1
        reference = f"{self._boot_id} {self._steps.reference!r}"
        if self._boot_id and reference != self._stored:
            self._stored = context.batch.changes.meta[_KEY] = reference

    def _shift(self, context: Context, step: float) -> None:
        try:
            key, value = context.archive.follow_clock(step)
            context.batch.changes.meta[key] = value
        except StoreUnavailable as error:
            log.error("stored_reports_not_shifted", reason=str(error))  # noqa: TRY400 -- the reason is enough
        for agent in self._fleet.registry.agents.values():
            agent.clock.shift(step)
            agent.in_force.shift(step)
            context.batch.save_vitals(agent)
        # Also those that are only in the store: which are in memory depends on restarts.
        context.batch.changes.incident_shift = step
        for incident in self._correlator.shift(step):
            context.batch.changes.incidents[incident.id] = incident
        for response in self._fleet.responder.shift(step):
            context.batch.changes.responses[response.incident_id] = response


def _stored_reference(stored: str | None, of_boot: str) -> float | None:
    boot_id, _, text = (stored or "").partition(" ")
    try:
        reference = float(text) if of_boot and boot_id == of_boot else None
    except ValueError:
        return None
    return reference if reference is not None and isfinite(reference) else None


class StallDetector:
    """Gives agents their full grace after the manager itself was suspended.

    Args:
        liveness: the doors of the agents.
    """

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self._last_step: float | None = None

    def check(self, now: Instant) -> None:
        """Compare a step with the one before it."""
        last, self._last_step = self._last_step, now.monotonic
        if last is not None and now.monotonic - last > _STALL:
            log.warning("manager_stalled", seconds=round(now.monotonic - last, 1))
            for door in Door:
                if self._liveness.is_open(door):
                    self._liveness.close_door(door)
                    self._liveness.open_door(door, now)
