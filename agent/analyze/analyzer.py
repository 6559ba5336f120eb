"""Converts findings into verdicts: adjusts the confidence by other facts about the target."""

from collections import OrderedDict
from collections.abc import Callable

from agent.events import Finding, Verdict

SECOND_RULE = 5
"""Confidence added if another rule found the same target within `RULE_MEMORY`."""

LISTED = 10
"""Confidence added if the target is on a list of attackers."""

ACQUAINTED = -20
"""Confidence added if persons log in from the target."""

RULE_MEMORY = 86_400.0

_TARGETS = 2_000
_RULES = 8


def _on_no_list(_value: str) -> bool:
    return False


class Analyzer:
    """Converts each finding into a verdict.

    Args:
        listed: Returns whether an address or prefix is on a list of attackers.
    """

    def __init__(self, listed: Callable[[str], bool] = _on_no_list) -> None:
        self._listed = listed
        self._rules: OrderedDict[str, dict[str, float]] = OrderedDict()

    def verdict(self, finding: Finding) -> Verdict:
        """Return the verdict on a finding."""
        confidence = finding.confidence
        if finding.target is not None:
            target = str(finding.evidence[finding.target])
            confidence += SECOND_RULE * self._found_by_another(target, finding) + LISTED * self._listed(target)
        if finding.acquainted:
            confidence += ACQUAINTED
        return Verdict(
            type=finding.type,
            technique=finding.technique,
            severity=finding.severity,
            confidence=max(0, min(100, confidence)),
            rule_id=finding.rule_id,
            count=finding.count,
            first_seen=finding.first_seen,
            last_seen=finding.last_seen,
            detected_at=finding.last_seen,
            evidence=finding.evidence,
            target=finding.target,
            vouched=finding.vouched,
            throttle=finding.throttle,
        )

    def _found_by_another(self, target: str, finding: Finding) -> bool:
        """Record that a rule found a target; return whether another rule found it before."""
        key = (
            f"{bool(finding.vouched)} {target}"  # a finding without proof must not raise the confidence of a proven one
        )
        rules = self._rules.setdefault(key, {})
        self._rules.move_to_end(key)
        if len(self._rules) > _TARGETS:
            self._rules.popitem(last=False)
        rules.pop(finding.rule_id, None)
        others = any(abs(finding.last_seen - at) <= RULE_MEMORY for at in rules.values())
        rules[finding.rule_id] = finding.last_seen
        if len(rules) > _RULES:
            del rules[next(iter(rules))]
        return others
