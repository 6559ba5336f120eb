"""What a guard does about a threat that it detected: a pure rule over the verdict, the policy and the mode."""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.events import Verdict
from agent.respond.wanted import Span, overlapping, span
from schemas.model import utc
from schemas.policy import Allowlist, PolicySections
from schemas.presence import Mode
from schemas.threats import ResponseTaken, Severity

_LEVELS = tuple(Severity)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to report, and whom to block until when (epoch seconds), if anybody."""

    response: ResponseTaken | None
    block: str | None = None
    until: float = 0.0


def decide(
    threat: Verdict,
    *,
    sections: PolicySections,
    mode: Mode,
    protected: Iterable[Span],
    now: float,
    duration: float,
    times: int,
) -> Decision:
    """Return what to do.

    From `thresholds.autoRespond` on the verdict's target is blocked, if `response.actions` allows it: for `duration`,
    and once it was blocked `escalation.repeatThreshold` times, for `escalation.repeatBlockDuration`. From
    `notifyAndWait` on a person is told, if the severity is worth an alert; a target that should be throttled is never
    blocked, so a person is told of it too. The allowlist and the guard's own host are never acted upon. In mode
    `learning` nothing is done, and the report says what would have been.

    Args:
        threat: The verdict.
        sections: The policy in force.
        mode: What the guard does with a verdict.
        protected: What is never blocked.
        now: Epoch seconds.
        duration: Seconds of an ordinary block.
        times: How often this source was blocked already.
    """
    source = None if threat.target is None else str(threat.evidence[threat.target])
    thresholds, actions = sections.thresholds, sections.response.actions
    certain = threat.confidence >= thresholds.auto_respond and not threat.throttle
    if source is not None and certain and "block_ip" in actions:
        spared = _spared(source, sections.allowlist, protected)
        if spared is not None:
            return Decision(ResponseTaken(action="none", target=source, outcome=f"not blocked: {spared}"))
        escalation = sections.response.escalation
        repeated = times >= escalation.repeat_threshold
        until = now + (escalation.repeat_block_duration if repeated else duration)
        return _block(source, until, mode)
    worth = _LEVELS.index(Severity(threat.severity)) >= _LEVELS.index(sections.alerting.minimum_severity)
    if threat.confidence >= thresholds.notify_and_wait and worth and "notify" in actions:
        outcome = (
            "waits for a person" if mode is Mode.PROTECTION else "would have waited for a person: mode is learning"
        )
        return Decision(ResponseTaken(action="notify", target=source, outcome=outcome))
    return Decision(None)


def _spared(source: str, allowlist: Allowlist, protected: Iterable[Span]) -> str | None:
    """Return why an address is never blocked, if it is not."""
    address = span(source)
    if overlapping(address, (span(allowed) for allowed in allowlist.ips)) is not None:
        return "it is on the allowlist"
    return None if overlapping(address, protected) is None else "it would cut this host off"


def _block(source: str, until: float, mode: Mode) -> Decision:
    if mode is Mode.LEARNING:
        outcome = "would have been taken: mode is learning"
        return Decision(ResponseTaken(action="block_ip", target=source, outcome=outcome, expires_at=utc(until)))
    taken = ResponseTaken(action="block_ip", target=source, outcome="taken", expires_at=utc(until))
    return Decision(taken, source, until)
