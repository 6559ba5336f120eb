"""Messages as JSON, as they are stored until they are delivered."""

import json
from dataclasses import asdict
from typing import Any

from manager.domain.notifications.event import Event
from manager.domain.notifications.message import Change, Line, Message, Plain, Quoted
from schemas.threats import Severity


def dump_message(message: Message) -> str:
    """Return a message as JSON."""
    value = {
        "id": message.id,
        "group": message.group,
        "change": message.change,
        "severity": message.severity,
        "title": _parts(message.title),
        "lines": [_parts(line) for line in message.lines],
        "at": message.at,
        "organization_id": message.organization_id,
        "command": message.command,
        "link": message.link,
        "event": None if message.event is None else {**asdict(message.event), "data": dict(message.event.data)},
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def load_message(text: str) -> Message:
    """Return the message of a JSON text that `dump_message` returned.

    Raises:
        ValueError: it is another text.
    """
    try:
        value = json.loads(text)
        event = value.pop("event")
        title, lines = _line(value.pop("title")), tuple(_line(line) for line in value.pop("lines"))
        change, severity = Change(value.pop("change")), Severity(value.pop("severity"))
        told = None if event is None else Event(**{**event, "severity": Severity(event["severity"])})
        return Message(**value, change=change, severity=severity, title=title, lines=lines, event=told)
    except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("this is no stored message") from error


def _parts(line: Line) -> list[Any]:
    return [["quoted" if isinstance(part, Quoted) else "plain", part.text] for part in line]


def _line(value: list[Any]) -> Line:
    return tuple(Quoted(text) if kind == "quoted" else Plain(text) for kind, text in value)
