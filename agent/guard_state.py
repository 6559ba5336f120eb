"""The guard's own state: its health, what it enforces, and both in the fields of the status file."""

from collections.abc import Sequence
from typing import Any

from agent.clock import Clock
from agent.guard_parts import GuardParts
from agent.sources import health
from agent.sources.health import SourceHealth
from schemas.presence import Enforced, Mode

_COUNTERS_EVERY = 5.0
"""Seconds between two updates of counters in the status file; states are updated at once."""


class GuardState:
    """Reads a guard's state from its parts.

    Args:
        parts: The parts.
        clock: The host's clocks.
    """

    def __init__(self, parts: GuardParts, clock: Clock) -> None:
        self._parts = parts
        self._clock = clock
        self._shown_states: Sequence[tuple[str, str, str | None]] | None = None
        self._shown: list[dict[str, Any]] = []
        self._shown_until = 0.0
        self._last_enforced = Enforced()
        self._enforced_of: tuple[object, ...] = ()

    @property
    def health(self) -> list[SourceHealth]:
        """The health of the sources, and of the fence where a block does not keep its address out, or `panic` rules."""
        fence, beside = self._parts.enforcement.fence, []
        if fence is not None and fence.stopped and self._parts.enforcement.mode.effective is Mode.PROTECTION:
            beside = [SourceHealth("fence", "stopped", fence.stopped)]
        elif fence is not None and fence.ineffective is not None:
            beside = [SourceHealth("fence", "ineffective", fence.ineffective)]
        return [*self._parts.pipeline.health, *beside]

    def enforced(self) -> Enforced:
        """Return what is enforced now."""
        self._enforced_of = self._parts.enforcement.occasion
        self._last_enforced = self._parts.enforcement.enforced(is_signed=self._parts.policy.is_signed)
        return self._last_enforced

    def _shown_enforced(self) -> dict[str, Any]:
        """Return what is enforced for the status, counted anew after each answer of the fence and each change."""
        before, now = self._enforced_of, self._parts.enforcement.occasion
        if len(before) != len(now) or any(old is not new and old != new for old, new in zip(before, now, strict=True)):
            self.enforced()
        return self._last_enforced.model_dump(mode="json", by_alias=True, exclude_none=True)

    def fields(self) -> dict[str, Any]:
        """Return the session, message and health fields of the status file."""
        enrolled = self._parts.identity.identity.enrolled
        return {
            "agentId": None if enrolled is None else enrolled.agent_id,
            "organizationId": None if enrolled is None else enrolled.organization_id,
            "session": self._parts.identity.identity.session,
            "health": health.overall(self.health),
            "sources": self._sources(),
            "mode": str(self._parts.enforcement.mode.effective),
            "modeWanted": str(self._parts.enforcement.mode.wanted),
            "trialSecondsLeft": self._trial_seconds_left(),
            "enforcement": self._parts.enforcement.kind,
            "enforcementNeeds": self._needs(),
            "enforced": self._shown_enforced(),
            "responses": list(self._parts.enforcement.latest),
            "ignored": dict(self._parts.ignored),
        }

    def _trial_seconds_left(self) -> int | None:
        """Return the time left of a trial, in steps that do not rewrite the status file all the time."""
        left = self._parts.enforcement.mode.seconds_left
        return None if left is None else int(left // _COUNTERS_EVERY * _COUNTERS_EVERY)

    def _needs(self) -> str | None:
        fence = self._parts.enforcement.fence
        return None if fence is None else fence.missing

    def _sources(self) -> list[dict[str, Any]]:
        """Return the source reports; their counters are up to `_COUNTERS_EVERY` seconds old."""
        now, sources = self._clock.monotonic(), self.health
        states = [(source.name, source.state, source.reason) for source in sources]
        if now >= self._shown_until or states != self._shown_states:
            self._shown_states, self._shown_until = states, now + _COUNTERS_EVERY
            self._shown = [report.model_dump(mode="json", by_alias=True) for report in health.reports(sources)]
        return self._shown
