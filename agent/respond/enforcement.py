"""Reconciles the responder's measures with the desired ones, and lifts expired ones."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from agent.clock import Clock
from agent.events import Verdict
from agent.logs import EventLog
from agent.policy.policy_store import Effective
from agent.respond.decision import decide
from agent.respond.desired_measures import (
    DesiredMeasures,
    desired_measures,
    from_policy,
    next_expiry,
    protected_spans,
    span,
)
from agent.respond.own_blocks import OwnBlocks
from agent.respond.responder import EnforcementKind, Kind, Measure, Responder, ResponderError
from schemas.policy import PolicySections
from schemas.presence import Mode
from schemas.threats import ResponseTaken

_log = EventLog("enforcement")

_AT_LEAST_EVERY = 60.0
_AFTER_A_FAILURE = 5.0
_NAMED = 20
_NEVER = float("inf")


class Enforcement:
    """Applies the measures of policy, organization blocklist and own decisions.

    Expiry is in wall-clock time and checked at least every minute, so after a clock step a measure ends at most a
    minute late.

    Args:
        responder: Carries out measures.
        own: The guard's own blocks.
        organization: Returns the entries of the organization's blocklist.
        mode: The mode.
        protected: Addresses that are never blocked: the host's own, its gateways.
        duration: Seconds of an ordinary own block.
        clock: The host's clocks.
    """

    def __init__(
        self,
        *,
        responder: Responder,
        own: OwnBlocks,
        organization: Callable[[], Iterable[Measure]],
        mode: Mode,
        protected: Iterable[str],
        duration: float,
        clock: Clock,
    ) -> None:
        self._responder = responder
        self._own = own
        self._organization = organization
        self._mode = mode
        self._protected = protected_spans(protected)
        self._duration = duration
        self._clock = clock
        self._policy = Effective(PolicySections())
        self._in_force = {(measure.kind, measure.value): measure for measure in responder.in_force()}
        self._set: dict[Kind, Callable[[Measure], None]] = {
            "ip": responder.block_address,
            "domain": responder.block_domain,
            "file_hash": responder.quarantine_hash,
        }
        self._lift: dict[Kind, Callable[[str], None]] = {
            "ip": responder.unblock_address,
            "domain": responder.unblock_domain,
            "file_hash": responder.release_hash,
        }
        self.due = _NEVER

    @property
    def kind(self) -> EnforcementKind:
        """The means of carrying out measures."""
        return self._responder.enforcement

    @property
    def measures(self) -> list[Measure]:
        """The current measures."""
        return list(self._in_force.values())

    @property
    def sections(self) -> PolicySections:
        """The sections of the current policy; the defaults once it has expired."""
        end = self._policy.expires_at
        return self._policy.sections if end is None or self._clock.wall() < end else PolicySections()

    def protect(self, address: str) -> None:
        """Protect the address of the broker or manager from blocks."""
        if span(address) not in self._protected:
            self._protected = (*self._protected, span(address))

    def obey(self, policy: Effective) -> list[str]:
        """Apply a policy; return an error message for each part that failed."""
        self._policy = policy
        errors = self.refresh()
        if policy.sections.detection.sigma or policy.sections.detection.yara:
            errors.append("detection: this guard has no engine for rule packs yet")
        return errors

    def refresh(self) -> list[str]:
        """Reconcile the measures with the desired ones; return an error message for each failure."""
        goal = self._goal()
        gone = self._in_force.keys() - goal.measures.keys()
        new = [measure for key, measure in goal.measures.items() if self._in_force.get(key) != measure]
        failures = self._change(gone, new) if gone or new else []
        self._look_again(goal, _AFTER_A_FAILURE if failures else _AT_LEAST_EVERY)
        return goal.refused + failures

    def _change(self, gone: AbstractSet[tuple[Kind, str]], new: Sequence[Measure]) -> list[str]:
        failures: list[str] = []
        self._log_change(gone, new)
        try:
            with self._responder.together():
                for kind, value in gone:
                    failures += self._try_to_lift(kind, value)
                for measure in new:
                    failures += self._try_to_set(measure)
        except ResponderError as error:
            self._in_force = {(measure.kind, measure.value): measure for measure in self._responder.in_force()}
            failures.append(self._failed("all entries", error))
        return failures

    def _log_change(self, gone: AbstractSet[tuple[Kind, str]], new: Sequence[Measure]) -> None:
        """Log each measure, or only their number for a large change."""
        if len(gone) + len(new) > _NAMED:
            _log.info("measures_changing", to_set=len(new), to_lift=len(gone), mode=self._mode)
            return
        for kind, value in gone:
            _log.info("measure_lifting", kind=kind, value=value)
        for measure in new:
            _log.info("measure_setting", kind=measure.kind, value=measure.value, reason=measure.reason, mode=self._mode)

    def _look_again(self, goal: DesiredMeasures, longest: float) -> None:
        """Set the next deadline: the first expiry, or `longest` seconds from now if that is earlier."""
        now, end = self._clock.wall(), self._policy.expires_at
        wait = min(next_expiry(goal.measures.values()) - now, longest)
        if end is not None and end > now:
            wait = min(wait, end - now)
        self.due = self._clock.monotonic() + max(wait, 0.0)

    def respond(self, threat: Verdict, past: bool = False) -> ResponseTaken | None:
        """Respond to a detected threat according to policy and mode; return the response to report.

        A failed block raises nothing; the returned response states the failure.

        Args:
            threat: The threat.
            past: The threat was found while looking back at the first start, so no action is taken.
        """
        now = self._clock.wall()
        source = "" if threat.target is None else str(threat.evidence[threat.target])
        times = self._own.times(source)
        decision = decide(
            threat,
            sections=self.sections,
            mode=Mode.LEARNING if past else self._mode,
            enforcement=self.kind,
            protected=self._protected,
            now=now,
            duration=self._duration,
            times=times,
        )
        if decision.block is None:
            return decision.response
        try:
            self._own.add(decision.block, f"{threat.type}, {threat.count} times", now, decision.until)
            self.refresh()
        except sqlite3.Error:
            _log.exception("block_not_kept", value=decision.block)
        if ("ip", decision.block) in self._in_force or decision.response is None:
            return decision.response
        return decision.response.model_copy(update={"outcome": "failed: the block could not be recorded"})

    def tick(self, now: float) -> None:
        """Lift expired measures."""
        if now >= self.due:
            self.refresh()

    def _goal(self) -> DesiredMeasures:
        sections, now = self.sections, self._clock.wall()
        measures = [*from_policy(sections.blocklist), *self._organization(), *self._own.measures(now)]
        return desired_measures(measures, sections.allowlist, self._protected, now)

    def _try_to_set(self, measure: Measure) -> list[str]:
        try:
            self._set[measure.kind](measure)
        except ResponderError as error:
            return [self._failed(measure.value, error)]
        self._in_force[measure.kind, measure.value] = measure
        return []

    def _try_to_lift(self, kind: Kind, value: str) -> list[str]:
        try:
            self._lift[kind](value)
        except ResponderError as error:
            return [self._failed(value, error)]
        del self._in_force[kind, value]
        return []

    @staticmethod
    def _failed(value: str, error: ResponderError) -> str:
        _log.error("measure_failed", value=value, reason=str(error))
        return f"blocklist: {value}: {error}"
