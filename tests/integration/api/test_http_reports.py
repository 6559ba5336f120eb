"""Threats over HTTP: each documented shape, what its fields become, and that all of a request are stored or none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.api.served import LOOPBACK, HttpAgent, Served

pytestmark = pytest.mark.usefixtures("each_system")

GUARD_EVENT = {
    "id": "evt-1",
    "timestamp": "2027-01-15T07:59:00.000Z",
    "source": "network",
    "severity": "high",
    "category": "T1110.001",
    "description": "many failed logins",
    "raw": [1, {"any": None}],
    "host": "srv-01",
    "metadata": {"remoteAddress": "198.51.100.7", "sha256": "A" * 64, "port": 22},
}
GUARD_VERDICT = {"conclusion": "malicious", "confidence": 91, "action": "block_ip"}
PAGE = {
    "threat": {"type": "brute_force", "confidence": 90, "evidence": {"sourceIp": "198.51.100.7"}},
    "response": "block_ip",
    "timestamp": "2027-01-15T07:59:00Z",
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


@pytest.fixture
def agent(served: Served) -> Iterator[HttpAgent]:
    agent = served.join()
    with agent.client:
        yield agent


def _threats(admin: httpx2.Client, **query: Any) -> list[dict[str, Any]]:
    return list(admin.get("/api/threats", params=query).json()["data"])


def test_the_pages_shape_is_stored_as_it_is(admin: httpx2.Client, agent: HttpAgent) -> None:
    """201 with one id; the threat is the report, and its timestamp is the event time."""
    answer = agent.events({**PAGE, "agentId": agent.agent_id})
    data = answer.json()["data"]
    assert (answer.status_code, data["received"], data["accepted"]) == (201, 1, 1)
    (threat,) = data["threats"]
    assert (threat["id"], threat["sourceAgentId"], threat["sourceHostname"]) == (
        data["eventIds"][0], agent.agent_id, "srv-01",
    )  # fmt: skip
    (kept,) = _threats(admin)
    assert (kept["id"], kept["hostname"]) == (threat["id"], "srv-01")
    assert kept["threat"]["evidence"] == {"sourceIp": "198.51.100.7"}
    assert (kept["response"], kept["timestamp"]) == ("block_ip", "2027-01-15T07:59:00Z")
    assert (kept["eventTime"], kept["timeKnown"]) == ("2027-01-15T07:59:00.000Z", True)


@pytest.mark.parametrize(
    ("stamps", "event_time", "known"),
    [
        ({"timestamp": "2027-01-15T07:55:01Z"}, "2027-01-15T07:55:01.000Z", True),
        ({"timestamp": "2027-01-15T08:04:59Z"}, "2027-01-15T08:00:00.000Z", True),
        ({"timestamp": "2027-01-15T07:00:00Z"}, "2027-01-15T07:00:00.000Z", True),
        ({"timestamp": "2027-01-15T09:00:00Z"}, "2027-01-15T08:00:00.000Z", False),
        ({"timestamp": "2027-01-15T06:58:00Z", "reportedAt": "2027-01-15T07:00:00Z"}, "2027-01-15T07:58:00.000Z", True),
        ({"timestamp": "2027-01-15T09:58:00Z", "reportedAt": "2027-01-15T10:00:00Z"}, "2027-01-15T07:58:00.000Z", True),
        ({"timestamp": 1_799_999_970_000}, "2027-01-15T07:59:30.000Z", True),
        ({}, "2027-01-15T08:00:00.000Z", True),
    ],
)
def test_event_time_without_a_known_offset(
    admin: httpx2.Client, agent: HttpAgent, stamps: dict[str, Any], event_time: str, known: bool
) -> None:
    """A timestamp near the receipt counts; else `reportedAt` corrects it; else it is late, or unknown in the future."""
    report = {name: value for name, value in PAGE.items() if name != "timestamp"}
    assert agent.events({**report, **stamps}).status_code == 201
    (kept,) = _threats(admin)
    assert (kept["eventTime"], kept["timeKnown"]) == (event_time, known)


def test_a_heartbeats_timestamp_teaches_the_clock_offset(served: Served, admin: httpx2.Client) -> None:
    """A clock an hour behind, and a threat of two minutes ago: event time is corrected, over both doors' rules."""
    agent = served.join("slow")
    with agent.client:
        assert agent.heartbeat(timestamp="2027-01-15T07:00:00Z").status_code == 200
        assert agent.events({**PAGE, "timestamp": "2027-01-15T06:58:00Z"}).status_code == 201
        (kept,) = _threats(admin)
        assert (kept["eventTime"], kept["timeKnown"]) == ("2027-01-15T07:58:00.000Z", True)
        with served.bench() as bench:
            bench.elapsed += 30
        agent.heartbeat(timestamp="2027-01-15T08:00:30Z")  # the clock was corrected
        agent.events({**PAGE, "timestamp": "2027-01-15T08:00:10Z"})
        assert _threats(admin)[0]["eventTime"] == "2027-01-15T08:00:10.000Z"


