"""Verification of managed requests: the manager's signed policies and blocklists, checked byte for byte."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, NamedTuple

from fence import ed25519
from fence.addresses import Network, parse

_SIGNATURE = b',"signature":"'
_SIGNATURE_TAIL = len(_SIGNATURE) + 86 + 2
_ENTRIES = 10_200
_NEVER = 1_000
_NO_ADDRESS = "it is no address"
_ORGANIZATION = re.compile(r"[A-Za-z0-9._-]{1,64}")

Kind = Literal["policy", "snapshot", "change"]


class UntrustedRequest(Exception):  # noqa: N818 -- a refusal, not a fault
    """A refused managed request; the message gives the reason."""


class ManagedEntry(NamedTuple):
    """One address of a managed request; `left` is in seconds from the signing, None without an end."""

    network: Network
    reason: str
    left: float | None


class ManagedRequest:
    """A verified managed request.

    Attributes:
        kind: a policy, the snapshot of a blocklist, or a change of one.
        number: the policy's version or the blocklist's sequence.
        before: the sequence that a change starts from.
        sent_at: the time of signing, in seconds since 1970 on the manager's clock; None from an older manager.
        entries: the addresses to block.
        removed: the addresses that a change removes.
        exempt: the policy's allowlist, or the blocklist's `never`; None if the message has no such member.
        refused: the values that cannot be taken, with the reasons.
        organization: the organization of the agent, as its policy names it; empty where it names none.
        key: the public key that signed it.
    """

    def __init__(self, kind: Kind, number: int, sent_at: float | None) -> None:
        self.kind = kind
        self.number = number
        self.before: int | None = None
        self.sent_at = sent_at
        self.entries: list[ManagedEntry] = []
        self.removed: list[Network] = []
        self.exempt: list[Network] | None = None
        self.refused: dict[str, str] = {}
        self.organization = ""
        self.key = b""


def verify(topic: str, payload: bytes, keys: Sequence[bytes], agent_id: str, organization_id: str) -> ManagedRequest:
    """Verify and parse a managed request.

    Args:
        topic: the topic below the root, which the signature covers.
        payload: the unchanged bytes of the message.
        keys: the manager's public keys.
        agent_id: the agent whose policy is accepted.
        organization_id: the organization whose blocklist is accepted.

    Raises:
        UntrustedRequest: the message is not for this host, not signed by the manager, or malformed.
    """
    if not keys:
        raise UntrustedRequest("fence.conf names no sign_keys: run `panguard guard install` with the enrollment token")
    kinds: dict[str, Kind] = {
        f"agents/{agent_id}/policy": "policy",
        f"organizations/{organization_id}/blocklist": "snapshot",
        f"organizations/{organization_id}/blocklist/changes": "change",
    }
    kind = kinds.get(topic)
    if kind is None:
        raise UntrustedRequest("the topic is not this agent's policy nor its organization's blocklist")
    covered, tail = payload[:-_SIGNATURE_TAIL], payload[-_SIGNATURE_TAIL:]
    key = _signer(topic, covered, tail, keys)
    if key is None:
        raise UntrustedRequest(
            "the signature is not the manager's, by sign_keys in fence.conf: after an enrollment at another manager run"
            " `panguard guard install` with its token"
        )
    try:
        document = json.loads(payload)
        managed = _policy(document, agent_id) if kind == "policy" else _blocklist(document, kind, organization_id)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UntrustedRequest(f"the message cannot be read: {error}") from error
    managed.key = key
    return managed


def _signer(topic: str, covered: bytes, tail: bytes, keys: Sequence[bytes]) -> bytes | None:
    if not (tail.startswith(_SIGNATURE) and tail.endswith(b'"}')):
        return None
    text = tail[len(_SIGNATURE) : -2]
    with suppress(ValueError):
        signature = urlsafe_b64decode(text + b"==")
        statement = topic.encode() + b"\0" + covered
        return next((key for key in keys if ed25519.verify(key, signature, statement)), None)
    return None


def _policy(document: dict[str, Any], agent_id: str) -> ManagedRequest:
    if document["agentId"] != agent_id:
        raise UntrustedRequest("it is the policy of another agent")
    sent_at = _moment(document.get("sentAt") or document.get("updatedAt"))
    managed = ManagedRequest("policy", _number(document["version"]), sent_at)
    managed.organization = _organization(document.get("organizationId"))
    lefts = document.get("secondsLeft") or {}
    entries = document["blocklist"]["ips"]
    for entry in entries[:_ENTRIES]:
        value = entry if isinstance(entry, str) else entry["value"]
        given = {} if isinstance(entry, str) else entry
        _take(managed, str(value), {**given, "secondsLeft": lefts.get(value, given.get("secondsLeft"))})
    _refuse_excess(managed, entries)
    managed.exempt = _parsed(document["allowlist"]["ips"], managed.refused)
    return managed


def _blocklist(document: dict[str, Any], kind: Kind, organization_id: str) -> ManagedRequest:
    if document["organizationId"] != organization_id:
        raise UntrustedRequest("it is the blocklist of another organization")
    managed = ManagedRequest(kind, _number(document["sequence"]), _moment(document.get("sentAt")))
    entries = document.get("entries", []) if kind == "snapshot" else document.get("added", [])
    for entry in entries[:_ENTRIES]:
        if entry.get("kind") == "ip":
            _take(managed, str(entry["value"]), entry)
    _refuse_excess(managed, entries)
    if kind == "change":
        managed.before = _number(document["fromSequence"])
        gone = [entry["value"] for entry in document.get("removed", ()) if entry.get("kind") == "ip"]
        managed.removed = _parsed(gone, managed.refused)
    if "never" in document:
        never = document["never"]
        managed.exempt = _parsed(never[:_NEVER], managed.refused)
        for value in never[_NEVER:]:
            managed.refused[str(value)[:64]] = f"the fence exempts at most {_NEVER} networks"
    return managed


def _take(managed: ManagedRequest, value: str, entry: dict[str, Any]) -> None:
    try:
        network = parse(value)
    except ValueError:
        managed.refused[value[:64]] = _NO_ADDRESS
        return
    left = entry.get("secondsLeft")
    expires_at = _moment(entry.get("expiresAt"))
    if left is None and expires_at is not None and managed.sent_at is not None:
        left = expires_at - managed.sent_at
    elif left is None and expires_at is not None:
        raise ValueError("an entry with expiresAt needs secondsLeft or the message's sentAt")
    managed.entries.append(
        ManagedEntry(network, str(entry.get("reason") or "")[:256], None if left is None else float(left))
    )


def _refuse_excess(managed: ManagedRequest, entries: list[Any]) -> None:
    for entry in entries[_ENTRIES:]:
        value = entry["value"] if isinstance(entry, dict) else entry
        managed.refused[str(value)[:64]] = f"the fence takes at most {_ENTRIES} entries of a message"


def _parsed(values: Any, refused: dict[str, str]) -> list[Network]:
    networks = []
    for value in values:
        try:
            networks.append(parse(value))
        except ValueError:
            refused[str(value)[:64]] = _NO_ADDRESS
    return networks


def _organization(value: Any) -> str:
    """Return an organization's id, which stands in a topic; empty for none."""
    if value is None:
        return ""
    if not isinstance(value, str) or _ORGANIZATION.fullmatch(value) is None:
        raise ValueError("organizationId is no id of an organization")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("a version or sequence is no number")
    return value


def _moment(text: Any) -> float | None:
    return None if text is None else datetime.fromisoformat(str(text)).timestamp()
