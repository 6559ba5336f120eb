"""Reconciles the responder's measures with the desired ones, and lifts expired ones."""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from agent.clock import Clock
from agent.events import Verdict
from agent.logs import EventLog
from agent.manager_time import ManagerTime
from agent.respond.decision import ACTIONS, Decision, decide
from agent.respond.desired_measures import (
    DesiredMeasures,
    Effective,
    SpanIndex,
    desired_measures,
    from_policy,
    lasting,
    next_expiry,
    protected_spans,
    span,
)
from agent.respond.enforced_counts import enforced_counts
from agent.respond.fence import Fence, Outcome, Source
from agent.respond.mode import ModeControl
from agent.respond.own_blocks import OwnBlocks
from agent.respond.responder import EnforcementKind, Kind, Measure, Responder, ResponderError
from schemas.model import iso, utc
from schemas.policy import Blocklist, PolicySections
from schemas.presence import Enforced, Mode
from schemas.succession import TrustedKeys
from schemas.threats import ResponseTaken

_log = EventLog("enforcement")

_AT_LEAST_EVERY = 60.0
_AFTER_A_FAILURE = 5.0
_NAMED = 20
_LIVE = 10.0
_LATEST = 5
_LONGEST_OUTCOME = 1024

NO_FENCE = "there is no fence; the block is only recorded"
"""The reason in a response of a guard without a fence."""

_NEVER = float("inf")