def test_three_agents_of_the_page_get_an_emergency_policy(served: Served, admin: httpx2.Client) -> None:
    """Agents that post the page's `{threat, response, timestamp}` at once: each gets the block.

    Such agents vouch for nothing, so the organization's blocklist is not changed by their word.
    """
    agents = [served.join(name) for name in ("a", "b", "c")]
    for agent in agents:
        assert agent.events(PAGE).status_code == 201
    (incident,) = [each for each in admin.get("/api/incidents").json()["data"] if each["kind"] == "source_ip"]
    assert (incident["response"], incident["organizationWide"]) == ("applied", False), incident["responseReason"]
    for agent in agents:
        blocked = [entry["value"] for entry in agent.poll().json()["data"]["blocklist"]["ips"]]
        assert blocked == ["198.51.100.7"]
        agent.client.close()


@pytest.mark.parametrize(
    ("timestamp", "said"),
    [
        ("2027-01-15T07:53:08Z", "the clock of a is 412 s behind the manager's, or its report waited as long"),
        ("2027-01-15T08:08:20Z", "the clock of a is 500 s ahead of the manager's"),
    ],
)
def test_a_refusal_for_its_time_names_the_clock_that_is_off(
    served: Served, admin: httpx2.Client, timestamp: str, said: str
) -> None:
    """Two agents with wrong clocks: the incident's reason says which clock, and by how much."""
    for name in ("a", "b"):
        agent = served.join(name)
        with agent.client:
            assert agent.events({**PAGE, "timestamp": timestamp}).status_code == 201
    (incident,) = [each for each in admin.get("/api/incidents").json()["data"] if each["kind"] == "source_ip"]
    assert incident["response"] == "refused"
    assert said in incident["responseReason"]


def test_with_sent_at_event_time_is_the_agents_mended(admin: httpx2.Client, agent: HttpAgent) -> None:
    """An agent whose clock is an hour late says so by sentAt: its threat of a minute ago was a minute ago."""
    late = {**PAGE, "timestamp": "2027-01-15T06:59:00Z", "sentAt": "2027-01-15T07:00:00Z"}
    assert agent.events(late).status_code == 201
    (kept,) = _threats(admin)
    assert (kept["eventTime"], kept["timeKnown"]) == ("2027-01-15T07:59:00.000Z", True)


def test_events_are_mapped_to_our_fields(admin: httpx2.Client, agent: HttpAgent) -> None:
    """`events`: severity in any case, confidence as a share of one, sigmaRuleId, and the addresses' many names."""
    body = {
        "events": [
            {"type": "port_scan", "severity": "HIGH", "details": {"src_ip": "198.51.100.9"}, "confidence": 0.75,
             "sigmaRuleId": "rule-7", "timestamp": "2027-01-15T07:59:00Z"},
            {"type": "T1059", "severity": "info", "details": "plain words"},
        ]
    }  # fmt: skip
    answer = agent.events(body)
    assert (answer.status_code, answer.json()["data"]["accepted"]) == (201, 2)
    second, first = _threats(admin)
    assert (first["threat"]["type"], first["threat"]["severity"], first["threat"]["confidence"]) == (
        "port_scan", "high", 75,
    )  # fmt: skip
    assert first["threat"]["ruleId"] == "rule-7"
    assert first["threat"]["evidence"] == {"src_ip": "198.51.100.9", "sourceIp": "198.51.100.9"}
    assert (second["threat"]["technique"], second["threat"]["severity"]) == ("T1059", "low")
    assert second["threat"]["evidence"] == {"details": "plain words"}


def test_the_shipped_guards_report_is_mapped_to_our_fields(admin: httpx2.Client, agent: HttpAgent) -> None:
    """One {event, verdict}: category, metadata, action and id are ours; what has no name of ours is kept."""
    answer = agent.events({"event": GUARD_EVENT, "verdict": GUARD_VERDICT})
    assert (answer.status_code, answer.json()["data"]["eventIds"]) == (201, ["evt-1"])
    (kept,) = _threats(admin)
    threat = kept["threat"]
    assert (threat["technique"], threat["severity"], threat["confidence"]) == ("T1110.001", "high", 91)
    assert (kept["id"], kept["response"], kept["timestamp"]) == ("evt-1", "block_ip", "2027-01-15T07:59:00Z")
    evidence = threat["evidence"]
    assert (evidence["sourceIp"], evidence["fileHash"]) == ("198.51.100.7", "A" * 64)
    assert (evidence["raw"], evidence["conclusion"]) == ([1, {"any": None}], "malicious")
    assert evidence["port"] == 22


