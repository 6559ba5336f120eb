"""The response to a detected threat: a pure rule over verdict, policy and mode."""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.events import Verdict
from agent.respond.desired_measures import Span, overlapping, span
from agent.respond.responder import EnforcementKind
from schemas.model import utc
from schemas.policy import Allowlist, PolicySections
from schemas.presence import Mode
from schemas.threats import ResponseTaken, Severity

_LEVELS = tuple(Severity)

NO_FIREWALL = "this version of the guard sets no firewall; the block is only recorded"
"""The reason in a response why nothing is enforced."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The response to report; `block` is the address to block until `until` (epoch seconds), if any."""

    response: ResponseTaken | None
    block: str | None = None
    until: float = 0.0


def decide(
    threat: Verdict,
    *,
    sections: PolicySections,
    mode: Mode,
    enforcement: EnforcementKind,
    protected: Iterable[Span],
    now: float,
    duration: float,
    times: int,
) -> Decision:
    """Return the response to a threat.

    From `thresholds.autoRespond` on the verdict's target is blocked, if it is vouched (its writer is proven) and
    `response.actions` allows it: for `duration`, and once it was blocked `escalation.repeatThreshold` times, for
    `escalation.repeatBlockDuration`. From `notifyAndWait` on the action is `notify`, if the severity is worth an alert;
    the same holds for a target that is not vouched or should be throttled. The allowlist and the guard's own host are
    never acted upon. In mode `learning` nothing is done, and the outcome is `would_be_taken`.

    Args:
        threat: The verdict.
        sections: The policy in force.
        mode: The mode.
        enforcement: The means of carrying out a block.
        protected: The spans that are never blocked.
        now: Epoch seconds.
        duration: Seconds of an ordinary block.
        times: The number of earlier blocks of this source.
    """
    source = None if threat.target is None else str(threat.evidence[threat.target])
    thresholds, actions = sections.thresholds, sections.response.actions
    certain = threat.confidence >= thresholds.auto_respond and not threat.throttle
    if source is not None and certain and threat.target in threat.vouched and "block_ip" in actions:
        spared = _spared(source, sections.allowlist, protected)
        if spared is not None:
            return Decision(ResponseTaken(action="none", target=source, outcome=f"refused: {spared}"))
        escalation = sections.response.escalation
        repeated = times >= escalation.repeat_threshold
        until = now + (escalation.repeat_block_duration if repeated else duration)
        return _block(source, until, mode, enforcement)
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


def _block(source: str, until: float, mode: Mode, enforcement: EnforcementKind) -> Decision:
    outcome = "taken"
    if mode is Mode.LEARNING or enforcement == "simulated":
        outcome = "would_be_taken"
    elif enforcement == "impossible":
        outcome = f"impossible: {NO_FIREWALL}"
    response = ResponseTaken(action="block_ip", target=source, outcome=outcome, expires_at=utc(until))
    return Decision(response) if mode is Mode.LEARNING else Decision(response, source, until)
