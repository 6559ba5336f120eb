"""Several reports in one message: each is stored, refused or deferred by itself, as if it had come alone."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.budget import Budget, TokenBucket
from manager.engine.inbox import Inbound, Inbox
from manager.engine.messages.report_decoding import DecodedReport, UndecodedReport, decode_reports
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.decoding import DecodeError
from schemas.limits import REPORTS_IN_BATCH, THREAT_LIMIT
from schemas.message_codes import with_mac, without_mac
from schemas.report_batches import batch_body, stated_count, stated_ids
from tests.spoiling import VALUES
from tests.support.engine import Bench
from tests.support.examples import examples
from tests.support.simulated import SimulatedAgent

AGENT = "ag-0123456789abcdef"
KEY = bytes(32)


def body(report_id: str, **members: Any) -> bytes:
    document = {
        "agentId": AGENT,
        "id": report_id,
        "threat": {"type": "x", "confidence": 1.0},
        "timestamp": "2026-01-01T00:00:00.000Z",
        **members,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decoded(batch: bytes) -> list[DecodedReport | UndecodedReport]:
    return decode_reports(AGENT, with_mac(KEY, topics.THREATS.below_root(AGENT), batch))


def dead_letters(bench: Bench) -> list[tuple[str, str]]:
    return [(reason, bytes(kept).decode()) for reason, kept in bench.rows("SELECT reason, payload FROM dead_letter")]


def of_agent(bench: Bench, agent: SimulatedAgent, *ids: str) -> list[bytes]:
    return [agent.threat(bench.wall, each, sourceIp="203.0.113.7") for each in ids]


def test_reports_of_a_batch_are_stored_and_receipted_each(bench: Bench) -> None:
    """One message, one acknowledgement, one receipt with all ids; rows and documents are those of single reports."""
    agent = bench.enroll("web-1")
    reports = of_agent(bench, agent, "t-1", "t-2", "t-3")
    handle = bench.receive(topics.THREATS, agent.agent_id, agent.batch(*reports))
    assert bench.acknowledged.count(handle) == 1
    assert bench.receipts(agent)["stored"] == ["t-1", "t-2", "t-3"]
    stored = bench.rows("SELECT threat_id, document FROM threat ORDER BY sequence")
    assert stored == [(f"t-{n}", without_mac(report).decode()) for n, report in enumerate(reports, 1)]
    assert bench.fleet.registry.agents[agent.agent_id].vitals.threats_detected == 3
    assert bench.failures() == {}


def test_a_report_is_the_same_alone_and_in_a_batch(bench: Bench) -> None:
    """A repetition in the other form is known, not refused as other content."""
    agent = bench.enroll("web-1")
    reports = of_agent(bench, agent, "t-1", "t-2")
    bench.receive(topics.THREATS, agent.agent_id, reports[0])
    bench.receive(topics.THREATS, agent.agent_id, agent.batch(*reports))
    bench.receive(topics.THREATS, agent.agent_id, reports[1])
    bench.pass_time(2)
    receipt = bench.receipts(agent)
    assert (sorted(set(receipt["stored"])), receipt["refused"]) == (["t-1", "t-2"], [])
    assert bench.rows("SELECT count(*) FROM threat") == [(2,)]


def test_a_bad_report_does_not_keep_the_others_out(bench: Bench) -> None:
    """It is refused by its id, and is a dead letter of its own; one without an id is a dead letter alone."""
    agent = bench.enroll("web-1")
    good = of_agent(bench, agent, "t-1", "t-2")
    bad = json.loads(without_mac(agent.threat(bench.wall, "t-3")))
    other = {**bad, "id": "t-4", "agentId": "ag-fedcba9876543210"}
    bad["threat"] = {**bad["threat"], "confidence": 101}
    payload = agent.batch(good[0], json.dumps(bad).encode(), b'{"id":5}', json.dumps(other).encode(), good[1])
    bench.receive(topics.THREATS, agent.agent_id, payload)
    receipt = bench.receipts(agent)
    assert receipt["stored"] == ["t-1", "t-2"]
    assert {each["id"]: each["reason"] for each in receipt["refused"]} == {
        "t-3": "threat.confidence: Input should be less than or equal to 100",
        "t-4": "agentId is not the one of its topic",
    }
    kept = dead_letters(bench)
    assert [payload for _, payload in kept] == [json.dumps(bad), '{"id":5}', json.dumps(other)]
    assert bench.failures() == {}


def test_a_bad_report_alone_is_refused_as_one_in_a_batch(bench: Bench) -> None:
    """Its guard would send it for ever: the receipt refuses it."""
    agent = bench.enroll("web-1")
    bad = json.loads(without_mac(agent.threat(bench.wall, "t-3"))) | {"timestamp": "yesterday"}
    bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, json.dumps(bad).encode()))
    (refused,) = bench.receipts(agent)["refused"]
    assert refused["id"] == "t-3"
    assert refused["reason"].startswith("timestamp: ")
    assert len(dead_letters(bench)) == 1


def test_one_id_twice_in_a_batch(bench: Bench) -> None:
    """The same content is one report; other content under its id is refused."""
    agent = bench.enroll("web-1")
    first = agent.threat(bench.wall, "t-1", sourceIp="203.0.113.7")
    other = agent.threat(bench.wall, "t-1", sourceIp="203.0.113.8")
    bench.receive(topics.THREATS, agent.agent_id, agent.batch(first, first, other))
    receipt = bench.receipts(agent)
    assert receipt["stored"] == ["t-1", "t-1"]
    assert [each["id"] for each in receipt["refused"]] == ["t-1"]
    assert bench.rows("SELECT source_ip FROM threat") == [("203.0.113.7",)]


@pytest.mark.parametrize("how", ["wrong code", "code of another topic", "too large"])
def test_a_batch_has_one_code_and_one_limit(bench: Bench, how: str) -> None:
    """Without a right code over all of it nothing of a batch is read, and nothing is answered."""
    agent = bench.enroll("web-1")
    payload = agent.batch(*of_agent(bench, agent, "t-1", "t-2"))
    if how == "wrong code":
        payload = payload.replace(b"t-2", b"t-3")
    elif how == "code of another topic":
        payload = agent.coded(topics.HEARTBEAT, without_mac(payload))
    else:
        payload = agent.batch(agent.threat(bench.wall, "t-1"), agent.threat(bench.wall, "t-2", pad="x" * THREAT_LIMIT))
    bench.receive(topics.THREATS, agent.agent_id, payload)
    bench.pass_time(2)
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    assert bench.receipts(agent) == {"stored": [], "refused": [], "deferred": []}
    assert len(dead_letters(bench)) == 1


UNREADABLE = {
    "lone surrogate": body("t-9")[:-1] + b',"later":"\\ud800"}',
    "control character": body("t-9")[:-1] + b',"later":"\x01"}',
    "deep": body("t-9")[:-1] + b',"later":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "NaN": body("t-9")[:-1] + b',"later":NaN}',
    "no value": body("t-9")[:-1] + b',"later":}',
    "comma": body("t-9")[:-1] + b",}",
    "unknown escape": body("t-9")[:-1] + b',"later":"\\x,]}"}',
}
"""Reports at which the decoder of the whole message fails."""


@pytest.mark.parametrize("bad", UNREADABLE.values(), ids=UNREADABLE)
def test_a_report_that_is_no_json_is_answered_as_alone_and_keeps_no_other_out(bench: Bench, bad: bytes) -> None:
    """The others are stored; it is stored or refused by its id, with the same reason as alone."""
    agent = bench.enroll("web-1")
    good = [without_mac(each) for each in of_agent(bench, agent, "t-1", "t-2")]
    bad = bad.replace(AGENT.encode(), agent.agent_id.encode())
    alone = bad.replace(b"t-9", b"t-8")
    bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, alone))
    bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, batch_body([good[0], bad, good[1]])))
    bench.pass_time(2)
    receipt = bench.receipts(agent)
    refused = {each["id"]: re.sub(r"column [0-9]+", "", each["reason"]) for each in receipt["refused"]}
    answers = [refused.get(each, "stored" if each in receipt["stored"] else None) for each in ("t-8", "t-9")]
    assert {"t-1", "t-2"} <= set(receipt["stored"])
    assert answers[0] == answers[1] is not None
    assert len(dead_letters(bench)) == len(refused)
    assert bench.failures() == {}


@pytest.mark.parametrize("bad", [b"1", b'"x"', b"null", b"[]", b"tru", body("t-9").replace(b'"id"', b'"\\u0069d"')])
def test_elements_without_an_id_are_one_dead_letter_and_keep_no_report_out(bench: Bench, bad: bytes) -> None:
    """They did not count for the budget, so they make no dead letter each; the reports beside them are stored."""
    agent = bench.enroll("web-1")
    good = [without_mac(each) for each in of_agent(bench, agent, "t-1", "t-2")]
    batch = agent.coded(topics.THREATS, batch_body([bad, good[0], bad, good[1]]))
    bench.receive(topics.THREATS, agent.agent_id, batch)
    assert bench.receipts(agent)["stored"] == ["t-1", "t-2"]
    ((reason, kept),) = dead_letters(bench)
    assert (reason[:10], kept) == ("2 without ", bad.decode())
    assert bench.failures() == {}


NO_TEXT = body("t-9")[:-1] + b',"later":"\xff"}'
"""A report with an unknown member that is no UTF-8."""

HOSTILE = {
    "empty": b'{"reports":[]}',
    "no list": b'{"reports":{"id":1}}',
    "no JSON": b'{"reports":[{"id":1}',
    "open string": b'{"reports":["' + b'\\"' * 120_000,
    "open strings": b'{"reports":[x' + b'"' * 200_001,
    "many signs": b'{"reports":[' + b"[]" * 120_000 + b"]}",
    "no elements": b'{"reports":[,]}',
    "other bracket": b'{"reports":[1}}',
    "empty reports": batch_body([b"{}"] * 80_000),
    "empty reports with ids": batch_body([b'{"id":1}'] * 29_000),
    "nested": b'{"reports":[' * 20_000 + b"]}" * 20_000,
    "deep": b'{"reports":[' + b"[" * 200_000 + b"]}",
    "one too many": batch_body([body(f"t-{number}") for number in range(REPORTS_IN_BATCH + 1)]),
    "escaped names": batch_body([body("t-1").replace(b'"id"', b'"\\u0069d"')] * 3),
}


@pytest.mark.parametrize("batch", HOSTILE.values(), ids=HOSTILE)
def test_a_batch_that_is_none_is_one_dead_letter(bench: Bench, batch: bytes) -> None:
    """Whatever its size, it makes one dead letter, and nothing fails."""
    agent = bench.enroll("web-1")
    bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, batch))
    assert len(dead_letters(bench)) <= 1
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "good"))
    bench.pass_time(2)
    assert "good" in bench.receipts(agent)["stored"]
    assert bench.failures() == {}


@settings(max_examples=examples(200))
@given(
    bad=st.lists(
        st.sampled_from(VALUES) | st.sampled_from([b'{"x":"\xff"}', body("t-9")[:-1], body(""), NO_TEXT]), max_size=3
    ),
    place=st.integers(0, 3),
)
def test_whatever_stands_in_a_batch_the_reports_in_it_are_read(bad: list[bytes], place: int) -> None:
    """Text of any form beside reports: the reports are read, unless a bracket beside them has no end."""
    good = [body(f"t-{number}") for number in range(3)]
    batch = batch_body([*good[:place], *bad, *good[place:]])
    try:
        found = decoded(batch)
    except DecodeError:
        assert b"[" * 60_000 in bad or body("t-9")[:-1] in bad
        return
    assert [each.body for each in found if isinstance(each, DecodedReport)] == good
    assert all(each.document.encode() == each.body for each in found if isinstance(each, DecodedReport))


def test_unknown_members_beside_the_reports_are_ignored() -> None:
    """A later guard may add members to the message."""
    assert len(decoded(b'{"reports":[%b],"later":{"a":[1]}}' % body("t-1"))) == 1


def test_a_batch_counts_for_as_many_messages_as_it_has_reports() -> None:
    """Twenty reports cost what twenty messages cost; over the budget all of them are deferred by their ids."""
    inbox = Inbox(Budget(10.0, 1e9, 5.0))
    ids = [f"t-{number}" for number in range(20)]
    for start in range(3):
        batch = batch_body([body(f"{start}-{each}") for each in ids])
        inbox.put(Inbound(topics.THREATS, AGENT, topics.THREATS.below_root(AGENT), batch, start), 0.0)
    assert len(inbox) == 2
    (deferred,) = inbox.take_deferred()
    assert (deferred.report_ids, deferred.handle) == ([f"2-{each}" for each in ids], 2)
    assert not inbox.is_flooded
    inbox.put(Inbound(topics.THREATS, AGENT, topics.THREATS.below_root(AGENT), batch, 4), 0.1)
    assert inbox.is_flooded
    assert inbox.take_deferred()[0].report_ids == []


def test_messages_with_many_reports_make_no_longer_batches() -> None:
    """A batch of the engine ends with the message that fills it, by the number of its reports."""
    inbox = Inbox(Budget(1000.0, 1e9, 10.0))
    for number in range(6):
        sender = f"ag-{number:016x}"
        message = batch_body([body(f"t-{each}") for each in range(20)]) if number < 4 else body("t-1")
        inbox.put(Inbound(topics.THREATS, sender, topics.THREATS.below_root(sender), message, number), 0.0)
    assert [[item.handle for item in inbox.take(41) if isinstance(item, Inbound)] for _ in range(2)] == [
        [0, 1, 2],
        [3, 4, 5],
    ]


def test_a_batch_larger_than_a_whole_budget_is_taken_from_a_full_one() -> None:
    """It would never be taken otherwise; what it owes is paid before the next message."""
    bucket = TokenBucket(Budget(10.0, 1e9, 1.0), 0.0)
    assert bucket.try_consume(1, 0.0, 30)
    assert not bucket.try_consume(1, 2.0)
    assert bucket.try_consume(1, 2.2)
    assert not bucket.try_consume(1, 2.3, 30)


def test_deferred_reports_are_named_as_guards_write_them() -> None:
    """Our guard writes agentId first, others the id; ids elsewhere in a report alone are not read."""
    assert stated_ids(body("t-1")) == ["t-1"]
    assert stated_ids(b'{"id":"t-2","agentId":"x"}') == ["t-2"]
    assert stated_ids(b'{"threat":{"id":"t-3"},"id":"t-4"}') == []
    assert stated_ids(batch_body([body("t-1"), b'{"id":"t-2"}'])) == ["t-1", "t-2"]
    assert stated_ids(HOSTILE["empty reports with ids"]) == []
    assert stated_count(HOSTILE["empty reports with ids"]) == 29_000
    assert stated_count(HOSTILE["empty reports"]) == 1


def test_reports_of_a_deferred_batch_are_in_the_receipt(tmp_path: Path) -> None:
    """The guard hears for each report when to send it again."""
    bench = Bench(tmp_path, EngineSettings(agent_messages=1.0, burst=42.0))
    agent = bench.enroll("web-1")
    for start in range(5):
        ids = [f"{start}-{number}" for number in range(10)]
        bench.put(topics.THREATS, agent.agent_id, agent.batch(*of_agent(bench, agent, *ids)))
    bench.pass_time(2)
    receipt = bench.receipts(agent)
    assert [each for part in receipt["deferred"] for each in part["ids"]] == [f"4-{number}" for number in range(10)]
    assert len(receipt["stored"]) == 40


def test_a_report_that_is_no_text_is_refused_and_no_other(bench: Bench) -> None:
    """Bytes that are no UTF-8, where the contract does not look, are refused as any other fault."""
    agent = bench.enroll("web-1")
    whole = without_mac(agent.threat(bench.wall, "t-1"))
    bad = whole.replace(b"t-1", b"t-2")[:-1] + b',"later":"\xff"}'
    for payload in (agent.batch(bad, whole), agent.coded(topics.THREATS, bad)):
        bench.receive(topics.THREATS, agent.agent_id, payload)
    bench.pass_time(2)
    receipt = bench.receipts(agent)
    assert receipt["stored"] == ["t-1"]
    assert {each["id"] for each in receipt["refused"]} == {"t-2"}
    assert all(each["reason"].startswith("Invalid JSON: invalid unicode") for each in receipt["refused"])
    assert bench.failures() == {}