def test_a_batch_of_events_and_verdicts_is_200(admin: httpx2.Client, agent: HttpAgent) -> None:
    """`threats` is answered with 200; its elements may be of the page's shape, too."""
    body = {
        "threats": [{"event": GUARD_EVENT, "verdict": GUARD_VERDICT}, {**PAGE, "id": "mine"}],
        "reportedAt": "2027-01-15T08:00:00Z",
    }
    answer = agent.events(body)
    assert (answer.status_code, answer.json()["data"]["eventIds"]) == (200, ["evt-1", "mine"])
    assert agent.events({"threats": []}).json()["data"] == {
        "received": 0, "accepted": 0, "eventIds": [], "threats": [],
    }  # fmt: skip
    assert len(_threats(admin)) == 2


def test_a_benign_verdict_is_kept_and_accuses_nobody(admin: httpx2.Client, agent: HttpAgent) -> None:
    """It is low, and has neither an indicator nor a technique by which hosts are correlated."""
    agent.events({"event": GUARD_EVENT, "verdict": {**GUARD_VERDICT, "conclusion": "benign"}})
    (kept,) = _threats(admin)
    assert kept["threat"]["severity"] == "low"
    assert not {"technique"} & kept["threat"].keys()
    assert not {"sourceIp", "fileHash"} & kept["threat"]["evidence"].keys()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"threats": [{"event": GUARD_EVENT, "verdict": GUARD_VERDICT}, None]}, "threats.1"),
        ({"threats": [{"event": GUARD_EVENT, "verdict": GUARD_VERDICT}, {"event": GUARD_EVENT}]}, "threats.1"),
        ({"threats": [PAGE, {**PAGE, "agentId": "ag-0000000000000000"}]}, "threats.1"),
        ({"threats": [PAGE, {**PAGE, "threat": {**PAGE["threat"], "evidence": {"x": "y" * 263_000}}}]}, "threats.1"),  # type: ignore[dict-item]
        ({"events": [{"type": "a", "severity": "low"}, {"type": "b", "severity": "awful"}]}, "events.1.severity"),
        ({"events": [{"type": "a", "severity": "low"}] * 1001}, "events"),
        ({**PAGE, "threat": {"type": "x", "confidence": 200}}, "threat.confidence"),
        ({**PAGE, "timestamp": "yesterday"}, "timestamp"),
        ({**PAGE, "timestamp": 1e300}, "timestamp"),
        ({"event": GUARD_EVENT}, "verdict"),
        ({}, "one of these must be there"),
        ([], "object"),
    ],
)
def test_one_bad_element_stores_nothing_and_is_named(
    admin: httpx2.Client, agent: HttpAgent, body: Any, named: str
) -> None:
    """All or nothing: 400 names the place of what is wrong."""
    answer = agent.events(body)
    assert (answer.status_code, answer.json()["ok"]) == (400, False)
    assert named in answer.json()["error"]
    assert _threats(admin) == []


def test_the_same_ids_again_store_nothing_twice(admin: httpx2.Client, agent: HttpAgent) -> None:
    """A retry is answered as the first time; an id of any length keeps naming the same threat."""
    long_id = {**GUARD_EVENT, "id": "an id with blanks and " + "x" * 200}
    del long_id["timestamp"]
    body = {"threats": [{"event": GUARD_EVENT, "verdict": GUARD_VERDICT}, {"event": long_id, "verdict": GUARD_VERDICT}]}
    first, again = agent.events(body), agent.events({**body, "reportedAt": "2027-01-15T08:00:01Z"})
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert len(_threats(admin)) == 2


def test_an_id_with_other_content_is_refused_whole(admin: httpx2.Client, agent: HttpAgent) -> None:
    """409 names the element, and what came beside it is not stored either."""
    agent.events({"event": GUARD_EVENT, "verdict": GUARD_VERDICT})
    other = {"event": {**GUARD_EVENT, "description": "other words"}, "verdict": GUARD_VERDICT}
    answer = agent.events({"threats": [PAGE, other]})
    assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (409, "threats.1")
    twice = agent.events({"threats": [{**PAGE, "id": "x"}, {**PAGE, "id": "x", "response": "other"}]})
    assert (twice.status_code, twice.json()["error"].partition(":")[0]) == (409, "threats.1")
    assert [kept["id"] for kept in _threats(admin)] == ["evt-1"]
