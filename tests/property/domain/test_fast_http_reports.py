"""The fast decoder of reports over HTTP takes nothing that the contract refuses, and stores what it takes alike."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manager.domain.http_reports import prepare
from manager.errors import Invalid
from schemas.decoding import decode
from schemas.fast_http_reports import fast_events
from schemas.http_agents import HttpEvents
from schemas.limits import BODY_LIMIT, THREAT_LIMIT
from schemas.message_codes import content_digest
from schemas.threats import ThreatReport
from tests import strategies as wire
from tests.property.schemas.test_fast_threats import AGENT, MARK, MOMENT, NAMES, REPORT, WORDS, compact, same, times
from tests.spoiling import SPLICES, VALUES, leaves, replaced, spoiled
from tests.support.examples import examples

NOW = 1_800_000_000.123456

ONE: dict[str, Any] = {**REPORT, "sentAt": MOMENT, "reportedAt": MOMENT}
SEVERAL: dict[str, Any] = {"threats": [REPORT, {**REPORT, "id": "t-2"}], "sentAt": MOMENT, "reportedAt": MOMENT}
SHORTEST: dict[str, Any] = {"id": "t-1", "threat": {"type": "x", "confidence": 0, "evidence": {}}}
SHIPPED: dict[str, Any] = {
    "event": {
        "id": "evt-1", "timestamp": MOMENT, "source": "network", "severity": "high", "category": "T1110",
        "description": "many failed logins", "raw": {"line": "…", "numbers": [1, 2.5, None]}, "host": "srv",
        "metadata": {"sourceIP": "203.0.113.9", "sha256": "0" * 64, "ports": [22, 23]},
    },
    "verdict": {"conclusion": "malicious", "confidence": 92, "action": "block_ip"},
    "agentId": AGENT,
    "timestamp": MOMENT,
}  # fmt: skip
DETECTED: dict[str, Any] = {
    "events": [
        {"id": "e-1", "type": "T1059.001", "severity": "low", "details": {"src_ip": "203.0.113.9", "args": ["-c"]},
         "timestamp": MOMENT, "sigmaRuleId": "rule-7", "confidence": 0.123456789},
        {"id": "e-2", "type": "malware", "severity": "critical", "details": "a text"},
        {"id": "e-3", "type": "malware", "severity": "medium"},
    ],
    "reportedAt": MOMENT,
}  # fmt: skip
BODIES = st.sampled_from([ONE, SEVERAL, SHORTEST, SHIPPED, {"threats": [SHIPPED, REPORT]}, DETECTED])


def judged(body: bytes) -> bool:
    """Return whether the fast decoder takes a body; what it takes is prepared as by the contract."""
    fast = fast_events(body, AGENT)
    if fast is None:
        return False
    contract = decode(HttpEvents, body, BODY_LIMIT)
    assert (fast.sent_at, fast.reported_at) == (contract.sent_at, contract.reported_at)
    assert (fast.threats is None) == (contract.threats is None)
    ours, theirs = prepare(AGENT, fast, NOW), prepare(AGENT, contract, NOW)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        if _have_ids(contract):
            assert (one.document, one.digest) == (other.document, other.digest)
            assert same(one.report, other.report)
        else:
            assert one.document.partition(",")[2] == other.document.partition(",")[2]
        assert decode(ThreatReport, one.document.encode(), THREAT_LIMIT).body() == one.document.encode()
    return True


def _have_ids(events: HttpEvents) -> bool:
    """Return whether the agent gave ids to its reports; a new id differs each time."""
    if events.events is not None:
        return all(event.id is not None for event in events.events)
    reports = [events] if events.threats is None else events.threats
    return all((report.event and report.event.id) or report.id for report in reports)


def test_reports_of_the_page_are_taken() -> None:
    """One report and several are read fast, with all members and with the fewest."""
    assert judged(compact(ONE))
    assert judged(compact(SEVERAL))
    assert judged(compact(SHORTEST))
    assert judged(compact({"threat": {"type": "x", "confidence": 0}}))
    assert judged(compact({"threats": []}))
    assert judged(compact({**SHORTEST, "id": "not an id"}))


def test_reports_of_earlier_clients_are_taken() -> None:
    """An event with its verdict, alone or among others, and detected events, with all members and with the fewest."""
    assert judged(compact(SHIPPED))
    assert judged(compact({"threats": [SHIPPED, REPORT]}))
    assert judged(compact(DETECTED))
    assert judged(compact({"event": {}, "verdict": {"conclusion": "benign", "confidence": 1}}))
    assert judged(compact({"events": [{"type": "x", "severity": "high"}]}))
    assert judged(compact({"events": []}))


CONCLUSIONS = st.sampled_from(["benign", "suspicious", "malicious", "other"])


@settings(max_examples=examples(300))
@given(
    event=st.fixed_dictionaries(
        {},
        optional={
            "source": st.sampled_from([None, "", "network", "x" * 200]),
            "severity": st.sampled_from([None, "low", "HIGH", "info"]),
            "category": st.sampled_from([None, "T1110", "T1110.001", "brute_force", "", "a\nb"]),
            "metadata": st.sampled_from([None, 5, "text", [], [1], {}, {"md5": "0" * 32}, {"description": "own"}]),
            "description": st.sampled_from([None, "", "seen"]),
            "raw": st.sampled_from([None, 1e16, 2**70, [[1]], {"a": {"b": 1}}, {"a": [1]}]),
            "timestamp": st.sampled_from([None, MOMENT, 5, "yesterday"]),
            "id": st.sampled_from([None, "e-1", "", "not an id"]),
        },
    ),
    conclusion=CONCLUSIONS,
    outer=st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from([None, "t-1"]),
            "timestamp": st.sampled_from([None, MOMENT]),
            "response": st.sampled_from([None, "blocked"]),
            "threat": st.sampled_from([None, {"type": "x", "confidence": 1}]),
        },
    ),
)
def test_an_event_with_its_verdict_is_stored_alike(
    event: dict[str, Any], conclusion: str, outer: dict[str, Any]
) -> None:
    """Every mixture of absent, empty and odd members, and of members of the other shape beside them."""
    body = {**outer, "event": event, "verdict": {"conclusion": conclusion, "confidence": 50}}
    for each in (compact(body), compact({"threats": [body]})):
        judged(each)


@pytest.mark.parametrize(
    "body",
    [
        {"event": {}},
        {"verdict": {"conclusion": "benign", "confidence": 1}},
        {**SHIPPED, "threat": REPORT["threat"]},
        {**DETECTED, "threats": [REPORT]},
        {**DETECTED, "id": "t-1"},
        {**SEVERAL, "timestamp": "yesterday"},
        {**SEVERAL, "threat": REPORT["threat"]},
        {**SHORTEST, "agentId": "ag-0000000000000000"},
        {"sentAt": MOMENT},
    ],
)
def test_other_bodies_are_left_to_the_contract(body: dict[str, Any]) -> None:
    """Other shapes, two shapes at once, and reports of another agent are not judged."""
    assert not judged(compact(body))


def test_a_report_without_a_timestamp_has_a_digest_without_one() -> None:
    """The time of receipt stands in the document and not in the digest, so that a repetition is the same report."""
    events = fast_events(compact(SHORTEST), AGENT)
    assert events is not None
    (first,), (second,) = prepare(AGENT, events, NOW), prepare(AGENT, events, NOW + 1)
    assert first.digest == second.digest
    assert first.digest != content_digest(first.document.encode())
    assert first.document != second.document


def test_a_report_over_the_limit_is_refused_by_its_place() -> None:
    """The fast decoder's reports have the contract's limit and its sentence."""
    threat = {**SHORTEST["threat"], "evidence": {"a": "x" * THREAT_LIMIT}}
    for body in ({"threats": [SHORTEST, {**SHORTEST, "threat": threat}]}, {**SHORTEST, "threat": threat}):
        sentences = []
        for events in (fast_events(compact(body), AGENT), decode(HttpEvents, compact(body), BODY_LIMIT)):
            assert events is not None
            with pytest.raises(Invalid, match="at most") as refused:
                prepare(AGENT, events, NOW)
            sentences.append(str(refused.value))
        assert sentences[0] == sentences[1]


@settings(max_examples=examples(300))
@given(report=wire.MESSAGES[ThreatReport])
def test_a_report_of_the_contract_is_read_alike(report: ThreatReport) -> None:
    """Any report that the contract can write is stored with the same bytes."""
    judged(report.model_copy(update={"agent_id": AGENT}).body())


@settings(max_examples=examples(500))
@given(data=st.data())
def test_a_wrong_value_anywhere_is_judged_as_by_the_contract(data: st.DataObject) -> None:
    """Any JSON text in place of any value."""
    body = data.draw(BODIES)
    path = data.draw(st.sampled_from(leaves(body)))
    value = data.draw(st.sampled_from(VALUES) | wire.json_values.map(compact))
    judged(compact(replaced(body, path, MARK)).replace(json.dumps(MARK).encode(), value))


@settings(max_examples=examples(300))
@given(data=st.data())
@example(data=None)
def test_a_spoiled_body_is_judged_as_by_the_contract(data: st.DataObject | None) -> None:
    """A body with bytes cut out, doubled, overwritten or spliced in."""
    if data is None:
        for splice in SPLICES:
            for place in range(0, len(compact(ONE)), 11):
                judged(compact(ONE)[:place] + splice + compact(ONE)[place:])
        return
    judged(data.draw(spoiled(compact(data.draw(BODIES)))))


@settings(max_examples=examples(300))
@given(
    body=BODIES,
    name=st.sampled_from([*NAMES, "threats", "events", "event", "verdict", "sentAt", "sent", "reported_at"]),
    value=st.sampled_from([1, None, "t-2", MOMENT, {}, []]),
    where=st.sampled_from([b'{"id"', b'{"type"', b'{"action"', b'{"threats"']),
    escape=st.booleans(),
)
def test_further_doubled_and_renamed_members_are_judged_as_by_the_contract(
    body: dict[str, Any], name: str, value: Any, where: bytes, escape: bool
) -> None:
    """A member twice, an unknown one, one in its Python name, and one with an escape in its name."""
    written = json.dumps(name).encode()
    if escape:
        written = b'"\\u%04x%b"' % (ord(name[0]), name[1:].encode())
    judged(compact(body).replace(where, b"{%b:%b,%b" % (written, compact(value), where[1:]), 1))


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e15, 1e16, -1e16, 9.9e15, 1e-5, 1e-6, 1e-7, -0.0, 5e-324, 123456789012345.6]),
    st.integers(-(2**70), 2**70),
)


@settings(max_examples=examples(500))
@given(number=NUMBERS, text=st.text(max_size=8), listed=st.booleans())
def test_evidence_is_stored_with_the_same_bytes(number: float, text: str, listed: bool) -> None:
    """Numbers and texts of every kind."""
    evidence = {"n": [number, text] if listed else number, "t": text, text or "k": None}
    judged(json.dumps({**SHORTEST, "threat": {**SHORTEST["threat"], "evidence": evidence}}).encode())


@settings(max_examples=examples(200))
@given(
    evidence=st.dictionaries(
        st.sampled_from(["sourceIp", "sourceIP", "src_ip", "client_ip", "fileHash", "md5", "sha256", "hash", "user"]),
        st.sampled_from(["192.0.2.1", "", 5, None]),
    )
)
def test_names_of_earlier_agents_are_read_alike(evidence: dict[str, Any]) -> None:
    """Evidence under earlier names gets the contract's names beside them."""
    assert judged(compact({**SHORTEST, "threat": {**SHORTEST["threat"], "evidence": evidence}}))


