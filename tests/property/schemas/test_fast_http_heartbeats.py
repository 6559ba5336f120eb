"""The fast decoder of heartbeats over HTTP takes nothing that the contract refuses, and reads what it takes alike."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.decoding import DecodeError, decode, decode_leniently
from schemas.fast_http_heartbeats import fast_http_heartbeat
from schemas.http_agents import LARGEST_UPTIME, HttpHeartbeat
from schemas.limits import LOGINS_IN_HEARTBEAT, MESSAGE_LIMIT
from schemas.presence import Heartbeat
from tests import strategies as wire
from tests.property.schemas.alike import compact, same
from tests.property.schemas.test_fast_heartbeats import HEARTBEAT, LOGIN, MARK, MOMENT, SOURCE, UNENFORCED, WORDS
from tests.property.schemas.test_fast_threats import times
from tests.spoiling import SPLICES, VALUES, leaves, replaced, spoiled
from tests.support.examples import examples

_OVER_MQTT_ALONE = {"session", "sequence", "versionProof"}
BODY: dict[str, Any] = {
    **{name: value for name, value in HEARTBEAT.items() if name not in _OVER_MQTT_ALONE},
    "memoryUsageMB": 58.25,
    "threatsDetected": 3,
    "actionsExecuted": 1,
    "version": "1.4.2",
    "policyError": "",
    "timestamp": MOMENT,
}
"""A heartbeat with every member, each under its first name, which the fast decoder takes."""

OTHER_NAMES = {
    "cpuUsage": 1, "memUsage": 2, "threatCount": 3, "memory_usage_mb": 4, "memoryUsageMb": 5, "policy_version": 6,
    "sent_at": MOMENT, "sent": MOMENT, "time": MOMENT, "unknown": None, "mac": "x",
}  # fmt: skip
"""Other names of members, of the contract and of the decoder's own class, and unknown ones."""


def judged(body: bytes) -> bool:
    """Return whether the fast decoder takes a body; what it takes the contract must take with the same values."""
    fast = fast_http_heartbeat(body)
    if fast is None:
        return False
    contract, dropped = decode_leniently(HttpHeartbeat, body, MESSAGE_LIMIT)
    assert dropped == []
    assert same(fast, contract)
    assert same(fast.uptime_seconds, contract.uptime_seconds)
    return True


def test_a_guards_heartbeat_is_taken() -> None:
    """A heartbeat with every member is read fast, as are an empty one and the one of the lifecycle page."""
    names = {next(iter(_names(field))) for field in HttpHeartbeat.model_fields.values()}
    assert names == set(BODY)
    assert judged(compact(BODY))
    assert judged(b"{}")
    assert judged(b'{"eventsProcessed":1200,"threatsDetected":3,"mode":"protection","uptime":86400.5,"cpu":null}')


def _names(field: Any) -> list[str]:
    alias = field.validation_alias or field.alias
    return [alias] if isinstance(alias, str) else [str(each) for each in alias.choices]


@pytest.mark.parametrize(("name", "value"), OTHER_NAMES.items())
def test_other_names_are_left_to_the_contract(name: str, value: Any) -> None:
    """What earlier clients call a member, beside the others or alone, is not judged."""
    assert not judged(compact({**BODY, name: value}))
    assert not judged(compact({name: value}))


@settings(max_examples=examples(200))
@given(heartbeat=wire.MESSAGES[Heartbeat])
def test_a_heartbeat_of_the_contract_is_read_alike(heartbeat: Heartbeat) -> None:
    """Any heartbeat that a guard can write is read with the same values, or left to the contract."""
    document = json.loads(heartbeat.body())
    judged(compact({name: value for name, value in document.items() if name not in _OVER_MQTT_ALONE}))


@settings(max_examples=examples(400))
@given(data=st.data())
def test_a_wrong_value_anywhere_is_judged_as_by_the_contract(data: st.DataObject) -> None:
    """Any JSON text in place of any value: wrong types, numbers out of range, texts for numbers, null, deep nesting."""
    path = data.draw(st.sampled_from(leaves(BODY)))
    value = data.draw(st.sampled_from(VALUES) | wire.json_values.map(compact))
    judged(compact(replaced(BODY, path, MARK)).replace(json.dumps(MARK).encode(), value))


