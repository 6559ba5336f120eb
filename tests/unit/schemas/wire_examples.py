"""One message of every kind, written by hand from the contract with all its members set."""

import json
from typing import Any

from schemas import topics
from schemas.blocklist import BlocklistChange, BlocklistSnapshot
from schemas.fleet import FleetEvent
from schemas.model import WireModel
from schemas.policy import Policy, PolicyApplied
from schemas.presence import Heartbeat, ManagerKeys, ManagerPresence, Presence
from schemas.registration import Registration, RegistrationReply, Rejection
from schemas.threats import Receipt, ThreatReport, ThreatReportBatch

AGENT = "ag-0123456789abcdef"
CLIENT = "0123456789abcdef0123456789abcdef"
DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NOW = "2026-01-02T03:04:05.678000Z"

_ENTRY = {
    "kind": "ip",
    "value": "192.0.2.1",
    "reason": "scan",
    "expiresAt": NOW,
    "secondsLeft": 60.5,
    "incidentId": "inc-1",
}
_ENFORCED = {
    "policyVersion": 3,
    "blocklistSequence": 5,
    "set": 7,
    "ineffective": 1,
    "refused": 1,
    "impossible": 0,
    "failed": 0,
    "reasons": [{"value": "192.0.2.254", "reason": "it is a gateway of this host"}],
}

