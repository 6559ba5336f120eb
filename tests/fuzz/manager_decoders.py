"""What the manager's engine, HTTP door and rules read of requests, reports and answers."""

import json
import re
import socket
from collections.abc import Callable

from hypothesis import strategies as st

from manager.api.events.stored_events import last_sequence
from manager.api.middleware.admission import bearer
from manager.api.middleware.client_address import ClientAddresses
from manager.api.middleware.response_headers import RequestIds
from manager.api.routes.agent_policy import _versions
from manager.cli.commands.block_import import addresses_in
from manager.cli.support.client import ManagerClient
from manager.cli.support.durations import parse_time, parse_timedelta
from manager.cli.support.failures import CommandFailed
from manager.cli.support.message_observer import MessageDecoder, summary
from manager.cli.support.tls_trust import tls_context_for
from manager.domain.correlation.allowlist import Allowlist
from manager.domain.correlation.indicators import normal_address, normal_hash, normal_techniques
from manager.domain.http_reports import prepare
from manager.domain.networks import network_of
from manager.domain.policies.allowlist_entries import normalize_entry
from manager.domain.policies.fleet_policies import Scope
from manager.domain.policies.layers import Layer, read_document
from manager.domain.policies.rules import parse_duration, parse_rule
from manager.domain.response.manual_blocks import manual_value
from manager.engine.messages.report_decoding import DecodedReport, decode_reports
from manager.errors import Invalid
from manager.storage.queries.reader import cursor_after, read_cursor
from manager.storage.queries.threats import evidence_of, record_of
from schemas import topics
from schemas.decoding import DecodeError, decode
from schemas.fast_http_reports import fast_events
from schemas.http_agents import HttpEvents
from schemas.limits import BODY_LIMIT
from schemas.message_codes import with_mac, without_mac
from schemas.model import utc
from schemas.report_batches import batch_body, is_batch
from schemas.topics import TABLE, Role, Topic
from tests import strategies as wire
from tests.fuzz.decoder import Decoder
from tests.fuzz.http_bodies import EVENTS, HEARTBEATS, PAGE_REPORTS, REGISTRATIONS
from tests.fuzz.place import AGENT, NOW, Place
from tests.integration.api.served import ADMIN_TOKEN
from tests.spoiling import hostile, hostile_json, hostile_text
from tests.support.engine import Bench

_READ = [row for row in TABLE if Role.MANAGER in row.readers and row.publisher is not Role.MANAGER]
_TELLING = {
    "id": "t-1",
    "agentId": AGENT,
    "threat": {
        "type": "brute_force",
        "confidence": 80,
        "technique": "T1110",
        "evidence": {
            "sourceIp": "192.0.2.1",
            "fileHash": "a" * 64,
            "filePath": "/bin/x",
            "lastLogin": "2026-01-01T00:00:00Z",
            "pid": 3,
        },
    },
    "response": {"action": "block_ip", "expiresAt": "2026-01-01T00:00:00Z"},
    "timestamp": "2026-01-01T00:00:00Z",
}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _engine(row: Topic) -> Callable[[Place, bytes], None]:
    """An enrolled agent may be hostile: its code is right, its message what it likes. It is acknowledged."""

    def call(place: Place, body: bytes) -> None:
        bench, agent = place.bench, place.agent
        body = body.replace(AGENT.encode(), agent.agent_id.encode()).rstrip()
        payload = agent.coded(row, body[:-1] + b"}" if body.endswith(b"}") else body + b"}")
        bench.elapsed += 1.0
        handle = bench.receive(row, agent.agent_id, payload)
        assert bench.acknowledged[-1] == handle
        assert bench.engine.can_commit
        _did_not_fail(bench)
        bench.publisher.published.clear()
        bench.acknowledged.clear()

    return call


def _did_not_fail(bench: Bench) -> None:
    """The engine survives what its handlers and rules fail on; here they are not to fail at all."""
    assert not bench.fleet.counters["messages_failed"]
    assert not bench.fleet.counters["reports_not_correlated"]


