"""People's work on incidents: search, threats, users, timeline, acknowledgement, notes and closing."""

import httpx2
import pytest

from manager.cli.support.failures import ExitCode
from manager.engine.commands import incidents
from manager.engine.ports import PruneOrder
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted


@pytest.fixture
def incident(served: Served, admin: httpx2.Client) -> str:
    """An incident of three agents, with users in its threats."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b", "c")
        for agent, user in zip(agents, ("root", "root", "bob"), strict=True):
            attack(bench, agent, sourceIp=ATTACKER, user=user)
        attack(bench, agents[0], sourceIp="203.0.113.1", user="alice")
    (found,) = admin.get("/api/incidents", params={"value": ATTACKER}).json()["data"]
    return str(found["id"])


def test_incidents_are_found_by_their_value_in_any_spelling(admin: httpx2.Client, incident: str) -> None:
    """An address, a technique, and none for what is not there."""
    for value in (ATTACKER, f"::ffff:{ATTACKER}"):
        assert [each["id"] for each in admin.get("/api/incidents", params={"value": value}).json()["data"]] == [
            incident
        ]
    techniques = admin.get("/api/incidents?kind=technique").json()["data"]
    for each in techniques:
        found = admin.get("/api/incidents", params={"value": each["value"].lower()}).json()["data"]
        assert [one["id"] for one in found] == [each["id"]]
    assert techniques
    assert admin.get("/api/incidents?value=192.0.2.200").json()["data"] == []


def test_an_incident_shows_its_threats_users_and_timeline(admin: httpx2.Client, incident: str) -> None:
    """Of its address alone, the users by number; the responder's and people's acts in order."""
    shown = admin.get(f"/api/incidents/{incident}").json()["data"]
    assert {each["hostname"] for each in shown["threats"]} == {"a", "b", "c"}
    assert shown["users"] == [
        {"user": "root", "userExists": False, "count": 2},
        {"user": "bob", "userExists": False, "count": 1},
    ]
    events = [(each["event"], each["by"]) for each in shown["timeline"]]
    for wanted in (("first_report", None), ("opened", None), ("respond", "responder"), ("response_applied", None)):
        assert wanted in events
    assert [each["at"] for each in shown["timeline"]] == sorted(each["at"] for each in shown["timeline"])
    technique = next(each for each in admin.get("/api/incidents?kind=technique").json()["data"])
    assert admin.get(f"/api/incidents/{technique['id']}").json()["data"]["threats"]


def test_the_notes_of_an_incident_are_bounded(
    admin: httpx2.Client, incident: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note over 1,000 characters, over the number of notes, or any entry over that of entries is refused."""
    monkeypatch.setattr(incidents, "NOTES_LIMIT", 2)
    monkeypatch.setattr(incidents, "WORK_LIMIT", 4)
    path = f"/api/incidents/{incident}"
    assert admin.post(f"{path}/note", json={"note": "n" * 1001}).status_code == 400
    assert admin.post(f"{path}/note", json={"note": "n" * 1000}).status_code == 200
    assert admin.post(f"{path}/acknowledge", json={"note": "two"}).status_code == 200
    for action in ("note", "acknowledge", "close"):
        refused = admin.post(f"{path}/{action}", json={"note": "three"})
        assert (refused.status_code, "has 2 notes, the most" in refused.json()["error"]) == (409, True)
    assert [admin.post(f"{path}/close").status_code for _ in range(3)] == [200, 200, 409]
    timeline = admin.get(path).json()["data"]["timeline"]
    assert sum(each["text"] is not None for each in timeline if each["event"] in {"note", "acknowledge"}) == 2


