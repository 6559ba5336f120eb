"""Ticks: the periodic work of the engine, called with every batch."""

from collections.abc import Callable, Iterable

import structlog

from manager.domain.agents.agent import Door
from manager.domain.agents.liveness import Liveness
from manager.domain.agents.vitals_history import KEPT_FOR as VITALS_KEPT_FOR
from manager.domain.instant import Instant
from manager.domain.protection.measures import MEASURES_KEPT_FOR
from manager.domain.retention import DeletionBudget
from manager.engine.context import Context
from manager.engine.fleet import CLOCK_WARNING, Fleet
from manager.engine.messages import held_back
from manager.engine.ports import PruneOrder, Store
from manager.errors import StoreUnavailable

log = structlog.get_logger(__name__)

Tick = Callable[[Context, Instant], None]

_HOUSEKEEPING_INTERVAL = 60.0
EPHEMERAL_INTERVAL = 10.0
"""Seconds between two checks for ephemeral agents that have been offline for too long."""

ACCESS_INTERVAL = 60.0
"""Seconds between two writings of the last use of access tokens."""

EXPIRY_INTERVAL = 60.0
"""Seconds between two checks for agents that signed off too long ago."""

SILENCE_INTERVAL = 1.0
"""Seconds between two looks at the agents that may be silent."""

_CATCH_UP_INTERVAL = 1.0
"""Seconds between two prunings while each of them reaches its limit."""

_PRUNE_LIMIT = 2000
_REMOVED_AGENT_RETENTION = 100 * 86_400.0
"""Seconds that removed agents are kept: longer than the counts of their threats."""

_REMEDY = "if the clock is right, run `panguard manager clock accept`"
_UNCONFIRMED = (
    "nothing is pruned yet: fewer than three agents have confirmed the clock since the start or its last step; "
    f"it is trusted after 24 hours; {_REMEDY}"
)
_DISAGREES = f"nothing is pruned: the clock is {{minutes}} minutes off the agents' clocks; correct it, or {_REMEDY}"


class Periodic:
    """Runs a tick at a fixed interval, in seconds; a tick that returns True runs again with the next batch."""

    def __init__(self, interval: float, tick: Callable[[Context, Instant], bool | None]) -> None:
        self._interval = interval
        self._tick = tick
        self._next = 0.0

    def __call__(self, context: Context, now: Instant) -> None:
        """Run the tick if it is due."""
        if now.monotonic >= self._next:
            self._next = now.monotonic + self._interval
            if self._tick(context, now):
                self.run_next()

    def run_next(self) -> None:
        """Make the tick due at once."""
        self._next = 0.0


_WORKERS_WARNING = "ingest_workers"


def settle_wills(context: Context, now: Instant) -> None:
    """Mark agents as stale whose last will has passed its settling time."""
    fleet = context.fleet
    for transition in fleet.liveness.apply_wills(fleet.registry.agents, now):
        context.batch.transition(transition)


def watch_workers(context: Context, now: Instant) -> None:
    """Stop the silence timers while an ingest worker is silent; after a lost message each agent gets its full grace."""
    workers, liveness = context.fleet.ingest_workers, context.fleet.liveness
    if workers.take_lost():
        context.fleet.counters["worker_messages_lost"] += 1
        _pause_doors(liveness)
    warnings, silent = context.fleet.warnings, workers.silent(now)
    if silent:
        _pause_doors(liveness)
        named = (
            "1 ingest worker or stand-by is" if len(silent) == 1 else f"{len(silent)} ingest workers or stand-bys are"
        )
        warnings[_WORKERS_WARNING] = f"{named} silent: no agent becomes stale meanwhile, for at most a minute"
    else:
        for door in Door:
            liveness.resume_door(door, now)
        warnings.pop(_WORKERS_WARNING, None)


def _pause_doors(liveness: Liveness) -> None:
    """Stop the silence timers of both doors: a worker takes the messages of either."""
    for door in Door:
        liveness.pause_door(door)


def look_for_silence(context: Context, now: Instant) -> bool:
    """Look at the agents of which it is time, so that a sweep finds few to look at; return whether it is of more."""
    return context.fleet.liveness.turn(context.fleet.registry.agents, now)


def sweep(context: Context, now: Instant) -> bool:
    """Mark silent agents as stale, and check for held-back reports; return whether more may be silent."""
    fleet = context.fleet
    for transition in fleet.liveness.mark_stale(fleet.registry.agents, now):
        context.batch.transition(transition)
    held_back.check(context)
    return fleet.liveness.is_behind


