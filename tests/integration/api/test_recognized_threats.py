"""Threats that a person recognizes as their own doing: over HTTP, against the real engine and store."""

import httpx2
import pytest

from manager.cli.support.failures import ExitCode
from manager.engine.ports import PruneOrder
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted


@pytest.fixture
def threat(served: Served, admin: httpx2.Client) -> str:
    """Return the id of the newer of two threats of two organizations' agents."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a"))
        attack(bench, *trusted(bench, "b", organization_id="acme"))
        bench.pass_time(1)
    return str(admin.get("/api/threats?org_id=acme").json()["data"][0]["id"])


def _token(admin: httpx2.Client, role: str, *organizations: str) -> str:
    body = {"name": f"{role}-1", "role": role, "organizations": organizations}
    return str(admin.post("/api/access", json=body).json()["data"]["token"])


def test_a_recognized_threat_says_who_when_and_why_and_is_found_by_it(
    served: Served, admin: httpx2.Client, threat: str
) -> None:
    """Once, however often it is said; taken back it is as before; both are in the audit log, and blocks stay."""
    path = f"/api/threats/{threat}/recognize"
    assert admin.get(f"/api/threats/{threat}").json()["data"]["recognized"] is None
    with served.client(_token(admin, "responder")) as responder:
        done = responder.post(path, json={"note": "mistyped"}).json()["data"]
        again = responder.post(path).json()["data"]
    assert done["recognized"] == {"at": "2027-01-15T08:00:01.000Z", "by": "responder-1", "note": "mistyped"}
    assert again["recognized"] == done["recognized"]

    def ids(**query: str) -> list[str]:
        return [each["id"] for each in admin.get("/api/threats", params=query).raise_for_status().json()["data"]]

    (other,) = ids(recognized="false")
    assert ids(recognized="true") == [threat]
    assert ids(recognized="true", source=ATTACKER) == [threat]
    assert ids(recognized="false", source=ATTACKER, type="brute_force") == [other]
    assert admin.delete(path).json()["data"]["recognized"] is None
    assert admin.delete(path).status_code == 200
    assert ids(recognized="true") == []
    audit = admin.get("/api/audit?action=threat").json()["data"]
    assert [(each["actor"], each["action"], each["target"]) for each in audit] == [
        ("admin", "threat.unrecognize", threat),
        ("responder-1", "threat.recognize", threat),
    ]


def test_a_threat_is_recognized_and_taken_back_by_command(
    served: Served, admin: httpx2.Client, terminal: Terminal, threat: str
) -> None:
    """With a note, for people and as JSON; `show` says who; a viewer's token is refused."""
    by = f"{threat} (brute_force on b): admin says that it is their own doing, 2027-01-15T08:00:01.000Z: mistyped"
    assert terminal.ok("threats", "recognize", threat, "--note", "mistyped", "--agent", "b") == f"{by}\n"
    assert "admin says that it is their own doing" in terminal.ok("threats", "show", threat)
    told = terminal.records("threats", "recognize", threat)
    assert told["recognized"] == {"at": "2027-01-15T08:00:01.000Z", "by": "admin", "note": "mistyped"}
    back = f"{threat} (brute_force on b): nobody says any more that it is their own doing\n"
    assert terminal.ok("threats", "unrecognize", threat) == back
    assert terminal.records("threats", "unrecognize", threat)["recognized"] is None
    assert terminal.run("threats", "recognize", "nobody").exit_code == ExitCode.NOT_FOUND
    refused = Terminal(served, _token(admin, "viewer")).run("threats", "recognize", threat)
    assert refused.exit_code == ExitCode.UNAUTHORIZED


def test_who_may_recognize_a_threat(served: Served, admin: httpx2.Client, threat: str) -> None:
    """Responders of its organization; a viewer is refused, and to another organization it does not exist."""
    with served.client(_token(admin, "viewer")) as viewer, served.client(_token(admin, "responder", "other")) as other:
        assert viewer.post(f"/api/threats/{threat}/recognize").status_code == 403
        assert other.post(f"/api/threats/{threat}/recognize").status_code == 404
        assert other.delete(f"/api/threats/{threat}/recognize").status_code == 404
    assert admin.post("/api/threats/none/recognize").status_code == 404
    assert admin.post(f"/api/threats/{threat}/recognize", json={"note": ""}).status_code == 400
    assert admin.get("/api/threats?recognized=true").json()["data"] == []


def test_the_index_finds_recognized_threats_too(served: Served, admin: httpx2.Client, threat: str) -> None:
    """Beyond the newest threats, which are scanned, and beside its own filters."""
    admin.post(f"/api/threats/{threat}/recognize")
    with served.bench() as bench:
        agents = trusted(bench, "c")
        for _ in range(3):
            attack(bench, *agents, sourceIp="203.0.113.99")
            bench.pass_time(1)
        assert bench.rows("SELECT count(*) FROM recognized_threat") == [(1,)]
    for query in ("recognized=true", "recognized=true&type=brute_force", "recognized=true&org_id=acme&severity=medium"):
        assert [each["id"] for each in admin.get(f"/api/threats?{query}").json()["data"]] == [threat]


def test_a_recognition_goes_with_its_threat(served: Served, admin: httpx2.Client, threat: str) -> None:
    """Once the threat has been pruned, nothing of it is kept but the audit entry."""
    admin.post(f"/api/threats/{threat}/recognize")
    with served.bench() as bench:
        bench.store.prune(PruneOrder(bench.wall, bench.wall - 60, 0, 0, 0, 0, 0, threats=10, ids=10, rows=100))
        assert bench.rows("SELECT count(*) FROM recognized_threat") == [(1,)]
        bench.store.prune(PruneOrder(bench.wall, bench.wall + 60, 0, 0, 0, 0, 0, threats=10, ids=10, rows=100))
        assert bench.rows("SELECT count(*) FROM recognized_threat") == [(0,)]
    assert admin.get(f"/api/threats/{threat}").status_code == 404
