"""Hypothesis strategies that spoil: real bytes with pieces changed, real JSON with wrong values, and plain noise."""

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

SPLICES = [
    b"NaN", b"-Infinity", b"Infinity", b"1e999", b"-1e999", b"null", b"true", b'""', b"{}", b"[]", b"[" * 300, b"]",
    b"{", b"}", b'"', b"\\", b"\\ud800", b"\\u0000", b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b",", b":", b"9" * 400, b"9" * 5000, b"-0", b"1E400", b"+00:00", b"0001-01-01T00:00:00+23:59",
    b'{"agentId":"ag-0000000000000000","agentId":"+"}',
]  # fmt: skip
"""What breaks readers of JSON, and a few halves of it."""

VALUES = [
    b"null", b"true", b"0", b"-1", b"0.5", b"1e308", b"-1e308", b"1e999", b"NaN", b"-Infinity", b"9" * 19, b"9" * 39,
    b"9" * 310, b"-" + b"9" * 400, b"9" * 4299, b"9" * 5000, b'""', b'"0"', b'"\\ud800"', b'"\\u0000"', b'"a b/+#"',
    b'"\xff"', b'"%b"' % (b"x" * 20_000), b"[]", b"{}", b"[[[]]]", b"[" * 120 + b"]" * 120, b"[" * 60_000,
    b'{"a":' * 120 + b"1" + b"}" * 120, b"[%b0]" % (b"{}," * 2_000), b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59.999999-23:59"', b'"2026-01-01T00:00:00"', b'"::ffff:192.0.2.1/97"', b'"fe80::1%eth0"',
    b'"2001:db8::/129"', b'"10.0.0.0/8"', b'"T1110"', b'"permanent"',
]  # fmt: skip
"""JSON texts that stand where others should: of wrong type, out of range, no numbers, too deep, too long."""

_MARK = "\u0001mark\u0001"
_MARKED = json.dumps(_MARK).encode()
_LONG = 70_000
_FEW = 12


def leaves(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all values in a document, the containers too."""
    members: list[tuple[str | int, Any]] = []
    if isinstance(document, dict):
        members = list(document.items())
    elif isinstance(document, list):
        members = list(enumerate(document))
    below = [leaf for name, value in members for leaf in leaves(value, (*path, name))]
    return [*([path] if path else []), *below]


def replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a document with another value at one path."""
    if not path:
        return value
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy


@st.composite
def spoiled(draw: st.DrawFn, body: bytes) -> bytes:
    """Return `body` with up to three pieces cut out, doubled, overwritten or spliced in."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, _FEW)))
        piece = draw(st.sampled_from(SPLICES) | st.binary(max_size=4) | st.just(body[start:end] * 2))
        body = body[:start] + piece + body[end:]
    return body


@st.composite
def flipped(draw: st.DrawFn, body: bytes) -> bytes:
    """Return `body` with up to eight bits turned over."""
    changed = bytearray(body)
    for _ in range(draw(st.integers(1, 8)) if body else 0):
        place = draw(st.integers(0, 8 * len(body) - 1))
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@st.composite
def swollen(draw: st.DrawFn, body: bytes) -> bytes:
    """Return `body` cut off anywhere, or with one piece of it repeated until it is long."""
    start = draw(st.integers(0, len(body)))
    if draw(st.booleans()):
        return body[:start]
    piece = body[start : start + draw(st.integers(1, 40))] or b"x"
    return body[:start] + piece * (draw(st.sampled_from([2, 100, _LONG])) // len(piece) + 1) + body[start:]


@st.composite
def misvalued(draw: st.DrawFn, body: bytes) -> bytes:
    """Return a JSON document with up to three of its values replaced by ones that are wrong there, or extreme."""
    document = json.loads(body)
    texts: list[bytes] = []
    for _ in range(draw(st.integers(1, 3))):
        paths = [path for path in leaves(document) if not _marked(document, path)]
        if not paths:
            break
        document = replaced(document, draw(st.sampled_from(paths)), _MARK)
        texts.append(draw(st.sampled_from(VALUES)))
    written = json.dumps(document).encode()
    for text in texts:
        written = written.replace(_MARKED, text, 1)
    return written


def _marked(document: Any, path: tuple[str | int, ...]) -> bool:
    for step in path:
        document = document[step]
    return document == _MARK


noise = st.binary(max_size=80) | st.sampled_from(VALUES) | st.text(max_size=40).map(lambda text: repr(text).encode())
"""What has nothing to do with anything."""


def hostile(valid: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Return what may stand where `valid` should: that itself, that in every way spoiled, and noise."""
    return st.one_of(valid, valid.flatmap(spoiled), valid.flatmap(flipped), valid.flatmap(swollen), noise)


def hostile_json(valid: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Return the same for JSON documents, most of them still JSON."""
    return st.one_of(valid, valid.flatmap(misvalued), valid.flatmap(misvalued), hostile(valid))


def hostile_text(*valid: str) -> SearchStrategy[bytes]:
    """Return the same for texts of which some good ones are given."""
    return hostile(st.sampled_from([text.encode() for text in valid]))
