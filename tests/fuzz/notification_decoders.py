"""What the notifier reads of the store: events, messages that wait, states of judgements."""

import json

from hypothesis import strategies as st

from manager.domain.notifications.event import Event
from manager.domain.notifications.judgement import Judgement, JudgementSettings
from manager.engine.notifications import ToldEvent
from manager.errors import SetupError
from manager.notifications.selection import Judged
from manager.notifications.settings import read_channels
from manager.notifications.stored_message import dump_message, load_message
from manager.notifications.told_events import chosen_event, event_message
from schemas.threats import Severity
from tests.fuzz.decoder import Decoder
from tests.fuzz.place import NOW, Place
from tests.spoiling import hostile_json

_QUIET = {"start": "22:00", "end": "07:00", "timeZone": "Europe/Vienna"}
_EVENT = Event(1, NOW, "agent_stale", Severity.HIGH, hostname="web-1", data={"reason": "silent"})
_DOCUMENT = {"event": "agent_stale", "agentId": "ag-0123456789abcdef", "hostname": "web-1", "data": {"reason": "x"}}
_ALERTING = {"channels": ["ops"], "severe": True, "quietHours": _QUIET}
_TABLE = {"ops": {"type": "webhook", "url": "https://soar.example/x", "timeout": "5s", "digest_at": "08:00"}}


def _state() -> bytes:
    judgement = Judgement(JudgementSettings())
    judgement.take(_EVENT, NOW)
    return json.dumps(judgement.state()).encode()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _event(_place: Place, data: bytes) -> None:
    text = _text(data)
    for alerting, document in ((text, json.dumps(_DOCUMENT)), (json.dumps(_ALERTING), text), (None, text)):
        chosen = chosen_event(ToldEvent(1, NOW, "agent_stale", "high", None, None, alerting, document))
        Judgement(JudgementSettings()).take(chosen.event, NOW)


def _message(_place: Place, data: bytes) -> None:
    load_message(_text(data))


def _judgement(_place: Place, data: bytes) -> None:
    Judged("ops", JudgementSettings(), None, _text(data))


def _channels(_place: Place, data: bytes) -> None:
    tables = json.loads(_text(data))
    if isinstance(tables, dict) and all(isinstance(table, dict) for table in tables.values()):
        read_channels(tables)


NOTIFICATIONS = (
    Decoder(
        "told events",
        "disk",
        hostile_json(st.sampled_from([json.dumps(each).encode() for each in (_DOCUMENT, _ALERTING)])),
        _event,
    ),
    Decoder(
        "stored messages",
        "disk",
        hostile_json(st.just(dump_message(event_message(_EVENT)).encode())),
        _message,
        (ValueError,),
    ),
    Decoder("stored judgements", "disk", hostile_json(st.deferred(lambda: st.just(_state()))), _judgement),
    Decoder(
        "channels",
        "operator",
        hostile_json(st.just(json.dumps(_TABLE).encode())),
        _channels,
        (SetupError, ValueError, RecursionError),
    ),
)
