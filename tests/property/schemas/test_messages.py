"""Every message of the topic table survives the wire, and its JSON is as the contract writes it."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.decoding import DecodeError, decode
from schemas.model import WireModel
from schemas.presence import ManagerPresence
from schemas.topics import TABLE
from tests import strategies as wire
from tests.support.examples import examples

LIMITS = {model: row.limit for row in TABLE for model in row.models}
BY_MODEL = pytest.mark.parametrize("model", LIMITS, ids=lambda model: model.__name__)
FEW = settings(max_examples=examples(10))  # for each of the fourteen messages

FREE_FORM = {"evidence", "data", "advanced", "config", "condition", "value"}
"""Members whose inside belongs to whoever wrote it."""

TIMES = {"sentAt", "timestamp", "firstSeen", "lastSeen", "expiresAt", "updatedAt", "at"}


def objects(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON object in a message whose members the contract names."""
    if isinstance(document, dict):
        yield document
        for name, value in document.items():
            if name not in FREE_FORM:
                yield from objects(value)
    elif isinstance(document, list):
        for element in document:
            yield from objects(element)


def test_every_message_of_the_table_is_generated() -> None:
    """No row of the table escapes these properties."""
    assert set(wire.MESSAGES) == set(LIMITS)


@BY_MODEL
@FEW
@given(data=st.data())
def test_a_message_survives_the_wire(model: type[WireModel], data: st.DataObject) -> None:
    """A message survives being written and read."""
    message = data.draw(wire.MESSAGES[model])
    assert decode(model, message.body(), LIMITS[model]) == message


@BY_MODEL
@FEW
@given(data=st.data())
def test_the_wire_is_compact_camel_case(model: type[WireModel], data: st.DataObject) -> None:
    """Names are camelCase, members without a value are left out, and no byte is spent on white space."""
    body = data.draw(wire.MESSAGES[model]).body()
    document = json.loads(body)
    for part in objects(document):
        for name, value in part.items():
            assert re.fullmatch("[a-z]+([A-Z][a-z]*)*", name)
            assert value is not None
    assert not re.search(rb"\s", re.sub(rb'"(\\.|[^"\\])*"', b"", body))


@BY_MODEL
@FEW
@given(data=st.data())
def test_unknown_fields_are_ignored(model: type[WireModel], data: st.DataObject) -> None:
    """A newer peer may add members to any object of a message, before or after the known ones."""
    message = data.draw(wire.MESSAGES[model])
    document = json.loads(message.body())
    for part in list(objects(document)):
        news = {f"x{name}": value for name, value in data.draw(wire.json_objects).items()}
        known = dict(part)
        part.clear()
        part.update(news | known if data.draw(st.booleans()) else known | news)
    assert decode(model, json.dumps(document).encode(), 16 * LIMITS[model]) == message


@BY_MODEL
@FEW
@given(data=st.data())
def test_times_are_utc_with_z(model: type[WireModel], data: st.DataObject) -> None:
    """Every time on the wire is ISO 8601 and ends in Z, wherever in the message it stands."""
    document = json.loads(data.draw(wire.MESSAGES[model]).body())
    for part in objects(document):
        for name in TIMES & part.keys():
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", part[name], re.ASCII)


@given(
    moment=st.datetimes(),
    zone=st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(
        lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
    ),
)
@example(moment=datetime(1, 1, 1), zone=timezone(timedelta(hours=1)))  # noqa: DTZ001 -- the zone is the other argument
@example(moment=datetime(9999, 12, 31, 23), zone=timezone(timedelta(hours=-2)))  # noqa: DTZ001 -- the same
def test_a_time_in_any_zone_is_the_same_moment_in_utc(moment: datetime, zone: timezone) -> None:
    """A time with another offset is read as the UTC moment that it is; one beyond the calendar is refused."""
    text = moment.replace(tzinfo=zone).isoformat()
    payload = json.dumps({"state": "online", "version": "1", "sentAt": text}).encode()
    try:
        expected = moment.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        with pytest.raises(DecodeError):
            decode(ManagerPresence, payload, 1000)
        return
    message = decode(ManagerPresence, payload, 1000)
    assert message.sent_at == expected
    assert message.sent_at.tzinfo == UTC
    assert json.loads(message.body())["sentAt"].endswith("Z")


@pytest.mark.parametrize(
    "text",
    [
        1_700_000_000,
        1.7e9,
        "2026-01-01",
        "2026-01-01T00:00:00",
        "12:00:00Z",
        "",
        "now",
        None,
        True,
        "2026-02-30T00:00:00Z",
        "+02026-01-01T00:00:00Z",
    ],
)
def test_what_is_no_iso_8601_moment_is_refused(text: Any) -> None:
    """A time without a zone or a date, or as a number, is no time."""
    payload = json.dumps({"state": "online", "version": "1", "sentAt": text}).encode()
    with pytest.raises(DecodeError, match=r"^sentAt: "):
        decode(ManagerPresence, payload, 1000)
