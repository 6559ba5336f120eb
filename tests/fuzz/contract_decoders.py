"""What `schemas` reads: messages, codes, ids, tokens, keys."""

import json
from typing import Any

from hypothesis import strategies as st

from agent.policy.policy_store import PolicyHead
from manager.api.routes.access import NewAccessToken, Rotation
from manager.api.routes.agent_changes import AgentChange, AgentsChange, PruneBody
from manager.api.routes.allowlist import NewAllowance
from manager.api.routes.blocks import BlockImportBody, NewBlockBody
from manager.api.routes.incidents import NoteBody, WorkBody
from manager.api.routes.keys import KeyRollback, KeyRotation
from manager.api.routes.notifications import AcknowledgementBody, MuteBody, PauseBody
from manager.api.routes.policy_revisions import ComparisonBody, RollbackBody
from manager.api.routes.responses import ResponseChoiceBody
from manager.api.routes.rule_policies import NewPolicy
from manager.api.routes.session import SignIn
from manager.api.routes.step_down import StepDown
from manager.api.routes.threats import RecognitionBody
from manager.api.routes.tokens import NewToken
from manager.cli.support.replay_settings import ReplaySettings
from schemas import message_codes, topics
from schemas.decoding import DecodeError, decode, validate
from schemas.errors import KeyMaterialError, TokenError, TopicError
from schemas.fast_heartbeats import fast_heartbeat
from schemas.fast_http_heartbeats import fast_http_heartbeat
from schemas.fast_threats import fast_report
from schemas.generations import StoreGeneration
from schemas.http_agents import HttpEvents, HttpHeartbeat, HttpRegistration
from schemas.keys import EnrollmentToken, has_version_proof, public_sign_key, seal
from schemas.limits import MIB
from schemas.loopback import is_loopback
from schemas.model import utc
from schemas.policy import PolicyDocument, PolicyGroup, PolicySections, canonical, digest_of
from schemas.presence import Enforced, Heartbeat, ReportedLogin, SourceReport
from schemas.threats import ThreatReport
from tests import strategies as wire
from tests.fuzz.decoder import Decoder
from tests.fuzz.http_bodies import EVENTS, HEARTBEATS, REGISTRATIONS
from tests.fuzz.place import AGENT, CLIENT, KEYRING, TOKEN, Place
from tests.spoiling import hostile, hostile_json, hostile_text

_AMPLE = 4 * MIB
_DOCUMENTS = st.fixed_dictionaries({}, optional=dict(wire.SECTIONS)).map(
    lambda sections: PolicyDocument(**sections).body()
)
_HEADS = wire.MESSAGES[next(model for row in topics.TABLE for model in row.models if model.__name__ == "Policy")].map(
    lambda policy: policy.body()
)


_MOMENT = utc(1_800_000_000.0)
_HEARTBEATS = wire.MESSAGES[Heartbeat].map(
    lambda heartbeat: heartbeat.model_copy(
        update={
            "sources": [SourceReport(name="journal", state="ok", last_at=_MOMENT)],
            "logins": [ReportedLogin(source_ip="192.0.2.1", user="root", at=_MOMENT)],
            "sent_at": _MOMENT,
        }
    ).body()
)


def _json(*documents: dict[str, Any]) -> st.SearchStrategy[bytes]:
    return st.sampled_from([json.dumps(document).encode() for document in documents])


