"""`decode` and `validate` answer any bytes with a message or with DecodeError."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.decoding import DecodeError, decode, validate
from schemas.model import WireModel
from schemas.policy import PolicyDocument
from schemas.threats import ThreatReport
from schemas.topics import TABLE
from tests import strategies as wire
from tests.spoiling import leaves, replaced, spoiled
from tests.support.examples import examples

MODELS = [model for row in TABLE for model in row.models]
BY_MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
FEW = settings(max_examples=examples(10))  # for each of the fourteen messages
SOME = settings(max_examples=examples(20))
AMPLE = 1 << 20

MARKER = "hunter2-marker"


def report(evidence: bytes) -> bytes:
    """Return a threat report with this JSON as its evidence."""
    return (
        b'{"id":"t-1","agentId":"ag-0123456789abcdef","threat":{"type":"x","confidence":1,"evidence":%b},'
        b'"timestamp":"2026-01-01T00:00:00Z"}'
    ) % evidence


def answers(model: type[WireModel], payload: bytes) -> None:
    """Decode; what is taken must be a message that can be written, and is read as the same again."""
    try:
        message = decode(model, payload, AMPLE)
    except DecodeError:
        return
    assert decode(model, message.body(), AMPLE) == message


@BY_MODEL
@FEW
@given(payload=st.binary() | st.text().map(str.encode) | wire.json_values.map(lambda value: json.dumps(value).encode()))
@example(payload=b"")
@example(payload=b"{}")
@example(payload=b"null")
@example(payload=b"[" * 100_000)
@example(payload=b'{"a":' * 100_000)
@example(payload=b"\xff\xfe{\x00}\x00")
def test_any_bytes_are_a_message_or_a_decode_error(model: type[WireModel], payload: bytes) -> None:
    """Garbage never gets past `decode` as anything but DecodeError."""
    answers(model, payload)


@BY_MODEL
@SOME
@given(data=st.data())
def test_a_spoiled_message_is_a_message_or_a_decode_error(model: type[WireModel], data: st.DataObject) -> None:
    """A real message with bytes changed is refused, or read as a message that can be written again."""
    answers(model, data.draw(spoiled(data.draw(wire.MESSAGES[model]).body())))


@BY_MODEL
@SOME
@given(data=st.data())
def test_a_wrong_value_anywhere_is_refused_or_taken(model: type[WireModel], data: st.DataObject) -> None:
    """Any JSON in place of any value of a message gives a message or DecodeError, through either door."""
    document = json.loads(data.draw(wire.MESSAGES[model]).body())
    paths = leaves(document)
    if not paths:
        return
    document = replaced(document, data.draw(st.sampled_from(paths)), data.draw(wire.json_values))
    answers(model, json.dumps(document).encode())
    try:
        message = validate(model, document)
    except DecodeError:
        return
    assert decode(model, message.body(), AMPLE) == message


@BY_MODEL
@FEW
@given(data=st.data())
def test_a_complaint_never_repeats_a_value(model: type[WireModel], data: st.DataObject) -> None:
    """The text of a DecodeError says which field and why, and not what stood there."""
    document = json.loads(data.draw(wire.MESSAGES[model]).body())
    path = data.draw(st.sampled_from(leaves(document)))
    document = replaced(document, path, data.draw(st.sampled_from([MARKER, [MARKER], {"a": MARKER}])))
    try:
        decode(model, json.dumps(document).encode(), AMPLE)
    except DecodeError as error:
        told = str(error)
    else:
        return
    assert MARKER not in told
    assert told.startswith(str(path[0]))


@BY_MODEL
@FEW
@given(data=st.data())
def test_json_values_are_validated_like_bytes(model: type[WireModel], data: st.DataObject) -> None:
    """A message that was parsed elsewhere is the same message."""
    message = data.draw(wire.MESSAGES[model])
    assert validate(model, json.loads(message.body())) == message


@BY_MODEL
@FEW
@given(data=st.data())
def test_a_message_may_be_as_long_as_its_limit_and_no_longer(model: type[WireModel], data: st.DataObject) -> None:
    """The limit is inclusive, and one byte more is refused before anything is parsed."""
    message = data.draw(wire.MESSAGES[model])
    body = message.body()
    assert decode(model, body, len(body)) == message
    with pytest.raises(DecodeError, match=f"{len(body)} bytes; at most {len(body) - 1}"):
        decode(model, body, len(body) - 1)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_limit_of_a_row_counts_every_byte(row: Any) -> None:
    """A payload over its row's limit is refused for its length, even if most of it is white space."""
    for model in row.models:
        with pytest.raises(DecodeError, match="at most"):
            decode(model, b"{}".ljust(row.limit + 1), row.limit)


NO_NUMBERS = [
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1.5E+0309", b"1" + b"0" * 400 + b".0",
    b"1" + b"0" * 250 + b"e99",
]  # fmt: skip
"""NaN and infinities, by name and by overflow."""


@pytest.mark.parametrize("number", NO_NUMBERS, ids=lambda number: number[:12].decode())
@pytest.mark.parametrize("place", [b"%b", b'{"a":%b}', b'{"a":[[{"b":[1,%b]}]]}', b'{"a":"NaN","b":%b}'])
def test_a_number_that_is_none_is_refused_however_deep_it_stands(number: bytes, place: bytes) -> None:
    """NaN and infinities are refused in evidence as everywhere, with a blank before them or none."""
    with pytest.raises(DecodeError):
        decode(ThreatReport, report(place % number), AMPLE)
    with pytest.raises(DecodeError):
        decode(ThreatReport, report(place % (b"\n " + number)), AMPLE)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "\\NaN", 'say "NaN"'])
