"""Messages as the notifier hands them to channels."""

from typing import Any

from manager.domain.notifications.event import KINDS, Event
from manager.domain.notifications.message import Change, Message, Plain, Quoted
from manager.notifications.rendering.identity import ChannelIdentity
from schemas.threats import Severity

IDENTITY = ChannelIdentity("siem", "store-1", "0.2.0", "manager-1")
AT = 1_790_000_000.25
HOSTILE = '<!channel> @everyone http://evil.example/\x1b[31m "quoted" \u202e\ud800 <b>x</b>'


def event(name: str = "suspicious_login", **data: Any) -> Event:
    return Event(
        41, AT, name, KINDS[name].severity, "acme", "ag-0123456789abcdef", "web-1", "berlin",
        {"type": "login_after_failures", "sourceIp": "203.0.113.9", "user": "alice", "count": 12, **data},
    )  # fmt: skip


def message(of: Event | None = None, **changed: Any) -> Message:
    severity = Severity.CRITICAL if of is None else of.severity
    given = {
        "id": "id-1", "group": "in-1", "change": Change.OPENED, "severity": severity,
        "title": (Plain("Login as "), Quoted("alice"), Plain(" after 12 failures")),
        "lines": ((Plain("from 203.0.113.9 on "), Quoted("web-1")),), "at": AT, "organization_id": "acme",
        "command": "panguard manager blocks add 203.0.113.9 --for 4h", "event": of,
    }  # fmt: skip
    return Message(**{**given, **changed})