BODIES = {
    HttpRegistration: REGISTRATIONS,
    HttpHeartbeat: HEARTBEATS,
    HttpEvents: EVENTS,
    PolicyDocument: _DOCUMENTS,
    PolicySections: _DOCUMENTS,
    PolicyHead: _HEADS,
    StoreGeneration: wire.generations.map(lambda generation: generation.body()),
    NewToken: _json({"organizationId": "acme", "site": "b", "tags": ["x"], "expiresAt": "2030-01-01T00:00:00Z"}),
    NewAccessToken: _json({"name": "alice", "role": "viewer", "organizations": ["acme"]}),
    KeyRotation: _json({"compromised": True, "dryRun": True}, {}),
    KeyRollback: _json({"dryRun": True}, {}),
    StepDown: _json({"force": True}, {}),
    Rotation: _json({"expiresAt": "2030-01-01T00:00:00Z"}, {}),
    SignIn: _json({"token": "pga_x"}),
    NewAllowance: _json({"value": "10.0.0.0/8", "kind": "ip", "organizationId": "acme"}),
    NewBlockBody: _json({"value": "198.51.100.9", "seconds": 3600, "reason": "seen", "organization": "acme"}),
    BlockImportBody: _json({"blocks": [{"value": "198.51.100.0/24", "seconds": 60}], "dryRun": True, "force": True}),
    AgentChange: _json({"tags": ["web"], "site": "bonn", "organization": "acme"}, {"site": None}),
    AgentsChange: _json({"agentIds": ["ag-0123456789abcdef"], "addTags": ["web"], "site": None, "dryRun": True}),
    PruneBody: _json({"olderThan": 86400, "dryRun": True}),
    PolicyGroup: _json(
        {"selector": {"tagsAll": ["web"], "sites": ["bonn"]}, "priority": 1, "organization": "a", "policy": {}}
    ),
    WorkBody: _json({"note": "seen"}, {}),
    RecognitionBody: _json({"note": "mistyped"}, {}),
    NoteBody: _json({"note": "seen"}),
    AcknowledgementBody: _json({"group": "waits-12"}),
    MuteBody: _json({"seconds": 60, "site": "vienna", "topic": "blind"}),
    PauseBody: _json({"seconds": 60}),
    RollbackBody: _json({"revision": 3}),
    Enforced: _json({"policyVersion": 3, "set": 2, "refused": 1, "reasons": [{"value": "192.0.2.1", "reason": "own"}]}),
    ResponseChoiceBody: _json({"organizationResponse": "vouched"}),
    ComparisonBody: _json({"from": 1, "to": 2}, {"scope": "global", "document": {"thresholds": {"autoRespond": 80}}}),
    NewPolicy: _json({"rules": [{"type": "block_ip", "config": {"ip": "192.0.2.1"}}], "name": "x", "org_id": "a"}),
    ReplaySettings: _json(
        {
            "correlator": {"sourceIpAgents": 3},
            "responder": {"duration": 60.0},
            "organizations": {"acme": {"allowlist": {"ips": ["10.0.0.0/8"]}}},
        }
    ),
}
"""The models that are decoded beside those of the topic table, and what is valid there."""

_MESSAGES = {model: wire.MESSAGES[model].map(lambda message: message.body()) for model in wire.MESSAGES}


def _decoded(model: Any) -> Decoder:
    def call(_place: Place, payload: bytes) -> None:
        message = decode(model, payload, _AMPLE)
        assert len(message.model_dump_json()) >= 2
        document = json.loads(payload)
        validate(model, document)

    return Decoder(
        f"decode {model.__name__}", "network", hostile_json({**_MESSAGES, **BODIES}[model]), call, (DecodeError,)
    )


def _fast_report(_place: Place, payload: bytes) -> None:
    """What the fast decoder takes the contract takes, with the same time."""
    report = fast_report(payload, AGENT)
    if report is not None:
        assert report.timestamp == decode(ThreatReport, payload, _AMPLE).timestamp


def _fast_http_heartbeat(_place: Place, body: bytes) -> None:
    """What the fast decoder takes the contract takes, with the same times."""
    fast = fast_http_heartbeat(body)
    if fast is not None:
        heartbeat = decode(HttpHeartbeat, body, _AMPLE)
        assert (fast.timestamp, fast.sent_at) == (heartbeat.timestamp, heartbeat.sent_at)
        assert fast.uptime_seconds == heartbeat.uptime_seconds


def _fast_heartbeat(_place: Place, payload: bytes) -> None:
    """What the fast decoder takes the contract takes, with the same times."""
    fast = fast_heartbeat(payload)
    if fast is not None:
        heartbeat = decode(Heartbeat, payload, _AMPLE)
        assert fast.sent_at == heartbeat.sent_at
        assert [each.last_at for each in fast.sources or ()] == [each.last_at for each in heartbeat.sources or ()]
        assert [each.at for each in fast.logins or ()] == [each.at for each in heartbeat.logins or ()]


