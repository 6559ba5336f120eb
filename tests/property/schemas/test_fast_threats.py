"""The fast decoder of threat reports takes nothing that the contract refuses, and reads what it takes alike."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.decoding import decode
from schemas.fast_threats import FastReport, fast_report
from schemas.limits import THREAT_LIMIT
from schemas.threats import ThreatReport
from tests import strategies as wire
from tests.property.schemas.alike import compact, same
from tests.spoiling import SPLICES, VALUES, leaves, replaced, spoiled
from tests.support.examples import examples

AGENT = "ag-0123456789abcdef"
MOMENT = "2026-01-02T03:04:05.678Z"
MARK = "\x01mark\x01"

REPORT: dict[str, Any] = {
    "id": "0198a3c0-0000-7000-8000-000000000000",
    "agentId": AGENT,
    "threat": {
        "type": "brute_force",
        "confidence": 92.5,
        "evidence": {"sourceIp": "192.0.2.1", "pid": 1, "ports": [22, 80], "known": True, "load": 0.5, "none": None},
        "severity": "high",
        "technique": "T1110.001",
        "ruleId": "sshd-1",
        "count": 5,
        "firstSeen": MOMENT,
        "lastSeen": MOMENT,
        "vouched": ["sourceIp"],
    },
    "response": {
        "action": "block_ip",
        "target": "192.0.2.1",
        "outcome": "taken",
        "expiresAt": MOMENT,
        "connections": 0,
    },
    "timestamp": MOMENT,
}
"""A report with every member, which the fast decoder takes."""


def judged(payload: bytes) -> bool:
    """Return whether the fast decoder takes a payload; what it takes the contract must take with the same values."""
    fast = fast_report(payload, AGENT)
    if fast is None:
        return False
    assert same(fast, decode(ThreatReport, payload, THREAT_LIMIT))
    return True


def test_a_guards_report_is_taken() -> None:
    """A report with every member is read fast, as is the shortest one."""
    assert judged(compact(REPORT))
    assert judged(compact({**REPORT, "response": "block_ip"}))
    shortest = {name: REPORT[name] for name in ("id", "agentId", "timestamp")}
    assert judged(compact({**shortest, "threat": {"type": "x", "confidence": 0}}))


@settings(max_examples=examples(300))
@given(report=wire.MESSAGES[ThreatReport])
def test_a_report_of_the_contract_is_read_alike(report: ThreatReport) -> None:
    """Any report that the contract can write is read with the same values, or left to the contract."""
    judged(report.model_copy(update={"agent_id": AGENT}).body())


@settings(max_examples=examples(300))
@given(data=st.data())
def test_a_wrong_value_anywhere_is_judged_as_by_the_contract(data: st.DataObject) -> None:
    """Any JSON text in place of any value: wrong types, numbers out of range, texts for numbers, null, deep nesting."""
    path = data.draw(st.sampled_from(leaves(REPORT)))
    value = data.draw(st.sampled_from(VALUES) | wire.json_values.map(compact))
    judged(compact(replaced(REPORT, path, MARK)).replace(json.dumps(MARK).encode(), value))


@settings(max_examples=examples(300))
@given(data=st.data())
@example(data=None)
def test_a_spoiled_report_is_judged_as_by_the_contract(data: st.DataObject | None) -> None:
    """A report with bytes cut out, doubled, overwritten or spliced in."""
    if data is None:
        for splice in SPLICES:
            for place in range(0, len(compact(REPORT)), 7):
                judged(compact(REPORT)[:place] + splice + compact(REPORT)[place:])
        return
    judged(data.draw(spoiled(compact(REPORT))))


NAMES = [
    "id", "agentId", "agent_id", "threat", "response", "timestamp", "type", "ruleId", "rule_id", "firstSeen",
    "first_seen", "stamp", "count", "mac", "unknown", "ID", "tImestamp", "agentid", "expiresAt", "expires_at",
]  # fmt: skip


@settings(max_examples=examples(200))
@given(
    name=st.sampled_from(NAMES),
    value=st.sampled_from([1, None, "t-2", MOMENT, {}, []]),
    where=st.sampled_from([b'{"id"', b'{"type"', b'{"action"']),
    escape=st.booleans(),
)
def test_further_doubled_and_renamed_members_are_judged_as_by_the_contract(
    name: str, value: Any, where: bytes, escape: bool
) -> None:
    """A member twice, an unknown one, one in its Python name, and one with an escape in its name."""
    written = json.dumps(name).encode()
    if escape:
        written = b'"\\u%04x%b"' % (ord(name[0]), name[1:].encode())
    judged(compact(REPORT).replace(where, b"{%b:%b,%b" % (written, compact(value), where[1:]), 1))


PIECES = ["2026", "-", "01", "02", "T", "t", " ", "W01", "24", "23", "60", ":", ".", ",", "5", "123", "1234567", "Z",
          "z", "+", "00", "0001", "9999", "\u0660", "\u2212", "12", "31", "59"]  # fmt: skip
times = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=4, max_size=16).map("".join),
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.builds(
        lambda at, place, piece: at[:place] + piece + at[place + len(piece) :],
        st.sampled_from([MOMENT, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901Z", "2026-12-31T23:59:59.999999Z"]),
        st.integers(0, 26),
        st.sampled_from(PIECES),
    ),
)


@settings(max_examples=examples(1000))
@given(text=times)
@example(text="2026-01-02T24:00:00Z")
@example(text="2026-W01-1T00:00:00Z")
@example(text="2026-01-02T03:04:05.1234567Z")
@example(text="2026-01-02T03:04:60Z")
@example(text="0001-01-01T00:00:00Z")
@example(text="0000-01-01T00:00:00Z")
@example(text="9999-12-31T23:59:59.999999Z")
@example(text="2026-01-02T03:04:05,678Z")
@example(text="2026-01-02 03:04:05.678Z")
@example(text="2026-01-02T03:04:05.678z")
@example(text="2026-01-02T03:04:05+00:00")
def test_times_are_judged_as_by_the_contract(text: str) -> None:
    """Every spelling of a time, in each place of one."""
    for path in [("timestamp",), ("threat", "firstSeen"), ("response", "expiresAt")]:
        judged(compact(replaced(REPORT, path, text)))


WORDS = [
    "",
    "x" * 128,
    "x" * 129,
    "x" * 1024,
    "x" * 1025,
    "a\x00",
    "a\x7f",
    "a\x80",
    "a\u00a0",
    "a\u2028",
    "\U0001f600" * 128,
    "T1110\n",
    "-",
]


@settings(max_examples=examples(300))
@given(
    text=st.sampled_from(WORDS) | st.text(max_size=5) | st.from_regex(r"T[0-9]{3,5}(\.[0-9]{2,4})?\n?"),
    path=st.sampled_from(
        [("id",), ("agentId",), ("threat", "type"), ("threat", "technique"), ("threat", "ruleId"), ("response",),
         ("threat", "severity"), ("threat", "vouched", 0), ("response", "action"), ("response", "target")]
    ),
)  # fmt: skip
def test_words_are_judged_as_by_the_contract(text: str, path: tuple[str | int, ...]) -> None:
    """Lengths, control characters, line ends, characters that cannot be printed."""
    judged(json.dumps(replaced(REPORT, path, text)).encode())


def test_each_word_in_each_place_is_judged_as_by_the_contract() -> None:
    """The bounds of every text."""
    for path in leaves(REPORT):
        for word in WORDS:
            judged(json.dumps(replaced(REPORT, path, word)).encode())


@pytest.mark.parametrize("number", [-1, 0, 1, 100, 100.0, 100.00001, 2**53 - 1, 2**53, 2**64, 1.0, 5e-324, 1e308, -0.0])
@pytest.mark.parametrize(
    "path", [("threat", "confidence"), ("threat", "count"), ("response", "connections"), ("threat", "evidence", "pid")]
)
def test_ranges_are_those_of_the_contract(path: tuple[str | int, ...], number: float) -> None:
    """The first and the last number of a range, and those beside them."""
    judged(compact(replaced(REPORT, path, number)))


def test_a_report_of_another_agent_is_left_to_the_contract() -> None:
    """The fast decoder does not check the grammar of agent ids: it knows the sender's."""
    assert fast_report(compact(REPORT), "ag-fedcba9876543210") is None
    assert isinstance(fast_report(compact(REPORT), AGENT), FastReport)
