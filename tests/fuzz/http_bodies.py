"""What earlier clients send over HTTP, in all its shapes, and what is asked of the door beside that."""

import json
from typing import Any

from hypothesis import strategies as st

_EVIDENCE = {"sourceIP": "192.0.2.1", "sha256": "a" * 64, "lastLogin": "2026-01-01T00:00:00Z", "x": [1, {"y": None}]}
_EVENT = {
    "id": "e-1",
    "timestamp": "2026-01-01T00:00:00Z",
    "source": "sshd",
    "severity": "HIGH",
    "category": "T1110.001",
    "description": "many failures",
    "raw": {"line": "text"},
    "host": "srv-01",
    "metadata": _EVIDENCE,
}
_VERDICT = {"conclusion": "malicious", "confidence": 90, "action": "block_ip"}
_PAGE = {
    "id": "t-1",
    "threat": {"type": "brute_force", "confidence": 80, "evidence": _EVIDENCE},
    "response": {"action": "block_ip", "expiresAt": "2026-01-01T00:00:00Z"},
    "timestamp": 1_700_000_000_000,
}
_OURS = {
    **_PAGE,
    "threat": {"type": "brute_force", "confidence": 80, "evidence": {"sourceIp": "192.0.2.1", "ports": [22]}},
    "timestamp": "2026-01-01T00:00:00.125Z",
}
_DETECTED = {
    "type": "T1110",
    "severity": "info",
    "details": _EVIDENCE,
    "timestamp": 1.7e9,
    "sigmaRuleId": "r",
    "confidence": 0.5,
}


def _bodies(*documents: dict[str, Any]) -> st.SearchStrategy[bytes]:
    return st.sampled_from([json.dumps(document).encode() for document in documents])


EVENTS = _bodies(
    _PAGE,
    {"events": [_DETECTED, _DETECTED], "sentAt": "2026-01-01T00:00:00Z"},
    {"threats": [{"event": _EVENT, "verdict": _VERDICT}, _PAGE], "reportedAt": "2026-01-01T00:00:00Z"},
    {"event": _EVENT, "verdict": _VERDICT},
)
PAGE_REPORTS = _bodies(
    {**_OURS, "sentAt": "2026-01-01T00:00:00Z", "reportedAt": "2026-01-01T00:00:00Z"},
    {"threats": [_OURS, _OURS], "sentAt": "2026-01-01T00:00:00Z"},
)
"""Bodies that the fast decoder takes."""
HEARTBEATS = _bodies(
    {},
    {"cpuUsage": 10, "memoryUsageMB": 60.5, "threatCount": 3, "mode": "protection", "policyVersion": 3},
    {"cpu": 1.0, "memory": 2.0, "eventsProcessed": 5, "uptime": 3.5, "sentAt": "2026-01-01T00:00:00Z"},
)
REGISTRATIONS = _bodies(
    {"hostname": "srv-01", "os": "Debian 12", "arch": "x64", "version": "1.4.2", "org_id": "acme", "tags": ["web"]},
)
