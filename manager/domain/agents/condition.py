"""Condition of an agent by its own statement: health, sources, mode on trial, and measures that its host enforces."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from manager.domain.agents.shared_values import remembering, sharing
from schemas.decoding import decode
from schemas.fast_heartbeats import AnyEnforced, AnySource, FastEnforced
from schemas.limits import MESSAGE_LIMIT
from schemas.presence import Enforced, HealthState, Mode

SOURCES_LIMIT = 2048
"""Bytes of an agent's kept source reports (the contract, section 5, "Health")."""

_ENFORCING = frozenset({"nftables", "route"})


class ConditionChange(NamedTuple):
    """A change of an agent's condition, as a fleet event."""

    event: str
    data: dict[str, Any]


class UnenforcedMeasure(NamedTuple):
    """One measure that does not hold, with the reason."""

    value: str
    reason: str


class EnforcedMeasures(NamedTuple):
    """The measures that an agent's host enforces (`schemas.presence.Enforced`); equal ones are one object."""

    policy_version: int | None
    blocklist_sequence: int | None
    set: int
    ineffective: int
    refused: int
    impossible: int
    failed: int
    reasons: tuple[UnenforcedMeasure, ...]

    @classmethod
    def of(cls, stated: AnyEnforced) -> "EnforcedMeasures":
        """Return the measures of a message."""
        return _of_fast(stated) if isinstance(stated, FastEnforced) else _measures(stated)

    @classmethod
    def of_json(cls, text: str) -> "EnforcedMeasures":
        """Return stored measures.

        Raises:
            DecodeError: the text is damaged.
        """
        return cls.of(decode(Enforced, text.encode(), MESSAGE_LIMIT))

    def record(self) -> dict[str, Any]:
        """Return the members of the API's record; what is not stated is left out."""
        numbers = {"policyVersion": self.policy_version, "blocklistSequence": self.blocklist_sequence}
        counts = {name: getattr(self, name) for name in ("set", "ineffective", "refused", "impossible", "failed")}
        stated = {name: number for name, number in numbers.items() if number is not None}
        return {**stated, **counts, "reasons": [each._asdict() for each in self.reasons]}

    def to_json(self) -> str:
        """Return the stored form, which `of_json` reads."""
        return json.dumps(self.record(), separators=(",", ":"), ensure_ascii=False)


def _measures(stated: AnyEnforced) -> EnforcedMeasures:
    reasons = tuple(UnenforcedMeasure(each.value, each.reason) for each in stated.reasons)
    numbers = (stated.policy_version, stated.blocklist_sequence)
    counts = (stated.set, stated.ineffective, stated.refused, stated.impossible, stated.failed)
    return _shared(EnforcedMeasures(*numbers, *counts, reasons))


def _length_of(measures: EnforcedMeasures | FastEnforced) -> int:
    return sum([len(each.value) + len(each.reason) for each in measures.reasons]) if measures.reasons else 0


_of_fast = remembering(_measures, _length_of)
_shared: Callable[[EnforcedMeasures], EnforcedMeasures] = sharing(_length_of)


