"""The guard's verdict on a detection: what kind of threat it is, how severe and how certain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from agent.detect.brute_force import Detection

Severity = Literal["low", "medium", "high", "critical"]

_HIGH_FROM = 20
_CRITICAL_FROM = 100

_FIRST_COUNT = 5
_CONFIDENCE_AT_FIRST = 70
_CONFIDENCE_PER_DOUBLING = 5
_CONFIDENCE_AT_MOST = 95
_KNOWN_SOURCE = 20


@dataclass(frozen=True, slots=True)
class DetectedThreat:
    """A threat as a guard reports it, before it has an id. Times are epoch seconds UTC.

    Attributes:
        type: The kind of threat.
        technique: Its MITRE ATT&CK id.
        severity: low, medium, high or critical.
        confidence: 0 to 100.
        rule_id: The rule that found it.
        count: How many events it stands for.
        first_seen: The first of them.
        last_seen: The latest of them.
        detected_at: When the rule was met: the time of the event that met it.
        evidence: Named as on the wire (`sourceIp`, `targetService`, `user`, `lastLogin`); unknown ones are absent.
    """

    type: str
    technique: str
    severity: Severity
    confidence: int
    rule_id: str
    count: int
    first_seen: float
    last_seen: float
    detected_at: float
    evidence: Mapping[str, str]


def brute_force_threat(detection: Detection) -> DetectedThreat:
    """Judges a brute-force attack on a login service (T1110).

    Severity is medium, high from 20 failures on, critical from 100 on. Confidence is 70 at 5 failures and 5 more for
    each doubling (75 at 10, 80 at 20, …), at most 95; it is 20 lower for an address that logged in within seven days,
    which is more likely somebody who forgot a password.
    """
    evidence = {"sourceIp": detection.address, "targetService": detection.target_service}
    if detection.users:
        evidence["user"] = detection.users[0]
    if detection.last_login is not None:
        evidence["lastLogin"] = _iso(detection.last_login)
    return DetectedThreat(
        type="brute_force",
        technique="T1110",
        severity=_severity(detection.count),
        confidence=_confidence(detection),
        rule_id=f"{detection.target_service}-brute-force",
        count=detection.count,
        first_seen=detection.first_seen,
        last_seen=detection.last_seen,
        detected_at=detection.last_seen,
        evidence=evidence,
    )


def _severity(count: int) -> Severity:
    if count >= _CRITICAL_FROM:
        return "critical"
    return "high" if count >= _HIGH_FROM else "medium"


def _confidence(detection: Detection) -> int:
    doublings = max(0, (detection.count // _FIRST_COUNT).bit_length() - 1)
    certain = min(_CONFIDENCE_AT_MOST, _CONFIDENCE_AT_FIRST + _CONFIDENCE_PER_DOUBLING * doublings)
    return certain if detection.last_login is None else certain - _KNOWN_SOURCE


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
