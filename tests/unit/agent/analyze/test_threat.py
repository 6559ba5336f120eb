"""How a detection is judged."""

import pytest

from agent.analyze.threat import DetectedThreat, brute_force_threat
from agent.detect.brute_force import Detection

DETECTION = Detection("192.0.2.7", count=5, first_seen=1.0, last_seen=4.0, users=("root", "admin"))


def with_count(count: int, last_login: float | None = None) -> DetectedThreat:
    """The threat of that many failures."""
    return brute_force_threat(Detection("192.0.2.7", count, 0.0, 0.0, ("root",), last_login))


def test_threat_tells_what_the_wire_asks_for() -> None:
    """Type, technique, rule, times and evidence come from the detection."""
    assert brute_force_threat(DETECTION) == DetectedThreat(
        type="brute_force",
        technique="T1110",
        severity="medium",
        confidence=70,
        rule_id="sshd-brute-force",
        count=5,
        first_seen=1.0,
        last_seen=4.0,
        detected_at=4.0,
        evidence={"sourceIp": "192.0.2.7", "targetService": "sshd", "user": "root"},
    )


@pytest.mark.parametrize(
    ("count", "severity"),
    [(5, "medium"), (19, "medium"), (20, "high"), (99, "high"), (100, "critical"), (10_000, "critical")],
)
def test_severity_rises_with_the_count(count: int, severity: str) -> None:
    """An attack is high from 20 failures on and critical from 100 on."""
    assert with_count(count).severity == severity


@pytest.mark.parametrize(
    ("count", "confidence"), [(1, 70), (5, 70), (9, 70), (10, 75), (20, 80), (40, 85), (160, 95), (10**9, 95)]
)
def test_confidence_rises_with_each_doubling(count: int, confidence: int) -> None:
    """Confidence starts at 70, gains 5 at each doubling and ends at 95."""
    assert with_count(count).confidence == confidence


def test_known_address_is_less_certain() -> None:
    """An address that logged in lately gives 20 less confidence and says when it logged in, in ISO 8601."""
    threat = with_count(5, last_login=1_795_341_601.25)
    assert threat.confidence == 50
    assert threat.evidence["lastLogin"] == "2026-11-22T10:00:01.250Z"