def test_work_on_an_incident_is_seen_by_everybody_and_names_who(
    served: Served, admin: httpx2.Client, incident: str
) -> None:
    """New, acknowledged, noted, closed, and reopened by a further report; each stands in the audit log."""
    token = admin.post("/api/access", json={"name": "alice", "role": "responder"}).json()["data"]["token"]

    def state() -> tuple[str, str | None]:
        (found,) = admin.get("/api/incidents", params={"value": ATTACKER}).json()["data"]
        return found["workState"], found["workBy"]

    assert state() == ("new", None)
    with served.client(token) as alice:
        assert alice.post(f"/api/incidents/{incident}/acknowledge").status_code == 200
        assert state() == ("acknowledged", "alice")
        alice.post(f"/api/incidents/{incident}/note", json={"note": "our scanner?"})
        assert state() == ("acknowledged", "alice")
    closed = admin.post(f"/api/incidents/{incident}/close", json={"note": "no"}).json()["data"]
    assert (closed["workState"], closed["workBy"], closed["workAt"]) == ("closed", "admin", "2027-01-15T08:00:00.000Z")
    assert closed["entries"]
    notes = [(each["event"], each["by"], each["text"]) for each in closed["timeline"] if each["by"] != "responder"]
    assert notes[-3:] == [("acknowledge", "alice", None), ("note", "alice", "our scanner?"), ("close", "admin", "no")]
    entries = admin.get("/api/audit", params={"target": incident, "action": "incident"}).json()["data"]
    assert [(each["action"], each["actor"]) for each in entries][:3] == [
        ("incident.close", "admin"), ("incident.note", "alice"), ("incident.acknowledge", "alice"),
    ]  # fmt: skip
    with served.bench() as bench:
        bench.elapsed += 60
        attack(bench, *trusted(bench, "d"))
    assert state() == ("reopened", "admin")


def test_work_that_does_not_fit_is_refused(admin: httpx2.Client, incident: str) -> None:
    """An empty or endless note, an incident that is not there."""
    for note in ("", "x" * 1001, None):
        assert admin.post(f"/api/incidents/{incident}/note", json={"note": note}).status_code == 400
    assert admin.post(f"/api/incidents/{incident}/close", json={"note": 3}).status_code == 400
    for action in ("acknowledge", "close"):
        assert admin.post(f"/api/incidents/inc-0000000000000000/{action}").status_code == 404
    assert admin.get(f"/api/incidents/{incident}").json()["data"]["workState"] == "new"


def test_an_incident_is_worked_on_by_command(terminal: Terminal, incident: str) -> None:
    """Found by its address, shown with the command that undoes it, acknowledged, noted and closed."""
    (found,) = terminal.records("incidents", "list", "--value", ATTACKER)
    assert found["id"] == incident
    assert "acknowledged by admin" in terminal.ok("incidents", "acknowledge", incident, "--note", "mine")
    terminal.ok("incidents", "note", incident, "asked the provider")
    shown = terminal.ok("incidents", "show", incident)
    for words in ("root", "asked the provider", "mine", "responder", f"panguard manager incidents undo {incident}"):
        assert words in shown
    assert "closed by admin" in terminal.ok("incidents", "close", incident)
    assert "closed by admin" in terminal.ok("incidents", "list")
    assert terminal.run("incidents", "close", "inc-0000000000000000").exit_code == ExitCode.NOT_FOUND


def test_notes_survive_a_restart_and_go_with_their_incident(
    served: Served, admin: httpx2.Client, incident: str
) -> None:
    """Stored with the incident; pruned with it."""
    admin.post(f"/api/incidents/{incident}/note", json={"note": "kept"})
    with served.bench() as bench:
        assert bench.rows("SELECT incident_id, author, note FROM incident_work") == [(incident, "admin", "kept")]
        bench.database.execute_sql("DELETE FROM emergency_entry")
        bench.database.execute_sql("UPDATE incident SET closed_at = 1.0, last_seen_at = 1.0")
        bench.store.prune(PruneOrder(bench.wall, 100.0, 0, 0, 0, 0, 0, threats=10, ids=10, rows=100))
        assert bench.rows("SELECT count(*) FROM incident") == [(0,)]
        assert bench.rows("SELECT count(*) FROM incident_work") == [(0,)]
