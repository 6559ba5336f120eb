"""The allowlist over HTTP: one entry at a time, of the fleet or an organization."""

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.integration.api.served import Served
from tests.support.attacks import ATTACKER, attack, trusted

DIGEST = "ab" * 32


def entries(admin: httpx2.Client, query: str = "") -> list[tuple[str, str, str]]:
    """Return kind, value and scope of what is listed."""
    found = admin.get(f"/api/allowlist{query}").json()["data"]
    return [(each["kind"], each["value"], each["scope"]) for each in found]


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        ({"value": "192.0.2.10"}, "ip", "192.0.2.10"),
        ({"value": "::ffff:192.0.2.10"}, "ip", "192.0.2.10"),
        ({"value": "192.0.2.77/24"}, "ip", "192.0.2.0/24"),
        ({"value": "2001:DB8::1", "kind": "ip"}, "ip", "2001:db8::1"),
        ({"value": DIGEST.upper()}, "file_hash", DIGEST),
        ({"value": "backup-agent", "kind": "process"}, "process", "backup-agent"),
    ],
)
def test_an_entry_is_added_in_normal_form_and_taken_away_again(
    admin: httpx2.Client, body: dict[str, str], kind: str, value: str
) -> None:
    """The kind is derived from the value; both forms remove the entry, and a second removal is 404."""
    added = admin.post("/api/allowlist", json=body)
    assert (added.status_code, added.json()["data"]["changed"]) == (201, True)
    assert entries(admin) == [(kind, value, "global")]
    again = admin.post("/api/allowlist", json=body)
    assert (again.status_code, again.json()["data"]["changed"]) == (200, False)
    removed = admin.delete("/api/allowlist", params={"value": body["value"]})
    assert (removed.status_code, removed.json()["data"]["value"]) == (200, value)
    assert entries(admin) == []
    gone = admin.delete("/api/allowlist", params={"value": body["value"]})
    assert (gone.status_code, body["value"] in gone.json()["error"]) == (404, True)


def test_only_the_one_member_of_the_document_changes(admin: httpx2.Client) -> None:
    """Other settings stay unchanged, and removing the entry restores the document."""
    document = {"thresholds": {"autoRespond": 70}, "allowlist": {"ips": ["198.51.100.1"], "processes": ["sshd"]}}
    admin.put("/api/policies/global", json=document)
    admin.post("/api/allowlist", json={"value": "192.0.2.10"})
    changed = admin.get("/api/policies/global").json()["data"]
    assert changed == {**document, "allowlist": {"ips": ["198.51.100.1", "192.0.2.10"], "processes": ["sshd"]}}
    admin.delete("/api/allowlist?value=192.0.2.10")
    assert admin.get("/api/policies/global").json()["data"] == document


def test_an_organizations_list_stands_beside_the_fleets(admin: httpx2.Client) -> None:
    """With org_id all that counts there is shown; each entry is taken away where it stands."""
    admin.post("/api/allowlist", json={"value": "192.0.2.10"})
    admin.post("/api/allowlist", json={"value": "192.0.2.20", "organizationId": "acme"})
    admin.post("/api/allowlist?org_id=acme", json={"value": "192.0.2.30"})
    assert entries(admin) == [("ip", "192.0.2.10", "global")]
    own = [("ip", f"192.0.2.{number}", "organization") for number in (20, 30)]
    assert entries(admin, "?org_id=acme") == [("ip", "192.0.2.10", "global"), *own]
    assert admin.delete("/api/allowlist?org_id=acme&value=192.0.2.10").status_code == 404
    assert admin.delete("/api/allowlist?org_id=acme&value=192.0.2.20").status_code == 200


def test_a_blocked_address_that_is_allowed_is_withdrawn(served: Served, admin: httpx2.Client) -> None:
    """At once, and its incident says why."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b"))
    assert len(admin.get("/api/blocks?kind=ip").json()["data"]) == 2
    admin.post("/api/allowlist", json={"value": "203.0.113.0/24"})
    assert admin.get("/api/blocks?kind=ip").json()["data"] == []
    (incident,) = admin.get("/api/incidents?kind=source_ip").json()["data"]
    assert (incident["value"], incident["response"]) == (ATTACKER, "refused")
    assert incident["responseReason"] == "never blocked: it is on the allowlist"


def test_changes_at_the_same_time_lose_nothing(served: Served, admin: httpx2.Client) -> None:
    """Twenty admins add an address each at once; all twenty stand there."""
    values = [f"192.0.2.{number}" for number in range(1, 21)]

    def add(value: str) -> int:
        with served.client() as client:
            return client.post("/api/allowlist", json={"value": value}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(add, values)) == {201}
    assert {value for _, value, _ in entries(admin)} == set(values)