class Enforcement:
    """Applies the measures of policy, organization blocklist and own decisions.

    The responder keeps what is wanted. What holds in the kernel is the fence's: own decisions are requests to it, and
    signed messages of the manager are passed on byte for byte. Times are the manager's, as far as it is known, so a
    wrong wall clock of this host does not move a block's end.

    Args:
        responder: Keeps the wanted measures.
        own: The guard's own blocks.
        organization: Returns the entries of the organization's blocklist.
        mode: Decides the mode.
        protected: Addresses that are never blocked: the host's own, its gateways.
        duration: Seconds of an ordinary own block.
        clock: The host's clocks.
        manager_time: The manager's time.
        fence: Enforces; None while enforcement is simulated.
    """

    def __init__(
        self,
        *,
        responder: Responder,
        own: OwnBlocks,
        organization: Callable[[], Iterable[Measure]],
        mode: ModeControl,
        protected: Iterable[str],
        duration: float,
        clock: Clock,
        manager_time: ManagerTime | None = None,
        fence: Fence | None = None,
    ) -> None:
        self._responder = responder
        self._own = own
        self._organization = organization
        self.mode = mode
        self._protected = protected_spans(protected)
        self._duration = duration
        self._clock = clock
        self._time = ManagerTime(clock) if manager_time is None else manager_time
        self.fence = fence
        self._policy = Effective(PolicySections())
        self._lists: tuple[Blocklist | None, list[Measure]] = (None, [])
        self._lasting: list[Measure] = []
        self._listed = SpanIndex(())
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
        self._refresh_due = _NEVER
        self._effective = mode.effective
        self.latest: deque[dict[str, Any]] = deque(maxlen=_LATEST)
        """The latest responses, newest first, for the status: time, action, target and outcome."""

    @property
    def due(self) -> float:
        """The next deadline, on the monotonic clock."""
        return min(self._refresh_due, _NEVER if self.fence is None else self.fence.due, self.mode.due)

    @property
    def kind(self) -> EnforcementKind:
        """The means of carrying out measures."""
        return self._responder.enforcement if self.fence is None else self.fence.kind

    @property
    def measures(self) -> list[Measure]:
        """The wanted measures."""
        return list(self._in_force.values())

    @property
    def sections(self) -> PolicySections:
        """The sections of the current policy; the defaults once it has expired."""
        end = self._policy.expires_at
        return self._policy.sections if end is None or self._time.now() < end else PolicySections()

    def listed(self, target: str) -> bool:
        """Return whether the policy's or the organization's blocklist contains an address or all of a prefix."""
        return self._listed.covering(span(target)) is not None

    def protect(self, address: str) -> None:
        """Protect the address of the broker or manager from blocks."""
        if span(address) not in self._protected:
            self._protected = (*self._protected, span(address))

    def obey(self, policy: Effective) -> list[str]:
        """Apply a policy; return an error message for each part that failed."""
        self._policy = policy
        self._follow_mode()
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
            _log.info("measures_changing", to_set=len(new), to_lift=len(gone), mode=self.mode.effective)
            return
        for kind, value in gone:
            _log.info("measure_lifting", kind=kind, value=value)
        for measure in new:
            _log.info(
                "measure_setting",
                kind=measure.kind,
                value=measure.value,
                reason=measure.reason,
                mode=self.mode.effective,
            )

    def _look_again(self, goal: DesiredMeasures, longest: float) -> None:
        """Set the next deadline: the first expiry, or `longest` seconds from now if that is earlier."""
        now, end = self._time.now(), self._policy.expires_at
        wait = min(next_expiry(goal.measures.values()) - now, longest)
        if end is not None and end > now:
            wait = min(wait, end - now)
        self._refresh_due = self._clock.monotonic() + max(wait, 0.0)

    def respond(self, threat: Verdict, past: bool = False) -> ResponseTaken | None:
        """Respond to a detected threat according to policy and mode; return the response to report.

        A failed block raises nothing; the returned response states the failure.

        Args:
            threat: The threat.
            past: The threat was found while looking back at the first start, so no action is taken.
        """
        response = self._respond(threat, past=past)
        if response is not None:
            members = response.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"expires_at"})
            self.latest.appendleft({"at": iso(self._clock.wall()), **members})
        return response

    def _respond(self, threat: Verdict, *, past: bool) -> ResponseTaken | None:
        now = self._time.now()
        source = "" if threat.target is None else str(threat.evidence[threat.target])
        decision = decide(
            threat,
            sections=self.sections,
            mode=Mode.LEARNING if past else self.mode.effective,
            protected=self._protected,
            now=now,
            duration=self._duration,
            times=self._own.times(source),
        )
        if decision.target is None or decision.response is None:
            return decision.response
        outcome = self._carry_out(decision, threat, now)
        recorded = outcome.measure == "throttle" or ("ip", decision.target) in self._in_force
        if outcome.word == "would_be_taken" and not recorded:
            outcome = Outcome("failed", "the block could not be recorded")
        return decision.response.model_copy(
            update={
                "action": ACTIONS[outcome.measure],
                "outcome": outcome.text[:_LONGEST_OUTCOME],
                "expires_at": decision.response.expires_at
                if outcome.seconds is None
                else utc(min(decision.until, now + outcome.seconds)),
            }
        )

    def _carry_out(self, decision: Decision, threat: Verdict, now: float) -> Outcome:
        """Have the fence carry out a decision; record it where nothing enforces."""
        target, reason = str(decision.target), f"{threat.type}, {threat.count} times"
        if self.fence is None:
            outcome = Outcome("would_be_taken", measure=decision.measure)
            if self.kind == "impossible":
                outcome = Outcome("impossible", NO_FENCE, decision.measure)
        else:
            outcome = self._still_through(target, threat) or self.fence.decide(
                decision.measure,
                target,
                decision.until - now,
                reason,
                ssh=threat.evidence.get("targetService") == "sshd",
            )
        if outcome.word in {"taken", "would_be_taken", "impossible"} and outcome.measure == "block":
            try:
                until = decision.until if outcome.seconds is None else min(decision.until, now + outcome.seconds)
                self._own.add(target, reason, now, until)
                self.refresh()
            except sqlite3.Error:
                _log.exception("block_not_kept", value=target)
        return outcome

    def _still_through(self, target: str, threat: Verdict) -> Outcome | None:
        """Return `ineffective` if an address that the fence blocks has failed again just now."""
        live = abs(self._clock.wall() - threat.detected_at) < _LIVE
        if self.fence is None or self.fence.missing is not None or not live or not self._is_blocked(target):
            return None
        reason = self.fence.still_through(target)
        return None if reason is None else Outcome("ineffective", reason)

    def _is_blocked(self, target: str) -> bool:
        address = span(target)
        return any(measure.kind == "ip" and span(measure.value).overlaps(address) for measure in self.measures)

    def forward(self, source: Source, topic: str, payload: bytes, number: int) -> None:
        """Pass a verified message of the manager on to the fence, unless the mode is learning or the fence has it."""
        fence = self.fence
        if fence is not None and self._acts and number != fence.number(source):
            fence.take(source, topic, payload)

    def trust(self, trusted: TrustedKeys | None) -> None:
        """Pass the manager's signing keys that this guard trusts on to the fence, in mode learning too."""
        if self.fence is not None:
            self.fence.trust(trusted)

    def lacks(self, source: Source, number: int | None) -> bool:
        """Return whether the fence enforces another policy or blocklist than this one.

        A greater number at the fence is of an earlier enrollment; the fence says whether it takes the smaller one.
        """
        fence = self.fence
        if fence is None or not self._acts or not number:
            return False
        known = fence.number(source)
        return number > known or (number < known and not fence.has_refused(source))

    @property
    def _acts(self) -> bool:
        return self.mode.effective is Mode.PROTECTION and self.fence is not None and self.fence.missing is None

    def tick(self, now: float) -> None:
        """Lift expired measures, check the fence, and follow the mode."""
        if now >= self._refresh_due:
            self.refresh()
        if self.fence is not None and now >= self.fence.due:
            self.fence.check(now)
            self._compare_own()
        self._follow_mode()

    def _compare_own(self) -> None:
        """End the own blocks that the fence does not list: they expired, were lifted, or never held.

        Throttles are the fence's alone; the guard keeps none.
        """
        if self.fence is None or self.fence.missing is not None:
            return
        now = self._time.now()
        if self.fence.has_own_blocks(measure.value for measure in self._own.measures(now)):
            return
        listed = self.fence.own_blocks()
        if listed is not None:
            self._own.end_all_but(listed, now)
            self.refresh()

    def _follow_mode(self) -> None:
        """Let the mode follow policy, trial and confirmation; in learning nothing stays in the kernel."""
        mode, fence = self.mode, self.fence
        mode.set_policy(self.sections.response.mode, self._policy.version)
        if fence is None:
            mode.tick(enforces=False)
        else:
            if fence.state.get("confirmed") and fence.in_trial:
                mode.confirm()
            managed = fence.number("policy") or fence.number("blocklist")
            mode.tick(enforces=fence.missing is None, holds_managed=bool(managed and fence.holds))
            left = mode.seconds_left
            if left is None:
                fence.in_trial = False
            elif not fence.in_trial and fence.missing is None:
                fence.in_trial = (mode.resumed and fence.knows_trial) or fence.begin_trial(left)
            if mode.effective is Mode.LEARNING and fence.holds:
                fence.release()
        if mode.effective is not self._effective:
            self._effective = mode.effective
            _log.info("mode", effective=mode.effective, wanted=mode.wanted)

    def enforced(self, *, is_signed: bool) -> Enforced:
        """Return the measures that hold on this host, and why others do not.

        Args:
            is_signed: Policies come signed, so that the fence can take them.
        """
        if self.mode.effective is Mode.LEARNING:
            return Enforced()
        unsigned = None if is_signed else from_policy(self.sections.blocklist)
        return enforced_counts(self.measures, self.fence, self._policy.version, unsigned)

    @property
    def occasion(self) -> tuple[object, ...]:
        """A value that changes with each answer of the fence and with the number of wanted measures."""
        fence = self.fence
        beside = () if fence is None else (fence.state, fence.missing)
        return (self.mode.effective, self._policy.version, len(self._in_force), *beside)

    def _goal(self) -> DesiredMeasures:
        sections, now = self.sections, self._time.now()
        if self._lists[0] is not sections.blocklist:  # it is read again each minute: nothing is made anew for that
            self._lists = (sections.blocklist, from_policy(sections.blocklist))
        lists = [*self._lists[1], *self._organization()]
        left = lasting(lists, now)
        if left != self._lasting:
            self._lasting = left
            self._listed = SpanIndex(span(entry.value) for entry in left if entry.kind == "ip")
        return desired_measures([*lists, *self._own.measures(now)], sections.allowlist, self._protected, now)

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
