"""User names that are no account, as callers of each role get them."""

import httpx2
import pytest
from pydantic import JsonValue
from uuid_utils import uuid7

from schemas import topics
from schemas.model import utc
from schemas.threats import Severity, Threat, ThreatReport
from tests.integration.api.served import Served
from tests.integration.api.test_event_stream import Events
from tests.support.attacks import ATTACKER, attack, trusted

PASSWORD = "Xk7hunter2pass"
SHOWING = {"/api/threats", "/api/threats/{threat_id}", "/api/incidents/{incident_id}", "/api/agents/{agent_id}"}
"""Routes that show user names."""

_UNREAD = {"/api/events/stream"}
"""Does not end; its events are masked when they are made."""


@pytest.fixture
def known(served: Served, admin: httpx2.Client) -> dict[str, str]:
    """The ids of an incident with a password among the user names, of a threat and an agent of it."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b", "c")
        line = f"Failed password for invalid user {PASSWORD} from {ATTACKER}"
        attack(bench, *agents[:2], sourceIp=ATTACKER, user=PASSWORD, userExists=False, raw=line, description=line)
        bench.receive(topics.THREATS, agents[0].agent_id, line.encode())  # a dead letter
        attack(bench, agents[2], sourceIp=ATTACKER, user="alice", userExists=True)
    incident = admin.get("/api/incidents", params={"value": ATTACKER}).json()["data"][0]
    threat = next(each for each in admin.get("/api/threats").json()["data"] if each["details"]["user"] == PASSWORD)
    return {
        "incident_id": incident["id"],
        "threat_id": threat["id"],
        "agent_id": threat["agentId"],
        "organization_id": incident["organizationId"],
    }


def _token(admin: httpx2.Client, role: str) -> str:
    return str(admin.post("/api/access", json={"name": f"the-{role}", "role": role}).json()["data"]["token"])


def test_a_viewer_gets_no_password_by_any_route(served: Served, admin: httpx2.Client, known: dict[str, str]) -> None:
    """No answer to a viewer holds a name that is no account, whichever list, record or filter it asks for."""
    paths = admin.get("/openapi.json").json()["paths"]
    read = {path for path, methods in paths.items() if methods.get("get", {}).get("x-role") == "viewer"} - _UNREAD
    assert {
        "/api/threats",
        "/api/threats/{threat_id}",
        "/api/incidents/{incident_id}",
        "/api/agents/{agent_id}",
    } <= read
    masked = set()
    with served.client(_token(admin, "viewer")) as viewer:
        for path in sorted(read):
            for query in ({}, {"source": ATTACKER}, {"technique": "T1110"}, {"value": ATTACKER}):
                answer = viewer.get(path.format_map(_Ids(known)), params=query)
                assert answer.status_code != 403, path
                assert PASSWORD not in answer.text, (path, query)
                if "Xk\\u2026" in answer.text:
                    masked.add(path)
    assert masked >= SHOWING


class _Ids(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "none"


def test_accounts_are_shown_to_viewers(served: Served, admin: httpx2.Client, known: dict[str, str]) -> None:
    """A name that the guard states to be an account is shown to viewers; both masks of one name are the same."""
    with served.client(_token(admin, "viewer")) as viewer:
        incident = viewer.get(f"/api/incidents/{known['incident_id']}").json()["data"]
        threats = viewer.get("/api/threats").json()["data"]
    users = {each["user"]: (each["userExists"], each["count"]) for each in incident["users"]}
    (mask,) = users.keys() - {"alice"}
    assert users == {"alice": (True, 1), mask: (False, 2)}
    assert {each["details"]["user"] for each in threats} == {"alice", mask}
    assert {each["threat"]["evidence"]["user"] for each in threats} == {"alice", mask}


@pytest.mark.parametrize("role", ["responder", "admin"])
def test_who_acts_sees_the_names(served: Served, admin: httpx2.Client, known: dict[str, str], role: str) -> None:
    """Responders and admins, who act on incidents, get the names as they were reported."""
    with served.client(_token(admin, role)) as client:
        assert PASSWORD in client.get(f"/api/threats/{known['threat_id']}").text
        assert PASSWORD in client.get(f"/api/incidents/{known['incident_id']}").text
        assert PASSWORD in client.get("/api/dead-letters").text


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_events_hold_masks_for_everybody(served: Served, admin: httpx2.Client, role: str) -> None:
    """An event that is told at once has the mask of the name, in the stream as in notifications, whoever reads it."""
    with served.client(_token(admin, role)) as client, client.stream("GET", "/api/events/stream", timeout=60) as answer:
        events = Events(answer)
        assert events.next()[0] == "connected"
        with served.bench() as bench:
            (agent,) = trusted(bench, "a")
            evidence: dict[str, JsonValue] = {"user": PASSWORD, "process": f"login {PASSWORD}"}
            threat = Threat(type="malware", confidence=90, severity=Severity.CRITICAL, evidence=evidence)
            report = ThreatReport(id=str(uuid7()), agent_id=agent.agent_id, threat=threat, timestamp=utc(bench.wall))
            bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, report.body()))
            mask = bench.fleet.user_names.masked(PASSWORD)
        name, told = events.next()
        while name != "critical_threat":
            name, told = events.next()
    assert (told["data"]["user"], told["data"]["process"]) == (mask, f"login {mask}")
