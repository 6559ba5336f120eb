"""The response to a detected threat: a pure rule over verdict, policy and mode."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agent.events import Verdict
from agent.respond.desired_measures import Span, overlapping, span
from schemas.model import utc
from schemas.policy import Allowlist, PolicySections
from schemas.presence import Mode
from schemas.threats import ResponseTaken, Severity

_LEVELS = tuple(Severity)

MeasureKind = Literal["block", "throttle"]

ACTIONS: dict[MeasureKind, str] = {"block": "block_ip", "throttle": "throttle_ip"}
"""The action in a report for each measure."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The response to report; `target` is the address to block or slow until `until` (epoch seconds), if any.

    The outcome in the response is that of mode learning; in protection only the fence knows it.
    """

    response: ResponseTaken | None
    target: str | None = None
    until: float = 0.0
    measure: MeasureKind = "block"


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
    """Return the response to a threat.

    From `thresholds.autoRespond` on the verdict's target is blocked, if it is vouched (its writer is proven) and
    `response.actions` allows it: for `duration`, and once it was blocked `escalation.repeatThreshold` times, for
    `escalation.repeatBlockDuration`. From `notifyAndWait` on the action is `notify`, if the severity is worth an alert;
    the same holds for a target that is not vouched. A target with logins of its own is throttled instead of blocked.
    The allowlist and the guard's own host are never acted upon. In mode `learning` nothing is done, and the outcome is
    `would_be_taken`.

    Args:
        threat: The verdict.
        sections: The policy in force.
        mode: The mode.
        protected: The spans that are never blocked.
        now: Epoch seconds.
        duration: Seconds of an ordinary block.
        times: The number of earlier blocks of this source.
    """
    source = None if threat.target is None else str(threat.evidence[threat.target])
    thresholds, actions = sections.thresholds, sections.response.actions
    certain = threat.confidence >= thresholds.auto_respond
    allowed = "block_ip" in actions or (threat.throttle and "throttle_ip" in actions)
    if source is not None and certain and threat.target in threat.vouched and allowed:
        spared = _spared(source, sections.allowlist, protected)
        if spared is not None:
            return Decision(ResponseTaken(action="none", target=source, outcome=f"refused: {spared}"))
        escalation = sections.response.escalation
        repeated = times >= escalation.repeat_threshold
        until = now + (escalation.repeat_block_duration if repeated else duration)
        measure: MeasureKind = "throttle" if threat.throttle else "block"
        outcome = "would_be_taken" if mode is Mode.LEARNING else None
        response = ResponseTaken(action=ACTIONS[measure], target=source, outcome=outcome, expires_at=utc(until))
        return Decision(response) if mode is Mode.LEARNING else Decision(response, source, until, measure)
    worth = _LEVELS.index(Severity(threat.severity)) >= _LEVELS.index(sections.alerting.minimum_severity)
    if threat.confidence >= thresholds.notify_and_wait and worth and "notify" in actions:
        outcome = "would_be_taken" if mode is Mode.LEARNING else None  # the report itself is the notification
        return Decision(ResponseTaken(action="notify", target=source, outcome=outcome))
    return Decision(None)


def _spared(source: str, allowlist: Allowlist, protected: Iterable[Span]) -> str | None:
    """Return the reason why an address is never blocked; None if it may be."""
    address = span(source)
    if overlapping(address, (span(allowed) for allowed in allowlist.ips)) is not None:
        return "it is on the allowlist"
    return None if overlapping(address, protected) is None else "it would cut this host off"
