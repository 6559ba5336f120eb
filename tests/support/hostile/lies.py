"""What a malicious broker would like to have believed: for each row one lie, in the right form, with a code of its own.

The broker reads everything, so its lies name true ids and go on where the truth left off. It has no key but its own.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from schemas import message_codes, topics
from schemas.keys import EnrollmentToken, ManagerKeyring, seal, version_statement
from schemas.model import iso
from schemas.policy import default_sections, digest_of
from schemas.topics import Topic

Lie = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Makes a body of what the guard's status says: ids, session, what is in force, what waits."""

FORGER = ManagerKeyring(secrets.token_bytes(32))
"""The keys of a manager that the broker would like to be."""

_FAR = 1_000
_VERSION_OF_LIES = 9_999
BLAMED = "192.0.2.99"
"""An address that attacked nobody."""


def lie(row: Topic, identifier: str, status: Mapping[str, Any]) -> bytes:
    """Return a lie on a topic, coded as its row says, with the broker's own key."""
    below, body = row.below_root(identifier), json.dumps(_LIES[row](status), separators=(",", ":")).encode()
    if row.code == "signature":
        return message_codes.with_signature(FORGER.sign_key, below, body)
    if row.code == "proof":
        return message_codes.with_proof(secrets.token_bytes(32), below, body)
    return message_codes.with_mac(secrets.token_bytes(32), below, body)


def _registration(status: Mapping[str, Any]) -> dict[str, Any]:
    """Somebody who would like to be this host."""
    return {
        "hostname": status["hostname"],
        "os": "Debian 12",
        "arch": "x64",
        "version": "1.0",
        "clientId": status["clientId"],
        "sentAt": iso(time.time() + _FAR),
        "uptime": 1.0,
        "tokenId": EnrollmentToken.new(FORGER.sign_public).token_id,
        "sealedSecret": seal(FORGER.seal_public, secrets.token_bytes(32), status["clientId"]),
    }


def _presence(status: Mapping[str, Any]) -> dict[str, Any]:
    return {"state": "offline", "session": status["session"] + 1, "sentAt": iso(time.time()), "uptime": 1.0}


def _heartbeat(status: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "cpu": 99.0,
        "memory": 99.0,
        "eventsProcessed": 0,
        "mode": "learning",
        "uptime": 1.0,
        "sentAt": iso(time.time()),
        "session": status["session"] + 1,
        "sequence": _FAR,
        "policyVersion": _VERSION_OF_LIES,
        "policyDigest": "0" * 64,
        "outboxSize": 0,
    }


def _threat(status: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(16),
        "agentId": status["agentId"],
        "threat": {"type": "brute_force", "confidence": 99.0, "evidence": {"sourceIp": BLAMED}},
        "timestamp": iso(time.time()),
    }


def _receipt(status: Mapping[str, Any]) -> dict[str, Any]:
    """Whatever waits is stored, or refused for good."""
    waiting = status["outbox"]
    return {"stored": waiting, "refused": [{"id": each, "reason": "no"} for each in waiting]}


def _applied(_status: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": _VERSION_OF_LIES, "digest": "0" * 64, "state": "applied", "sentAt": iso(time.time())}


def _policy(status: Mapping[str, Any]) -> dict[str, Any]:
    """Block nobody, look at nothing."""
    sections = default_sections() | {"monitors": {"enabled": [], "advanced": {}}}
    sections["allowlist"] = {"ips": ["0.0.0.0/0"], "processes": [], "fileHashes": []}
    digest, agent_id = digest_of(sections), status["agentId"]
    statement = version_statement(agent_id, _VERSION_OF_LIES, digest)
    return {
        "version": _VERSION_OF_LIES,
        "digest": digest,
        "updatedAt": iso(time.time()),
        "scope": "agent",
        "agentId": agent_id,
        "versionProof": message_codes.to_base64url(FORGER.sign_key.sign(statement)),
        **sections,
    }


def _blocklist(status: Mapping[str, Any]) -> dict[str, Any]:
    entry = {"kind": "ip", "value": BLAMED}
    return {"organizationId": status["organizationId"], "sequence": _VERSION_OF_LIES, "entries": [entry]}


def _change(status: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "organizationId": status["organizationId"],
        "fromSequence": status["blocklistSequence"],
        "sequence": _VERSION_OF_LIES,
        "added": [{"kind": "ip", "value": BLAMED}],
        "removed": [{"kind": "ip", "value": each["value"]} for each in status["recorded"]],
    }


_LIES: dict[Topic, Lie] = {
    topics.REGISTRATION: _registration,
    topics.PRESENCE: _presence,
    topics.HEARTBEAT: _heartbeat,
    topics.THREATS: _threat,
    topics.RECEIPTS: _receipt,
    topics.POLICY: _policy,
    topics.POLICY_APPLIED: _applied,
    topics.BLOCKLIST: _blocklist,
    topics.BLOCKLIST_CHANGES: _change,
}
