"""Inputs that once broke a decoder: a crash, a hang, or an error without a sentence."""

import gzip

from manager.settings import Settings
from tests.fuzz.store_decoders import OFF_THE_CURVE

_DEEP = b"[" * 60_000
_HUGE = b"9" * 400

REGRESSIONS: tuple[tuple[str, bytes], ...] = (
    ("decode HttpEvents", b'{"threat":{"type":"x","confidence":1},"timestamp":%b}' % _HUGE),
    (
        "engine telling report",
        b'{"id":"r-1","agentId":"ag-0123456789abcdef","threat":{"type":"x","confidence":1,"evidence":'
        b'{"sourceIp":"192.0.2.1","lastLogin":%b}},"timestamp":"2026-01-01T00:00:00Z"}' % _HUGE,
    ),
    ("traffic sightings", b'{"cpu":%b,"memory":1,"mode":"x","eventsProcessed":1}' % _HUGE),
    ("decode_reports", b'{"reports"'),
    ("told events", b'{"agentId":["a"],"hostname":{},"data":{"type":[]}}'),
    ("the fence's answers", b'{"ok":false,"outcome":"refused","reason":"\\ud800"}'),
    ("the fence's answers", b'{"enforcement":"nftables","reasons":[{"value":"\\ud800","reason":"\\uDFFF"}]}'),
    ("the fence's answers", b'{"ok":false,"outcome":"refused","reason":"\xed\xa0\x80"}'),
    ("journal", b'{"__REALTIME_TIMESTAMP":"1","__CURSOR":"s","MESSAGE":"\\ud800"}'),
    ("DynamicSecurity.heard", _DEEP),
    ("DynamicSecurity.heard", b'{"responses":[{"command":"listRoles","data":{"totalCount":1e999,"roles":[]}}]}'),
    (
        "DynamicSecurity.heard",
        (
            b'{"responses":[{"command":"listRoles","data":{"totalCount":0,"roles":[]}},{"command":"listClients","data":'
            b'{"totalCount":1,"clients":[{"username":"x","textdescription":true,"roles":[]}]}}]}'
        ),
    ),
    ("BrokerAddress.parse", b"mqtt://["),
    ("BrokerAddress.parse", b"mqtt://h:99999"),
    ("broker process commands", _DEEP),
    ("settings", b"\xcf" * list(Settings.model_fields).index("database")),
    ("broker process configuration", _DEEP),
    ("EmbeddedBroker first line", b"null"),
    ("EmbeddedBroker first line", b'{"port":null}'),
    ("EmbeddedBroker first line", _DEEP),
    ("command words", b"http://["),
    ("command words", b"0001-01-01T00:00:00"),
    ("manager's answers", _DEEP),
    ("command files", _DEEP),
    ("data directory", b"\x80"),
    ("own authority", OFF_THE_CURVE),
    ("store agent.tags", b""),
    ("store agent.gateways", b"[null]"),
    ("store agent.keys", bytes(92)),
    ("store agent.state", b"gone"),
    ("store meta.value", b"x"),
    ("store threat.document", b"{"),
    ("store incident_response.made_by", b"5"),
    ("guard MQTT message", b"\x80"),
    ("guard small files", _DEEP),
    ("guard small files", b"9" * 30),
    ("guard policy.document", b"x"),
    ("guard policy.sections", b"[1]"),
    ("guard policy.state", b"gone"),
    ("guard detection_events.event", b"{}"),
    (
        "guard detection_events.event",
        b'[1.0,"login_failed",{"sourceIp":"192.0.2.1"},false,1e999]',
    ),
    (
        "guard detection_events.event",
        b'[1.0,"login_failed",{"sourceIp":"2001:db8::/64"},false,1]',
    ),
    ("guard source_cursors.cursor", _DEEP),
    ("guard routes", b"a\nb c d e\n" + b"x " * 12),
    ("guard routes", b"\x80"),
    ("log archive", gzip.compress(b"zero\n") * 3_000),
)
"""By the names of the inventory."""