def _codes(_place: Place, payload: bytes) -> None:
    key = KEYRING.sign_key.public_key()
    assert not message_codes.has_mac(b"k" * 32, f"agents/{AGENT}/threats", payload)
    assert not message_codes.has_proof(b"k" * 32, f"registration/{CLIENT}", payload)
    assert not message_codes.has_signature(key, f"agents/{AGENT}/policy", payload)
    has_version_proof(key, AGENT, 1, "0" * 64, payload.decode("latin-1"))


def _topic(_place: Place, payload: bytes) -> None:
    text = payload.decode("latin-1")
    row, identifier = topics.resolve(text)
    assert row.address(identifier) == text


def _access(_place: Place, payload: bytes) -> None:
    text = payload.decode("latin-1")
    principal = topics.Principal(topics.Role.AGENT, {"agentId": AGENT, "organizationId": text})
    for action in ("publish", "subscribe", "receive"):
        topics.may(principal, action, text)
        topics.may(topics.Principal(topics.Role.OBSERVER, {}), action, text)
    topics.may_retain(text)


def _digest(_place: Place, payload: bytes) -> None:
    """A document that was taken can be named and compared, whatever stands in it."""
    document = decode(PolicyDocument, payload, _AMPLE).sections()
    assert digest_of(document) == digest_of(json.loads(canonical(document)))


_TOPICS = [
    row.address({"agentId": AGENT, "clientId": CLIENT}.get(row.placeholder or "", "acme")) for row in topics.TABLE
]
_SIGNED = message_codes.with_signature(KEYRING.sign_key, f"agents/{AGENT}/receipts", b'{"a":1}')

CONTRACT = (
    *(_decoded(model) for model in (*_MESSAGES, *BODIES)),
    Decoder(
        "fast_report",
        "network",
        hostile_json(
            wire.MESSAGES[ThreatReport].map(lambda report: report.model_copy(update={"agent_id": AGENT}).body())
        ),
        _fast_report,
    ),
    Decoder("fast_heartbeat", "network", hostile_json(_HEARTBEATS), _fast_heartbeat),
    Decoder("fast_http_heartbeat", "network", hostile_json(HEARTBEATS), _fast_http_heartbeat),
    Decoder("policy digest", "network", hostile_json(_DOCUMENTS), _digest, (DecodeError,)),
    Decoder(
        "codes", "network", hostile(st.just(_SIGNED) | st.just(message_codes.with_mac(b"x", "t", b'{"a":1}'))), _codes
    ),
    Decoder(
        "message_codes.from_base64url",
        "network",
        hostile(st.binary(max_size=80).map(lambda raw: message_codes.to_base64url(raw).encode())),
        lambda _, payload: message_codes.from_base64url(payload.decode("utf-8", "surrogateescape")),
        (ValueError,),
    ),
    Decoder("topics.resolve", "network", hostile_text(*_TOPICS), _topic, (TopicError,)),
    Decoder("topics.may", "network", hostile_text(*_TOPICS, "panguard/v1/#", "panguard/v1/manager/+"), _access),
    Decoder(
        "EnrollmentToken.parse",
        "disk",
        hostile_text(str(TOKEN), f"{TOKEN}.{'A' * 43}"),
        lambda _, payload: EnrollmentToken.parse(payload.decode("utf-8", "surrogateescape")),
        (TokenError,),
    ),
    Decoder(
        "public_sign_key",
        "network",
        hostile_text(KEYRING.sign_public, "A" * 43),
        lambda _, payload: public_sign_key(payload.decode("utf-8", "surrogateescape")),
        (KeyMaterialError,),
    ),
    Decoder(
        "seal",
        "network",
        hostile_text(KEYRING.seal_public, "A" * 43),
        lambda _, payload: seal(payload.decode("utf-8", "surrogateescape"), bytes(32), CLIENT),
        (KeyMaterialError,),
    ),
    Decoder(
        "ManagerKeyring.unseal",
        "network",
        hostile(st.just(seal(KEYRING.seal_public, bytes(32), CLIENT).encode())),
        lambda _, payload: KEYRING.unseal(payload.decode("utf-8", "surrogateescape"), CLIENT),
        (KeyMaterialError,),
    ),
    Decoder(
        "is_loopback",
        "operator",
        hostile_text("localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1"),
        lambda _, payload: is_loopback(payload.decode("utf-8", "surrogateescape")),
    ),
)
