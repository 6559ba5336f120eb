"""Messages as the contract writes them are read member by member, and written as they came."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.blocklist import BlocklistChange, BlocklistSnapshot
from schemas.decoding import DecodeError, decode
from schemas.fleet import FleetEvent
from schemas.model import Timestamp, WireModel, iso, utc
from schemas.policy import Policy, PolicyApplied
from schemas.presence import Heartbeat, ManagerKeys, ManagerPresence, Mode, PolicyState, Presence
from schemas.registration import Registration, RegistrationReply, Rejection
from schemas.threats import Receipt, ResponseTaken, Severity, ThreatReport
from tests.unit.schemas.hostile_ids import hostile
from tests.unit.schemas.wire_examples import AGENT, EXAMPLES, LIMITS, altered

BY_MODEL = pytest.mark.parametrize("model", EXAMPLES, ids=lambda model: model.__name__)

IDS = [
    (Registration, "clientId", "clientId"),
    (Registration, "organizationId", "organizationId"),
    (RegistrationReply, "clientId", "clientId"),
    (RegistrationReply, "agentId", "agentId"),
    (RegistrationReply, "organizationId", "organizationId"),
    (ThreatReport, "agentId", "agentId"),
    (Policy, "agentId", "agentId"),
    (Rejection, "clientId", "clientId"),
    (BlocklistSnapshot, "organizationId", "organizationId"),
    (BlocklistChange, "organizationId", "organizationId"),
    (FleetEvent, "event", "event"),
    (FleetEvent, "agentId", "agentId"),
    (FleetEvent, "organizationId", "organizationId"),
]

WORDS = [
    (Registration, "hostname"),
    (Registration, "site"),
    (Registration, "tags.0"),
    (Registration, "tokenId"),
    (ThreatReport, "id"),
    (Receipt, "stored.0"),
    (Receipt, "refused.0.id"),
    (Receipt, "deferred.0.ids.0"),
]


def test_every_message_has_an_example() -> None:
    """No message of the table is left out."""
    assert set(EXAMPLES) == set(LIMITS)


@BY_MODEL
def test_an_example_sets_every_member_and_is_written_as_it_came(model: type[WireModel]) -> None:
    """All members that a model knows stand in its example, in camelCase, and come back as they were."""
    message = decode(model, json.dumps(EXAMPLES[model]).encode(), LIMITS[model])
    assert message.model_fields_set == set(model.model_fields)
    written = json.loads(message.body())
    assert _same_times(written) == _same_times(EXAMPLES[model])


def _same_times(document: Any) -> Any:
    """Return a document with its times as moments: fractions of seconds may be written with or without zeros."""
    if isinstance(document, dict):
        return {name: _same_times(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_same_times(element) for element in document]
    if isinstance(document, str) and document.startswith("2026-"):
        assert document.endswith("Z")
        return datetime.fromisoformat(document)
    return document


@BY_MODEL
def test_a_message_without_a_required_member_is_refused_by_its_name(model: type[WireModel]) -> None:
    """A member without a default is required, and the error names it in its wire name."""
    for name, field in model.model_fields.items():
        document = dict(EXAMPLES[model])
        alias = str(field.alias)
        assert document.pop(alias) is not None
        payload = json.dumps(document).encode()
        if field.is_required():
            with pytest.raises(DecodeError, match=f"^{alias}: "):
                decode(model, payload, LIMITS[model])
        else:
            assert name not in decode(model, payload, LIMITS[model]).model_fields_set


def test_members_mean_what_they_say() -> None:
    """The words of the lifecycle arrive in the members that carry their names."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    heartbeat = decode(Heartbeat, json.dumps(EXAMPLES[Heartbeat]).encode(), 16_384)
    assert (heartbeat.cpu, heartbeat.memory, heartbeat.events_processed) == (12.5, 50.0, 10)
    assert (heartbeat.mode, heartbeat.policy_state) == (Mode.PROTECTION, PolicyState.PARTIAL)
    assert (heartbeat.session, heartbeat.sequence, heartbeat.sent_at) == (7, 3, moment)
    report = decode(ThreatReport, json.dumps(EXAMPLES[ThreatReport]).encode(), 262_144)
    assert report.agent_id == AGENT
    assert (report.threat.severity, report.threat.technique) == (Severity.HIGH, "T1110.001")
    assert report.threat.evidence["other_key"] == [None, True, {"a": 1.5}]
    assert isinstance(report.response, ResponseTaken)
    assert (report.response.action, report.response.expires_at) == ("block_ip", moment)


def test_a_response_may_be_a_word_as_the_page_has_it() -> None:
    """`response` is a string on the lifecycle page, and stays one."""
    assert decode(ThreatReport, altered(ThreatReport, "response", "kill_process"), 4096).response == "kill_process"


@pytest.mark.parametrize(("model", "path", "kind"), IDS, ids=lambda part: getattr(part, "__name__", part))
def test_hostile_ids_are_refused_in_messages(model: type[WireModel], path: str, kind: str) -> None:
    """No message brings an id that could break out of a topic, a path or a query."""
    for text in hostile(kind):
        with pytest.raises(DecodeError, match=f"^{path}: "):
            decode(model, altered(model, path, text), 1 << 20)