def test_the_names_of_no_numbers_are_texts_like_any_other(word: str) -> None:
    """A log line or a host may say NaN: text is taken as it came, as a value and as a key."""
    evidence = {"line": word, word: [word, {"deep": word}]}
    message = decode(ThreatReport, report(json.dumps(evidence).encode()), AMPLE)
    assert message.threat.evidence == evidence


@pytest.mark.parametrize("depth", [300, 10_000, 100_000])
@pytest.mark.parametrize("core", [b"1", b"NaN", b'"NaN"', b""])
def test_deep_nesting_is_refused(depth: int, core: bytes) -> None:
    """Nesting can exhaust no stack, neither the fast reader's nor the one that looks for NaN."""
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(DecodeError):
            decode(ThreatReport, report(b'{"x":' + opening * depth + core + closing * depth + b"}"), AMPLE)


def test_nesting_that_is_taken_can_be_written() -> None:
    """Writing has no lower limit of depth than reading, so that nothing stored is unprintable."""
    taken = 0
    for depth in range(1, 260, 3):
        payload = report(b'{"x":' + b"[" * depth + b"]" * depth + b"}")
        try:
            message = decode(ThreatReport, payload, AMPLE)
        except DecodeError:
            break
        assert decode(ThreatReport, message.body(), AMPLE) == message
        taken = depth
    assert 50 < taken < 250


@BY_MODEL
@FEW
@given(data=st.data())
def test_of_a_doubled_member_all_readers_take_the_last(model: type[WireModel], data: st.DataObject) -> None:
    """A member that stands twice has one meaning, the one that every other JSON reader gives it."""
    first, last = data.draw(wire.MESSAGES[model]).body(), data.draw(wire.MESSAGES[model]).body()
    payload = b"%b,%b" % (first[:-1], last[1:])
    assert decode(model, payload, AMPLE) == decode(model, json.dumps(json.loads(payload)).encode(), AMPLE)


@pytest.mark.parametrize(
    "text",
    [b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud800x"', b'"\x01"', b"'x'"],
    ids=repr,
)
def test_text_that_is_no_unicode_is_refused(text: bytes) -> None:
    """Invalid UTF-8, lone surrogates and bare control characters are refused, as values and as keys."""
    for evidence in (b'{"x":%b}' % text, b"{%b:1}" % text, b'{"x":["NaN",%b]}' % text):
        with pytest.raises(DecodeError):
            decode(ThreatReport, report(evidence), AMPLE)


@pytest.mark.parametrize(
    "payload",
    [b"", b" ", b"\0", report(b"{}") + b"x", report(b"{}") * 2, b"\xef\xbb\xbf" + report(b"{}"), report(b"{}")[:-1]],
    ids=["empty", "blank", "nul", "trailing", "twice", "byte order mark", "cut"],
)
def test_what_is_not_one_json_document_is_refused(payload: bytes) -> None:
    """Nothing, a piece of one, or more than one document is no message."""
    with pytest.raises(DecodeError):
        decode(ThreatReport, payload, AMPLE)


@pytest.mark.parametrize("confidence", ["1", True, None, [1], {"a": 1}, -0.001, 100.001, float("nan"), "NaN", 10**400])
def test_a_number_is_a_number_in_its_range_through_either_door(confidence: Any) -> None:
    """Texts, booleans and numbers out of range are never read as a percentage."""
    document = json.loads(report(b"{}"))
    document["threat"]["confidence"] = confidence
    with pytest.raises(DecodeError):
        decode(ThreatReport, json.dumps(document).encode(), AMPLE)
    with pytest.raises(DecodeError):
        validate(ThreatReport, document)


@pytest.mark.parametrize(
    "document",
    [
        {"monitors": {"advanced": {"x": "\ud800"}}},
        {"monitors": {"advanced": {"\ud800": 1}}},
        {"alerting": {"channels": ["\ud800"]}},
        {"monitors": {"advanced": {"x": float("inf")}}},
        {"rules": [{"type": "custom", "value": [float("nan")]}]},
        {"blocklist": {"ips": [{"value": "192.0.2.1", "expiresAt": "0001-01-01T00:00:00+10:00"}]}},
        {"blocklist": {"ips": [{"value": "192.0.2.1", "expiresAt": 1_700_000_000}]}},
        {"detection": {"sigma": [b"bytes"]}},
        None,
        [],
        "text",
    ],
    ids=lambda document: ascii(document)[:60],
)
def test_values_that_no_json_text_gives_a_message_are_refused(document: Any) -> None:
    """`validate` applies the rules of `decode`: no lone surrogates, no NaN, no lenient types."""
    with pytest.raises(DecodeError):
        validate(PolicyDocument, document)


def test_values_nested_too_deep_are_refused() -> None:
    """A document that was parsed elsewhere can exhaust no stack either."""
    nested: Any = 1
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(DecodeError):
        validate(PolicyDocument, {"monitors": {"advanced": {"x": nested}}})


def test_a_complaint_is_short_whatever_it_complains_of() -> None:
    """A DecodeError goes to logs and dead letters: its text has a bound that no sender moves."""
    nested: Any = float("nan")
    for _ in range(300):
        nested = {"k" * 50: nested}
    with pytest.raises(DecodeError) as caught:
        validate(PolicyDocument, {"monitors": {"advanced": nested}})
    assert len(str(caught.value)) <= 1024