def test_each_wrong_value_in_each_place_is_judged_as_by_the_contract() -> None:
    """Every value that breaks readers, in place of every member."""
    for path in leaves(BODY):
        for value in VALUES:
            judged(compact(replaced(BODY, path, MARK)).replace(json.dumps(MARK).encode(), value))


@settings(max_examples=examples(300))
@given(data=st.data())
@example(data=None)
def test_a_spoiled_heartbeat_is_judged_as_by_the_contract(data: st.DataObject | None) -> None:
    """A heartbeat with bytes cut out, doubled, overwritten or spliced in."""
    if data is None:
        for splice in SPLICES:
            for place in range(0, len(compact(BODY)), 7):
                judged(compact(BODY)[:place] + splice + compact(BODY)[place:])
        return
    judged(data.draw(spoiled(compact(BODY))))


@settings(max_examples=examples(300))
@given(
    name=st.sampled_from([*BODY, *OTHER_NAMES, "at", "lastAt", "set", "source_ip"]),
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
    judged(compact(BODY).replace(where, b"{%b:%b,%b" % (written, compact(value), where[1:]), 1))


@settings(max_examples=examples(500))
@given(text=times)
def test_times_are_judged_as_by_the_contract(text: str) -> None:
    """Every spelling of a time, in each place of one."""
    for path in [("sentAt",), ("timestamp",), ("sources", 0, "lastAt"), ("logins", 0, "at")]:
        judged(compact(replaced(BODY, path, text)))


def test_each_word_in_each_place_is_judged_as_by_the_contract() -> None:
    """The bounds of every text."""
    for path in leaves(BODY):
        for word in [*WORDS, "x" * 160, "x" * 161, "x" * 256, "x" * 257, "x" * 1024, "x" * 1025, "\x7f", "a\u2028"]:
            judged(json.dumps(replaced(BODY, path, word)).encode())


@pytest.mark.parametrize(
    "number",
    [-1, 0, 1, 100, 100.0, 100.00001, 2**53 - 1, 2**53, 2**64, 1e10, 1e10 + 1, LARGEST_UPTIME, 1e13 + 1, -0.0, 1e300],
)
def test_ranges_are_those_of_the_contract(number: float) -> None:
    """The first and the last number of a range, and those beside them, for each member."""
    for path in leaves(BODY):
        judged(compact(replaced(BODY, path, number)))


@pytest.mark.parametrize(
    ("path", "element", "most"),
    [(("sources",), SOURCE, 64), (("logins",), LOGIN, LOGINS_IN_HEARTBEAT), (("enforced", "reasons"), UNENFORCED, 5)],
)
def test_lists_are_as_long_as_in_the_contract(path: tuple[str, ...], element: Any, most: int) -> None:
    """The longest list is taken, one more is left to the contract, which drops it."""
    assert judged(compact(replaced(BODY, path, [element] * most)))
    assert not judged(compact(replaced(BODY, path, [element] * (most + 1))))


def test_a_body_over_the_limit_is_left_to_the_contract() -> None:
    """The limit of a message holds for both."""
    longest = b"{}" + b" " * (MESSAGE_LIMIT - 2)
    assert judged(longest)
    assert not judged(longest + b" ")
    assert decode(HttpHeartbeat, longest, MESSAGE_LIMIT) == HttpHeartbeat()


@settings(max_examples=examples(400))
@given(data=st.data())
def test_what_is_handed_over_of_a_heartbeat_means_the_same(data: st.DataObject) -> None:
    """A worker writes what it took of a heartbeat, and the leader reads it with the same values."""
    path = data.draw(st.sampled_from(leaves(BODY)))
    value = data.draw(st.sampled_from(VALUES) | wire.json_values.map(compact))
    names = data.draw(st.sampled_from([{}, {"cpuUsage": 1.5}, {"memUsage": 2}, {"threatCount": 3}]))
    body = compact(replaced({**BODY, **names}, path, MARK)).replace(json.dumps(MARK).encode(), value)
    try:
        taken, _ = decode_leniently(HttpHeartbeat, body, MESSAGE_LIMIT)
    except DecodeError:
        return
    assert decode(HttpHeartbeat, taken.body(), 2 * MESSAGE_LIMIT) == taken
    fast = fast_http_heartbeat(taken.body())
    assert fast is None or same(fast, taken)