@pytest.mark.parametrize(("model", "path"), WORDS, ids=lambda part: getattr(part, "__name__", part))
def test_hostile_words_are_refused_in_messages(model: type[WireModel], path: str) -> None:
    """Hostnames, labels, token ids and threat ids have no separators, wildcards, white space or control characters."""
    for text in ("", "+", "#", "a/b", "a+", "a#", "a\0", "a\n", "\na", "a b", "a\t", "a\x7f", "a\u2028", "x" * 10_240):
        with pytest.raises(DecodeError, match=rf"^{path}: "):
            decode(model, altered(model, path, text), 1 << 20)


@pytest.mark.parametrize(("model", "path"), WORDS[1:], ids=lambda part: getattr(part, "__name__", part))
def test_words_of_a_grammar_are_ascii(model: type[WireModel], path: str) -> None:
    """Look-alikes of letters and digits are no letters and digits."""
    for text in ("\u0430", "\uff41", "\u0661", "\u212a", "a\u0301", "\u200b"):
        with pytest.raises(DecodeError, match=rf"^{path}: "):
            decode(model, altered(model, path, text), 4096)


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (Registration, "os"),
        (Registration, "arch"),
        (Registration, "version"),
        (ThreatReport, "threat.type"),
        (ThreatReport, "threat.ruleId"),
        (ThreatReport, "response.action"),
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_one_line_is_one_line(model: type[WireModel], path: str) -> None:
    """Short texts that people read have no control characters that could forge a second line or steer a terminal."""
    for text in ("", "a\n", "a\nb", "\x1b[2J", "a\0", "a\x7f", "x" * 257):
        with pytest.raises(DecodeError):
            decode(model, altered(model, path, text), 1 << 20)


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (Presence, "session"),
        (Heartbeat, "session"),
        (Heartbeat, "sequence"),
        (Heartbeat, "eventsProcessed"),
        (Heartbeat, "policyVersion"),
        (Heartbeat, "outboxSize"),
        (RegistrationReply, "session"),
        (Policy, "version"),
        (ThreatReport, "threat.count"),
        (BlocklistSnapshot, "sequence"),
        (BlocklistChange, "fromSequence"),
        (PolicyApplied, "version"),
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
@pytest.mark.parametrize("value", [-1, 2**53, 10**30, 1.5, 1e300, "1", True, [1]])
def test_a_count_is_a_whole_number_that_json_can_carry(model: type[WireModel], path: str, value: Any) -> None:
    """Counts go from 0 to 2**53 - 1, which every JSON reader and every database column holds exactly."""
    with pytest.raises(DecodeError, match=f"^{path}: "):
        decode(model, altered(model, path, value), 1 << 20)


@pytest.mark.parametrize("path", ["cpu", "memory", "uptime"])
@pytest.mark.parametrize("value", [-0.1, 1e11, "50", True, None])
def test_a_measure_is_a_number_in_its_range(path: str, value: Any) -> None:
    """Percentages and seconds are never read from texts, and have bounds."""
    with pytest.raises(DecodeError, match=f"^{path}: "):
        decode(Heartbeat, altered(Heartbeat, path, value), 4096)


@pytest.mark.parametrize(
    ("path", "value"), [("cpu", 0), ("cpu", 100), ("memory", 100.0), ("session", 0), ("sequence", 2**53 - 1)]
)
def test_bounds_are_inclusive(path: str, value: float) -> None:
    """The least and the greatest value of a range belong to it."""
    decode(Heartbeat, altered(Heartbeat, path, value), 4096)


def test_messages_cannot_be_changed() -> None:
    """A message that was checked stays as it was checked."""
    message = decode(ManagerPresence, json.dumps(EXAMPLES[ManagerPresence]).encode(), 4096)
    with pytest.raises(ValueError, match="frozen"):
        message.state = "offline"  # type: ignore[misc]  # what the type checker forbids must fail at run time too


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_767_323_045.678, "2026-01-02T03:04:05.678Z"),
        (1_767_323_045, "2026-01-02T03:04:05.000Z"),
    ],
)
def test_seconds_since_1970_are_written_as_the_wire_writes_times(epoch: float, text: str) -> None:
    """`iso` writes milliseconds and Z, and says the same moment as `utc`."""
    assert iso(epoch) == text
    assert utc(epoch) == datetime.fromisoformat(text)
    assert utc(epoch).tzinfo is UTC


class FirstKeys(WireModel):
    """ManagerKeys as the first release has it."""

    sign_key: str
    seal_key: str
    sent_at: Timestamp | None = None


def test_a_guard_of_the_first_release_reads_keys_that_list_more() -> None:
    """It does not know `accepts` and what came later, and sends each report alone, as before."""
    payload = json.dumps(EXAMPLES[ManagerKeys]).encode()
    assert decode(FirstKeys, payload, LIMITS[ManagerKeys]).sign_key == EXAMPLES[ManagerKeys]["signKey"]
    first = {name: EXAMPLES[ManagerKeys][name] for name in ("signKey", "sealKey", "sentAt")}
    assert decode(ManagerKeys, json.dumps(first).encode(), LIMITS[ManagerKeys]).accepts == []