@settings(max_examples=examples(1000))
@given(text=times)
@example(text="2026-01-02T24:00:00Z")
@example(text="2026-01-02T03:04:05.000Z")
@example(text="2026-01-02T03:04:05.000000Z")
@example(text="2026-01-02T03:04:05.100Z")
@example(text="2026-01-02T03:04:05.000010Z")
@example(text="0001-01-01T00:00:00Z")
def test_times_are_judged_as_by_the_contract(text: str) -> None:
    """Every spelling of a time, in each place of one."""
    for path in [("timestamp",), ("threat", "firstSeen"), ("response", "expiresAt"), ("sentAt",), ("reportedAt",)]:
        judged(compact(replaced(ONE, path, text)))
    judged(compact(replaced(SHIPPED, ("event", "timestamp"), text)))
    judged(compact(replaced(DETECTED, ("events", 0, "timestamp"), text)))


@settings(max_examples=examples(300))
@given(
    text=st.sampled_from(WORDS) | st.text(max_size=5),
    path=st.sampled_from(
        [("id",), ("agentId",), ("threat", "type"), ("threat", "technique"), ("threat", "ruleId"), ("response",),
         ("threat", "severity"), ("threat", "vouched", 0), ("response", "action"), ("response", "target")]
    ),
)  # fmt: skip
def test_words_are_judged_as_by_the_contract(text: str, path: tuple[str | int, ...]) -> None:
    """Lengths, control characters, line ends, characters that cannot be printed."""
    judged(json.dumps(replaced(ONE, path, text)).encode())


@settings(max_examples=examples(300))
@given(
    text=st.sampled_from(WORDS) | st.text(max_size=5),
    place=st.sampled_from(
        [(SHIPPED, ("event", name)) for name in ("id", "category", "source", "description", "severity")]
        + [(SHIPPED, ("verdict", name)) for name in ("action", "conclusion")]
        + [(DETECTED, ("events", 0, name)) for name in ("id", "type", "severity", "sigmaRuleId", "details")]
    ),
)
def test_words_of_earlier_clients_are_judged_as_by_the_contract(
    text: str, place: tuple[dict[str, Any], tuple[str | int, ...]]
) -> None:
    """The same texts in the shapes of earlier clients."""
    body, path = place
    judged(json.dumps(replaced(body, path, text)).encode())


@pytest.mark.parametrize("number", [-0.1, 0, 1, 1.5, 100, 100.5, True])
def test_confidences_of_earlier_clients_are_judged_as_by_the_contract(number: float) -> None:
    """A verdict's is a percentage, a detected event's a share."""
    judged(compact(replaced(SHIPPED, ("verdict", "confidence"), number)))
    judged(compact(replaced(DETECTED, ("events", 0, "confidence"), number)))