class Condition(Struct, frozen=True, gc=False):
    """The newest statement of an agent. A member is None where the agent does not state it, as older guards do.

    Many agents state the same, so a fleet shares these objects (`shared`): a change makes another one.
    """

    health: str | None = None
    enforcement: str | None = None
    mode_wanted: str | None = None
    trial_seconds_left: float | None = None
    enforced: EnforcedMeasures | None = None
    degradation_untold: bool = False
    """Whether it is degraded and the limit on events has kept that from being announced."""
    ineffective_untold: int = 0
    """The number of ineffective measures that the limit on events has kept from being announced."""

    def shared(self) -> "Condition":
        """Return an equal condition, of which the fleet has one object."""
        return _shared_condition(self)

    def changed(self, **members: Any) -> "Condition":
        """Return the condition with other values of some members."""
        return replace(self, **members).shared()

    def stating(
        self, health: HealthState | None, enforcement: str | None, mode_wanted: str | None, trial: float | None
    ) -> "Condition":
        """Return the condition after a heartbeat.

        Args:
            health: whether all sources are well.
            enforcement: the means by which the host enforces measures.
            mode_wanted: the mode that the policy or the host asks for.
            trial: seconds until an unconfirmed protection falls back.
        """
        untold = self.degradation_untold and not (health == "ok" and self.health == "degraded")
        if (health, enforcement, mode_wanted, trial, untold) == (
            self.health, self.enforcement, self.mode_wanted, self.trial_seconds_left, self.degradation_untold,
        ):  # fmt: skip
            return self
        return Condition(
            health, enforcement, mode_wanted, trial, self.enforced, untold, self.ineffective_untold
        ).shared()

    def enforcing(self, enforced: AnyEnforced | None) -> "Condition":
        """Return the condition with other measures that the host enforces; it counts those not announced."""
        before = 0 if self.enforced is None else self.enforced.ineffective
        now = 0 if enforced is None else enforced.ineffective
        measures = None if enforced is None else EnforcedMeasures.of(enforced)
        untold = max(0, now - before + self.ineffective_untold)
        if measures == self.enforced and untold == self.ineffective_untold:
            return self
        return self.changed(enforced=measures, ineffective_untold=untold)

    def enforces(self) -> bool:
        """Return whether the host enforces measures at all: not where they are simulated or impossible."""
        return self.enforcement in _ENFORCING and self.enforced is not None


def _length_of_condition(condition: Condition) -> int:
    return 0 if condition.enforced is None else _length_of(condition.enforced)


_shared_condition = sharing(_length_of_condition)


def changes_between(
    before: Condition, now: Condition, mode: tuple[str | None, str | None], sources: Sequence[AnySource]
) -> list[ConditionChange]:
    """Return the changes to announce after a heartbeat.

    Args:
        before: the condition before the heartbeat.
        now: the condition that it states.
        mode: the effective mode before and now.
        sources: its reports of the sources.
    """
    changes = []
    if now.health == "degraded" and (before.health != "degraded" or before.degradation_untold):
        unwell = [{"name": each.name, "state": each.state, "reason": each.reason} for each in sources]
        changes.append(
            ConditionChange("agent_degraded", {"sources": [each for each in unwell if each["state"] != "ok"]})
        )
    elif now.health == "ok" and before.health == "degraded" and not before.degradation_untold:
        changes.append(ConditionChange("agent_recovered", {}))
    if mode == (Mode.PROTECTION, Mode.LEARNING) and now.mode_wanted == Mode.PROTECTION:
        changes.append(ConditionChange("mode_reverted", {"mode": Mode.LEARNING, "modeWanted": Mode.PROTECTION}))
    return changes


def unenforced_values(enforced: EnforcedMeasures) -> frozenset[str] | None:
    """Return the values that do not hold on an agent; None if it lists fewer than there are."""
    counted = enforced.ineffective + enforced.refused + enforced.impossible + enforced.failed
    if counted > len(enforced.reasons):
        return None
    return frozenset(each.value for each in enforced.reasons)


class _KeptSource(Struct, rename="camel", omit_defaults=True, gc=False):
    """The members of a source's report that are kept."""

    name: str
    state: str
    records: int
    understood: int
    last_at: datetime | None = None
    reason: str | None = None


_json = msgspec.json.Encoder().encode


def kept_sources(reports: Sequence[AnySource]) -> str:
    """Return the reports as JSON, those that are not well first, as many as there is room for."""
    ordered = [
        _KeptSource(each.name, each.state, each.records, each.understood, each.last_at, each.reason) for each in reports
    ]
    if len(ordered) > 1:
        ordered.sort(key=lambda each: each.state == "ok")
    whole = _json(ordered)
    if len(whole) <= SOURCES_LIMIT:
        return whole.decode()
    sizes = accumulate(len(_json(each)) + len(b",") for each in ordered)
    count = sum(size + 1 <= SOURCES_LIMIT for size in sizes)  # two brackets, and a comma less than reports
    return _json(ordered[:count]).decode()