def _registering(place: Place, body: bytes) -> None:
    place.bench.receive(topics.REGISTRATION, "0" * 32, body)
    assert place.bench.engine.can_commit
    _did_not_fail(place.bench)
    place.bench.publisher.published.clear()


def _read_back(place: Place, body: bytes) -> None:
    """Whatever of a hostile report was stored is read at a restart, listed, and replayed."""
    _engine(topics.THREATS)(place, body)
    bench = place.bench
    for _ in bench.store.archive.evidence():
        pass
    for (document,) in bench.rows("SELECT document FROM threat ORDER BY sequence DESC LIMIT 1"):
        evidence_of(document)
        row = {"document": document, "threat_id": "t", "agent_id": AGENT, "hostname": "h", "organization_id": "o"}
        row |= {"event_time": NOW, "received_at": NOW, "time_known": 1, "recognized_at": None}
        json.dumps(record_of(row), allow_nan=False)
    bench.database.execute_sql("DELETE FROM threat")


def _http_reports(_place: Place, body: bytes) -> None:
    """What the fast decoder takes the contract takes; each report has the agent's id."""
    fast = fast_events(body, AGENT)
    try:
        events = decode(HttpEvents, body, BODY_LIMIT)
    except DecodeError:
        assert fast is None
        raise
    if fast is not None:
        assert (fast.sent_at, fast.reported_at) == (events.sent_at, events.reported_at)
    for report in (*prepare(AGENT, events, NOW), *(() if fast is None else prepare(AGENT, fast, NOW))):
        assert json.loads(report.document)["agentId"] == AGENT


def _request(place: Place, data: bytes) -> None:
    """Any bytes on a connection get answers, none of them a failure of the server's, or an end."""
    host, port = place.served.url.removeprefix("http://").split(":")
    data = data.replace(AGENT.encode(), place.http_agent.encode())
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        answer = b""
        try:
            sock.sendall(data[:200_000])
            sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                answer += chunk
        except (BrokenPipeError, ConnectionResetError):
            pass
    statuses = {int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answer, re.MULTILINE)}
    assert all(status < 500 for status in statuses), answer[:600]


