"""The fast decoder of heartbeats takes nothing that the contract refuses, and reads what it takes alike."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.decoding import decode
from schemas.fast_heartbeats import fast_heartbeat
from schemas.limits import LOGINS_IN_HEARTBEAT, MESSAGE_LIMIT
from schemas.presence import Heartbeat
from tests import strategies as wire
from tests.property.schemas.alike import compact, same
from tests.property.schemas.test_fast_threats import times
from tests.spoiling import SPLICES, VALUES, leaves, replaced, spoiled
from tests.support.examples import examples

MOMENT = "2026-01-02T03:04:05.678Z"
MARK = "\x01mark\x01"

SOURCE = {"name": "journal", "state": "ok", "records": 7, "understood": 6, "lastAt": MOMENT, "reason": "none"}
LOGIN = {"sourceIp": "192.0.2.1", "user": "root", "at": MOMENT, "guessed": True}
UNENFORCED = {"value": "192.0.2.254", "reason": "it is a gateway of this host"}
HEARTBEAT: dict[str, Any] = {
    "cpu": 12.5,
    "memory": 40,
    "eventsProcessed": 17,
    "eventsTotal": 119,
    "mode": "protection",
    "modeWanted": "learning",
    "trialSecondsLeft": 1.5,
    "uptime": 3.0,
    "sentAt": MOMENT,
    "session": 1,
    "sequence": 7,
    "policyVersion": 3,
    "policyDigest": "0123456789abcdef" * 4,
    "policyState": "applied",
    "versionProof": "A" * 86,
    "blocklistSequence": 0,
    "outboxSize": 1,
    "outboxDropped": 2,
    "health": "degraded",
    "sources": [SOURCE, {"name": "a", "state": "silent"}],
    "enforcement": "nftables",
    "enforced": {
        "policyVersion": 3,
        "blocklistSequence": 4,
        "set": 5,
        "ineffective": 1,
        "refused": 1,
        "impossible": 0,
        "failed": 0,
        "reasons": [UNENFORCED],
    },
    "logins": [LOGIN],
    "receiptMark": "1767225600000.0a.7.A-_",
}
"""A heartbeat with every member, which the fast decoder takes."""


def judged(payload: bytes) -> bool:
    """Return whether the fast decoder takes a payload; what it takes the contract must take with the same values."""
    fast = fast_heartbeat(payload)
    if fast is None:
        return False
    assert same(fast, decode(Heartbeat, payload, MESSAGE_LIMIT))
    return True


def test_a_guards_heartbeat_is_taken() -> None:
    """A heartbeat with every member is read fast, as is the shortest one."""
    assert set(HEARTBEAT) == {field.alias or field.serialization_alias for field in Heartbeat.model_fields.values()}
    assert judged(compact(HEARTBEAT))
    shortest = ("cpu", "memory", "eventsProcessed", "mode", "uptime", "sentAt", "session", "sequence")
    assert judged(compact({name: HEARTBEAT[name] for name in shortest}))


@settings(max_examples=examples(300))
@given(heartbeat=wire.MESSAGES[Heartbeat])
def test_a_heartbeat_of_the_contract_is_read_alike(heartbeat: Heartbeat) -> None:
    """Any heartbeat that the contract can write is read with the same values, or left to the contract."""
    judged(heartbeat.body())


@settings(max_examples=examples(300))
@given(data=st.data())
def test_a_wrong_value_anywhere_is_judged_as_by_the_contract(data: st.DataObject) -> None:
    """Any JSON text in place of any value: wrong types, numbers out of range, texts for numbers, null, deep nesting."""
    path = data.draw(st.sampled_from(leaves(HEARTBEAT)))
    value = data.draw(st.sampled_from([each for each in VALUES if len(each) < MESSAGE_LIMIT // 2]))
    value = data.draw(st.just(value) | wire.json_values.map(compact))
    judged(compact(replaced(HEARTBEAT, path, MARK)).replace(json.dumps(MARK).encode(), value))


@settings(max_examples=examples(300))
@given(data=st.data())
@example(data=None)
def test_a_spoiled_heartbeat_is_judged_as_by_the_contract(data: st.DataObject | None) -> None:
    """A heartbeat with bytes cut out, doubled, overwritten or spliced in."""
    if data is None:
        for splice in SPLICES:
            for place in range(0, len(compact(HEARTBEAT)), 7):
                judged(compact(HEARTBEAT)[:place] + splice + compact(HEARTBEAT)[place:])
        return
    payload = data.draw(spoiled(compact(HEARTBEAT)))
    if len(payload) <= MESSAGE_LIMIT:
        judged(payload)


NAMES = [
    "cpu", "eventsProcessed", "events_processed", "sentAt", "sent_at", "stamp", "enforced", "enforcedMeasures", "at",
    "enforced_measures", "lastAt", "last_at", "lastStamp", "sourceIp", "source_ip", "set", "mac", "unknown", "health",
]  # fmt: skip


@settings(max_examples=examples(200))
@given(
    name=st.sampled_from(NAMES),
    value=st.sampled_from([1, None, "ok", MOMENT, {}, []]),
    where=st.sampled_from([b'{"cpu"', b'{"name"', b'{"policyVersion"', b'{"sourceIp"', b'{"value"']),
    escape=st.booleans(),
)
def test_further_doubled_and_renamed_members_are_judged_as_by_the_contract(
    name: str, value: Any, where: bytes, escape: bool
) -> None:
    """A member twice, an unknown one, one in its Python name, and one with an escape in its name."""
    written = json.dumps(name).encode()
    if escape:
        written = b'"\\u%04x%b"' % (ord(name[0]), name[1:].encode())
    judged(compact(HEARTBEAT).replace(where, b"{%b:%b,%b" % (written, compact(value), where[1:]), 1))


@settings(max_examples=examples(500))
@given(text=times)
def test_times_are_judged_as_by_the_contract(text: str) -> None:
    """Every spelling of a time, in each place of one."""
    for path in [("sentAt",), ("sources", 0, "lastAt"), ("logins", 0, "at")]:
        judged(compact(replaced(HEARTBEAT, path, text)))


WORDS = [
    "", "ok", "OK", "stopped", "some_thing", "nftables", "applied", "learning", "x" * 32, "x" * 33, "x" * 64, "x" * 65,
    "x" * 128, "x" * 129, "x" * 512, "x" * 513, "0" * 64, "0" * 63 + "g", "0" * 63 + "\n", "A" * 64, "a\x00", "\u0660",
]  # fmt: skip


@settings(max_examples=examples(300))
@given(
    text=st.sampled_from(WORDS) | st.text(max_size=5),
    path=st.sampled_from([path for path in leaves(HEARTBEAT) if isinstance(path[-1], str)]),
)
def test_words_are_judged_as_by_the_contract(text: str, path: tuple[str | int, ...]) -> None:
    """Lengths, words of lists, digests, control characters."""
    judged(json.dumps(replaced(HEARTBEAT, path, text)).encode())


def test_each_word_in_each_place_is_judged_as_by_the_contract() -> None:
    """The bounds of every text."""
    for path in leaves(HEARTBEAT):
        for word in WORDS:
            judged(json.dumps(replaced(HEARTBEAT, path, word)).encode())


@pytest.mark.parametrize("number", [-1, 0, 1, 100, 100.0, 100.00001, 2**53 - 1, 2**53, 2**64, 1e10, 1e10 + 1, -0.0])
def test_ranges_are_those_of_the_contract(number: float) -> None:
    """The first and the last number of a range, and those beside them, for each member."""
    for path in leaves(HEARTBEAT):
        judged(compact(replaced(HEARTBEAT, path, number)))


@pytest.mark.parametrize(
    ("path", "element", "most"),
    [
        (("sources",), SOURCE, 64),
        (("logins",), LOGIN, LOGINS_IN_HEARTBEAT),
        (("enforced", "reasons"), UNENFORCED, 5),
    ],
)
def test_lists_are_as_long_as_in_the_contract(path: tuple[str, ...], element: Any, most: int) -> None:
    """The longest list is taken, one more is left to the contract, which refuses it."""
    assert judged(compact(replaced(HEARTBEAT, path, [element] * most)))
    assert not judged(compact(replaced(HEARTBEAT, path, [element] * (most + 1))))