EXAMPLES: dict[type[WireModel], dict[str, Any]] = {
    ManagerPresence: {
        "state": "online",
        "version": "1.0.0",
        "sentAt": NOW,
        "storeId": "store-0123456789abcdef",
        "instance": "0123456789abcdef",
        "since": NOW,
        "epoch": 7,
    },
    ManagerKeys: {
        "signKey": "A" * 43,
        "sealKey": "B" * 42 + "A",
        "sentAt": NOW,
        "accepts": ["threats.batch"],
        "successions": [
            {
                "number": 1,
                "predecessor": "C" * 42 + "A",
                "successor": "A" * 43,
                "issuedAt": NOW,
                "until": NOW,
                "compromised": False,
                "predecessorSignature": "A" * 86,
                "successorSignature": "B" * 85 + "A",
            }
        ],
        "generation": {"number": 1_767_225_600_000, "resendFrom": NOW, "resendWithin": 200.0},
    },
    Registration: {
        "hostname": "srv-01.example",
        "os": "Debian GNU/Linux 12",
        "arch": "x64",
        "version": "1.2.3",
        "organizationId": "acme",
        "clientId": CLIENT,
        "site": "berlin",
        "tags": ["web", "dmz"],
        "addresses": ["192.0.2.1", "2001:db8::1"],
        "gateways": ["192.0.2.254"],
        "sentAt": NOW,
        "uptime": 12.5,
        "tokenId": "tok-1",
        "sealedSecret": "AAAA",
    },
    RegistrationReply: {"clientId": CLIENT, "agentId": AGENT, "organizationId": "default", "session": 7, "sentAt": NOW},
    Rejection: {
        "clientId": CLIENT,
        "digest": DIGEST,
        "error": "unknown_token",
        "reason": "ask for a new token",
        "sentAt": NOW,
    },
    Presence: {"state": "lost", "session": 7, "sentAt": NOW, "uptime": 12.5},
    Heartbeat: {
        "cpu": 12.5,
        "memory": 50.0,
        "eventsProcessed": 10,
        "eventsTotal": 1000,
        "mode": "protection",
        "modeWanted": "protection",
        "trialSecondsLeft": 30.5,
        "uptime": 12.5,
        "sentAt": NOW,
        "session": 7,
        "sequence": 3,
        "policyVersion": 4,
        "policyDigest": DIGEST,
        "policyState": "partial",
        "versionProof": "AAAA",
        "blocklistSequence": 5,
        "outboxSize": 6,
        "outboxDropped": 0,
        "health": "degraded",
        "sources": [
            {
                "name": "file:/var/log/auth.log",
                "state": "silent",
                "records": 3,
                "understood": 2,
                "lastAt": NOW,
                "reason": "nothing comes",
            }
        ],
        "enforcement": "impossible",
        "enforced": _ENFORCED,
        "logins": [{"sourceIp": "192.0.2.1", "user": "bob", "at": NOW, "guessed": True}],
        "receiptMark": "1767225600000.0a.7.A-_",
    },
    ThreatReport: {
        "id": "0198a3c0-0000-7000-8000-000000000000",
        "agentId": AGENT,
        "threat": {
            "type": "brute_force",
            "confidence": 92.5,
            "evidence": {"sourceIp": "192.0.2.1", "pid": 1, "other_key": [None, True, {"a": 1.5}]},
            "severity": "high",
            "technique": "T1110.001",
            "ruleId": "sshd-1",
            "count": 5,
            "firstSeen": NOW,
            "lastSeen": NOW,
            "vouched": ["sourceIp"],
        },
        "response": {
            "action": "block_ip",
            "target": "192.0.2.1",
            "outcome": "blocked",
            "expiresAt": NOW,
            "connections": 2,
        },
        "timestamp": NOW,
    },
    ThreatReportBatch: {
        "reports": [
            {
                "id": f"t-{number}",
                "agentId": AGENT,
                "threat": {"type": "port_scan", "confidence": 80.0, "evidence": {}, "severity": "low", "count": 1},
                "timestamp": NOW,
            }
            for number in (1, 2)
        ],
        "resent": True,
    },
    Receipt: {
        "stored": ["t-1", "t-2"],
        "refused": [{"id": "t-3", "reason": "no agent"}],
        "deferred": [{"ids": ["t-4"], "retryAfter": 1.5}],
        "sentAt": NOW,
        "generation": 1_767_225_600_000,
        "mark": "1767225600000.0a.7.A-_",
    },
    Policy: {
        "version": 3,
        "digest": DIGEST,
        "updatedAt": NOW,
        "scope": "agent",
        "agentId": AGENT,
        "organizationId": "acme",
        "expiresAt": NOW,
        "versionProof": "AAAA",
        "sentAt": NOW,
        "secondsLeft": {"192.0.2.1": 60.0},
        "thresholds": {"autoRespond": 85.0, "notifyAndWait": 50.0},
        "blocklist": {
            "ips": ["192.0.2.0/24", {"value": "192.0.2.1", "reason": "x", "expiresAt": NOW, "incidentId": "inc-1"}],
            "domains": ["evil.example", {"value": "*.evil.example", "reason": "x"}],
            "fileHashes": [DIGEST, {"value": DIGEST[:32], "expiresAt": NOW}],
        },
        "allowlist": {"ips": ["2001:db8::/32"], "processes": ["sshd"], "fileHashes": [DIGEST[:40]]},
        "monitors": {"enabled": ["log", "file"], "advanced": {"any_name": {"b": None}}},
        "alerting": {"minimumSeverity": "low", "channels": ["mail"]},
        "response": {
            "actions": ["notify"],
            "escalation": {"repeatThreshold": 3, "repeatBlockDuration": 60},
            "mode": "protection",
        },
        "detection": {"sigma": ["title: x"], "yara": ["rule x {condition: true}"]},
        "rules": [
            {
                "type": "custom",
                "enabled": False,
                "ruleId": "r-1",
                "value": [1],
                "duration": "1h",
                "reason": "x",
                "config": {"any_name": 1},
                "condition": {"a": "b"},
                "action": "notify",
                "severity": "critical",
                "description": "x",
            }
        ],
    },
    PolicyApplied: {
        "version": 3,
        "digest": DIGEST,
        "state": "failed",
        "error": "no room",
        "sentAt": NOW,
        "enforced": _ENFORCED,
        "signKey": "A" * 43,
    },
    BlocklistSnapshot: {
        "organizationId": "acme",
        "sequence": 5,
        "sentAt": NOW,
        "entries": [_ENTRY],
        "never": ["192.0.2.0/28"],
    },
    BlocklistChange: {
        "organizationId": "acme",
        "fromSequence": 4,
        "sequence": 5,
        "sentAt": NOW,
        "added": [_ENTRY],
        "removed": [{"kind": "file_hash", "value": DIGEST}],
        "never": ["192.0.2.1", "2001:db8::/48"],
    },
    FleetEvent: {
        "event": "agent_stale",
        "at": NOW,
        "agentId": AGENT,
        "hostname": "srv-01",
        "organizationId": "acme",
        "data": {"any_name": [None]},
    },
}
"""Wire documents by model."""

LIMITS: dict[type[WireModel], int] = {model: row.limit for row in topics.TABLE for model in row.models}
"""The size limit of each message."""


def altered(model: type[WireModel], path: str, value: Any) -> bytes:
    """Return the example of a model with another value at a dotted path."""
    document = json.loads(json.dumps(EXAMPLES[model]))
    *outer, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    part = document
    for step in outer:
        part = part[step]
    assert last in part or isinstance(last, int)  # the path must name what is there
    part[last] = value
    return json.dumps(document).encode()