def _posted(path: str, body: bytes, method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Authorization: Bearer {ADMIN_TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _asked(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: h", "Connection: close", f"Authorization: Bearer {ADMIN_TOKEN}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


_RULES = [
    {"type": "block_ip", "config": {"ip": "192.0.2.1", "duration": "1h", "setAt": "2026-01-01T00:00:00Z"}},
    {"type": "alert_threshold", "condition": {"minimumSeverity": "high"}, "config": {"threshold": 5}},
    {"type": "auto_respond", "config": {"enabled": False, "confidence": 90}},
    {"type": "block_ip", "value": "10.0.0.0/8", "duration": "permanent", "reason": "x"},
]
_documents = st.sampled_from(
    [
        json.dumps(
            {"rules": _RULES, "blocklist": {"ips": [{"value": "192.0.2.1", "expiresAt": "2030-01-01T00:00:00Z"}]}}
        ),
        json.dumps({"allowlist": {"ips": ["10.0.0.0/8"], "processes": ["sshd"]}, "thresholds": {"autoRespond": 80}}),
    ]
).map(str.encode)

_CURSORS = [cursor_after(5), cursor_after(1.5, "inc-1"), cursor_after("x"), "%ff", "e30"]
_LISTS = ("agents", "threats", "incidents", "blocks", "tokens", "audit", "dead-letters", "policies/history")
_GETS = [
    *(f"/api/{name}?limit=5&cursor={cursor}" for name in _LISTS for cursor in _CURSORS),
    "/api/threats?since=2026-01-01T00:00:00Z&severity=high&type=x&org_id=acme&agentId=ag-0123456789abcdef",
    "/api/threats?since=0001-01-01T00:00:00%2B23:59",
    "/api/threats?since=9999-12-31T23:59:59-23:59",
    "/api/incidents?since=1e400",
    "/api/threats/summary?period=24h",
    "/api/agents?tag=a&tag=b&status=online",
    f"/api/agents/{AGENT}",
    f"/api/policy/agent/{AGENT}?version=3",
    "/api/policies/agents/%2e%2e%00",
]
_HEADERS = [
    'If-None-Match: "3", W/"4", *',
    "X-Policy-Version: 99999999999999999999",
    "X-Forwarded-For: 10.0.0.1, ::ffff:127.0.0.1, fe80::1%eth0",
    "X-Request-Id: abc",
    "Origin: https://x.example",
    "Last-Event-ID: 00-1",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Authorization: Bearer \u00ff",
]
_gets = st.tuples(st.sampled_from(_GETS), st.lists(st.sampled_from(_HEADERS), max_size=3)).map(
    lambda drawn: _asked(drawn[0], *drawn[1])
)
_posts = st.one_of(
    hostile_json(EVENTS).map(lambda body: _posted(f"/api/agents/{AGENT}/events", body)),
    hostile_json(HEARTBEATS).map(lambda body: _posted(f"/api/agents/{AGENT}/heartbeat", body)),
    hostile_json(REGISTRATIONS).map(lambda body: _posted("/api/agents/register", body)),
    hostile_json(st.just(b'{"revision":1}')).map(lambda body: _posted("/api/policies/rollback", body)),
    hostile_json(st.just(b'{"from":1,"scope":"agent","target":"x"}')).map(
        lambda body: _posted("/api/policies/diff", body)
    ),
    hostile_json(st.just(b'{"value":"10.0.0.0/8"}')).map(lambda body: _posted("/api/allowlist", body)),
    hostile_json(st.just(b'{"rules":[{"type":"block_ip","value":"192.0.2.1","duration":"1h"}]}')).map(
        lambda body: _posted("/api/policy", body)
    ),
    hostile_json(_documents).map(lambda body: _posted("/api/policies/global", body, "PUT")),
    hostile_json(st.just(b'{"maxUses":1,"expiresAt":"2099-01-01T00:00:00Z"}')).map(
        lambda body: _posted("/api/tokens", body)
    ),
)


def _headers(_place: Place, data: bytes) -> None:
    addresses = ClientAddresses(["10.0.0.0/8"], ["127.0.0.0/8", "::1/128"])
    for headers in (
        {b"x-forwarded-for": data, b"authorization": data, b"origin": data},
        {b"authorization": b"bearer " + data},
    ):
        address = addresses.address(("127.0.0.1", 1), headers)
        addresses.is_trusted(address)
        addresses.rate_limit_key(address)
        bearer(headers)
    RequestIds().of({b"x-request-id": data})
    _versions(None, data.decode("latin-1"), None)
    last_sequence(data.decode("latin-1"), 100)


def _cursor(_place: Place, data: bytes) -> None:
    for kinds in ((int,), (float, str), (str,)):
        try:
            read_cursor(_text(data), *kinds)
        except Invalid:
            continue


def _rule(_place: Place, data: bytes) -> None:
    document = read_document(json.loads(data))
    Layer.of(document)
    for index, rule in enumerate(document.get("rules", ())):
        parse_rule(rule, f"rules.{index}")


def _indicator(_place: Place, data: bytes) -> None:
    text = _text(data)
    network_of(text)
    normal_address(text)
    normal_hash(text)
    tuple(normal_techniques(text))
    Scope.parse(text)
    for refusing, errors in (
        (lambda: normalize_entry(None, text), Invalid),
        (lambda: normalize_entry("process", text), Invalid),
        (lambda: parse_duration(text, "duration"), Invalid),
        (lambda: manual_value(text), Invalid),
        (lambda: Allowlist({"acme": [text]}), ValueError),
    ):
        try:
            refusing()
        except errors:
            continue


def _sighting(_place: Place, data: bytes) -> None:
    watcher = MessageDecoder()
    for row in TABLE:
        topic = row.address({"agentId": AGENT, "clientId": "0" * 32}.get(row.placeholder or "", "acme"))
        seen = watcher.decode(topic, data)
        if seen is not None:
            summary(seen)
            json.dumps(seen.record("now"))
            assert seen.agent_id is None or isinstance(seen.agent_id, str)
    watcher.decode(_text(data), data)


def _command_words(_place: Place, data: bytes) -> None:
    text = _text(data)
    for read in (
        lambda: parse_timedelta(text),
        lambda: parse_time(text, utc(NOW)),
        lambda: addresses_in(text, is_csv=False),
        lambda: addresses_in(f"value,reason,for\n{text}", is_csv=True),
        lambda: tls_context_for(text, _place.folder("nothing"), None, insecure=True),
    ):
        try:
            read()
        except CommandFailed:
            continue


def _answer(_place: Place, data: bytes) -> None:
    import httpx2  # noqa: PLC0415 -- only here

    client = ManagerClient("http://127.0.0.1:1", "x")
    with client:
        client._envelope(httpx2.Response(200, content=data, headers={"Content-Type": "application/json"}))


_reports = st.just(json.dumps(_TELLING).encode())
_coded = {
    row: st.sampled_from(row.models).flatmap(lambda model: wire.MESSAGES[model]).map(lambda m: m.body())
    for row in _READ
}

_batches = st.lists(wire.reports, max_size=4).map(lambda reports: batch_body([each.body() for each in reports]))


def _read_reports(_place: Place, data: bytes) -> None:
    """Each report is read or has a reason, and has its own bytes, which are text if it was read.

    They are bytes of the message without its code: the code takes the place of the last brace, whatever stands there.
    """
    message = with_mac(b"k" * 32, topics.THREATS.below_root(AGENT), data)
    body = without_mac(message)
    for each in decode_reports(AGENT, message):
        assert each.body in body if is_batch(message) else each.body == body
        assert not isinstance(each, DecodedReport) or each.document.encode() == each.body


MANAGER = (
    *(
        Decoder(f"engine {row.name}", "network", hostile_json(_coded[row]), _engine(row), slow=True)
        for row in _READ
        if row is not topics.REGISTRATION
    ),
    Decoder("decode_reports", "network", hostile_json(_batches), _read_reports, (DecodeError,)),
    Decoder("engine registration", "network", hostile_json(_coded[topics.REGISTRATION]), _registering, slow=True),
    Decoder("engine telling report", "network", hostile_json(_reports), _read_back, slow=True),
    Decoder("HTTP reports", "network", hostile_json(EVENTS), _http_reports, (DecodeError, Invalid)),
    Decoder("HTTP reports of the page", "network", hostile_json(PAGE_REPORTS), _http_reports, (DecodeError, Invalid)),
    Decoder("HTTP requests", "network", hostile(_gets), _request, slow=True),
    Decoder("HTTP bodies", "network", _posts, _request, slow=True),
    Decoder("HTTP headers", "network", hostile_text('"3", W/"4"', "10.0.0.1, ::1", "Bearer x", "0a-12"), _headers),
    Decoder("cursors", "network", hostile(st.sampled_from([cursor.encode() for cursor in _CURSORS])), _cursor),
    Decoder("policy documents", "network", hostile_json(_documents), _rule, (Invalid, ValueError, RecursionError)),
    Decoder(
        "indicators",
        "network",
        hostile_text("::ffff:192.0.2.1/97", "10.0.0.0/8", "a" * 64, "T1110.001", "fe80::1%eth0", "30m", "agent:x"),
        _indicator,
    ),
    Decoder(
        "traffic sightings",
        "network",
        hostile_json(st.one_of(*_coded.values(), _reports)),
        _sighting,
    ),
    Decoder(
        "command words",
        "operator",
        hostile_text("15m", "2026-01-31T12:00:00Z", "mqtts://[::1]:1", "http://[", "0001-01-01T00:00:00"),
        _command_words,
    ),
    Decoder("manager's answers", "network", hostile_json(st.just(b'{"ok":true,"data":[]}')), _answer, (CommandFailed,)),
)