def record_access(context: Context, now: Instant) -> None:
    """Write the last use of the access tokens and sessions that were used since the last run; drop ended sessions."""
    for token in context.fleet.access.used():
        context.batch.changes.access[token.name] = token
    sessions, changed = context.fleet.sessions, context.batch.changes.sessions
    for session in sessions.used():
        changed[session.id] = session
    for session in sessions:
        if not session.is_live(now.wall):
            sessions.close(session.id)
            changed[session.id] = None


class Housekeeping:
    """Prunes the store, and drops state of agents that are idle.

    Args:
        fleet: has the settings of retention, and knows whether the clock may be trusted.
        store: pruned in pieces, once a minute (with a retention below 24 minutes once in a 24th of it, as then no more
            may be deleted at a time), or once a second while more rows are due.
        forget_idle: functions that drop state of idle agents, called once a second; each is given monotonic time.
    """

    def __init__(self, fleet: Fleet, store: Store, forget_idle: Iterable[Callable[[float], None]]) -> None:
        self._fleet = fleet
        self._store = store
        self._forget_idle = tuple(forget_idle)
        self._threats = DeletionBudget(fleet.settings.threat_retention)
        self._ids = DeletionBudget(fleet.settings.id_retention)
        self._interval = max(_CATCH_UP_INTERVAL, min(_HOUSEKEEPING_INTERVAL, self._threats.window, self._ids.window))
        self._next: float | None = None
        self._next_idle = 0.0

    def run(self, now: Instant) -> None:
        """Run the due work, outside the transaction of a batch.

        The first run waits one interval, in which agents may confirm the clock.
        """
        if now.monotonic >= self._next_idle:
            self._next_idle = now.monotonic + _CATCH_UP_INTERVAL
            for forget_idle in self._forget_idle:
                forget_idle(now.monotonic)
        if self._next is None:
            self._fleet.clock_trust.is_trusted(now)
            self._next = now.monotonic + _HOUSEKEEPING_INTERVAL
        if now.monotonic < self._next:
            return
        more = self._may_prune(now) and self._prune(now)
        self._next = now.monotonic + (_CATCH_UP_INTERVAL if more else self._interval)

    def _may_prune(self, now: Instant) -> bool:
        """Return whether the clock may be trusted; a change is logged, and the wait is a warning for operators."""
        trust, warnings = self._fleet.clock_trust, self._fleet.warnings
        if trust.is_trusted(now):
            if warnings.pop(CLOCK_WARNING, None):
                log.info("pruning_continues")
            return True
        difference = trust.difference()
        sentence = _UNCONFIRMED if difference is None else _DISAGREES.format(minutes=round(abs(difference) / 60))
        if warnings.get(CLOCK_WARNING) != sentence:
            warnings[CLOCK_WARNING] = sentence
            log.warning("pruning_waits", reason=sentence)
        return False

    def _prune(self, now: Instant) -> bool:
        """Delete expired rows; return whether more rows can be deleted at once."""
        settings = self._fleet.settings
        try:
            sizes = self._store.sizes()
            threats_left = self._threats.left(sizes.threats, now.monotonic)
            order = PruneOrder(
                now.wall,
                threats_before=now.wall - settings.threat_retention,
                ids_before=now.wall - settings.id_retention,
                history_before=now.wall - settings.history_retention,
                audit_before=now.wall - settings.audit_retention,
                vitals_before=now.wall - VITALS_KEPT_FOR,
                measures_before=now.wall - MEASURES_KEPT_FOR,
                removed_before=now.wall - _REMOVED_AGENT_RETENTION,
                threats=min(_PRUNE_LIMIT, threats_left),
                partition_threats=threats_left,
                ids=min(_PRUNE_LIMIT, self._ids.left(sizes.ids, now.monotonic)),
                rows=_PRUNE_LIMIT,
            )
            pruned = self._store.prune(order)
        except StoreUnavailable as error:
            log.warning("prune_failed", reason=str(error))
            return False
        self._threats.spend(pruned.threats, now.monotonic)
        self._ids.spend(pruned.ids, now.monotonic)
        self._fleet.registry.forget_removed(order.removed_before)
        return _PRUNE_LIMIT in {pruned.threats, pruned.ids} or pruned.other >= _PRUNE_LIMIT
