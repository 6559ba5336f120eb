"""Access tokens over HTTP and by command: created, listed, rotated, revoked, expired, audited, kept by the store."""

import re
import shlex
from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.cli.support.failures import ExitCode
from manager.domain.access import LIVE_TOKENS
from manager.storage.store import PeeweeStore
from schemas.model import iso, utc
from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.integration.api.terminal import Terminal

DOCUMENT = Path(__file__).parents[3] / "docs" / "access.md"


def _status(served: Served, token: str) -> int:
    with served.client(token) as holder:
        return holder.get("/api/agents").status_code


def _create(admin: httpx2.Client, **members: Any) -> dict[str, Any]:
    made = admin.post("/api/access", json={"name": "alice", "role": "viewer", **members})
    assert made.status_code == 201, made.text
    return dict(made.json()["data"])


def test_every_command_of_the_document_works(terminal: Terminal) -> None:
    """In the document's order, each with exit code 0; a created token is one line, or one object with `token`."""
    (block,) = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    lines = block.replace("90d", "9000d").splitlines()  # the manager of these tests lives in another year
    printed = [terminal.ok(*shlex.split(line)[2:]) for line in lines]
    assert len(printed) == len(lines) > 5
    assert printed[0].startswith("pga_")
    assert "viewer" in printed[3]


def test_a_token_is_good_until_it_is_rotated_or_revoked(served: Served, terminal: Terminal) -> None:
    """The old text is refused at once, the new one is good, and none is after the revocation."""
    first = terminal.records("access", "create", "--name", "alice", "--role", "viewer")["token"]
    assert _status(served, first) == 200
    second = terminal.records("access", "rotate", "alice")["token"]
    assert (_status(served, first), _status(served, second)) == (401, 200)
    terminal.ok("access", "revoke", "alice")
    assert (_status(served, first), _status(served, second)) == (401, 401)
    assert terminal.run("access", "rotate", "alice").exit_code == ExitCode.NOT_FOUND
    assert _status(served, terminal.records("access", "create", "--name", "alice", "--role", "viewer")["token"]) == 200


def test_a_second_revocation_says_that_nothing_changed(terminal: Terminal) -> None:
    """The first one says revoked, the second one that the token was revoked already."""
    terminal.ok("access", "create", "--name", "carol", "--role", "viewer")
    assert terminal.ok("access", "revoke", "carol") == "revoked carol\n"
    assert "already; nothing changed" in terminal.ok("access", "revoke", "carol")


def test_unknown_expired_and_revoked_are_told_alike(served: Served, admin: httpx2.Client) -> None:
    """By the same answer, byte by byte; a rotation makes an expired token good for as long as before."""
    with served.bench() as bench:
        soon = utc(bench.wall + 60).isoformat()
    expired = _create(admin, expiresAt=soon)["token"]
    revoked = _create(admin, name="bob")["token"]
    admin.delete("/api/access/bob")
    assert _status(served, expired) == 200
    with served.bench() as bench:
        bench.elapsed += 60
    answers = set()
    for token in (expired, revoked, "pga_nobodys"):
        with served.client(token) as holder:
            answer = holder.get("/api/agents")
        answers.add((answer.status_code, answer.text, answer.headers.get("WWW-Authenticate")))
    ((status, text, _),) = answers
    assert status == 401
    assert "panguard manager access create" in text
    assert _status(served, admin.post("/api/access/alice/rotate", json={}).json()["data"]["token"]) == 200
    with served.bench() as bench:
        bench.elapsed += 60
        ends = iso(bench.wall)
    assert admin.get("/api/access").json()["data"][-1]["expiresAt"] == ends


def test_the_audit_log_and_the_history_name_the_holder(served: Served, admin: httpx2.Client) -> None:
    """What alice changes stands under her name, and the token's own changes under the admin's; no text of a token."""
    token = _create(admin, role="admin")["token"]
    with served.client(token) as alice:
        assert alice.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}}).status_code == 200
        agent = served.join("srv-01")
        agent.client.close()
        assert alice.delete(f"/api/agents/{agent.agent_id}").status_code == 200
    admin.post("/api/access/alice/rotate", json={})
    admin.delete("/api/access/alice")
    log = admin.get("/api/audit", params={"limit": 200})
    said = [(entry["action"], entry["actor"]) for entry in log.json()["data"]]
    assert [line for line in said if line[1] == "alice"] == [("agent.deregister", "alice"), ("policy.set", "alice")]
    assert [line[0] for line in said if line[0].startswith("access")] == [
        "access.revoke", "access.rotate", "access.create",
    ]  # fmt: skip
    assert admin.get("/api/policies/history").json()["data"][0]["author"] == "alice"
    assert token not in log.text


@pytest.mark.parametrize(
    ("members", "status", "words"),
    [
        ({"name": "admin"}, 409, "another actor"),
        ({"name": "responder"}, 409, "another actor"),
        ({"name": "Admin"}, 409, "another actor"),
        ({"name": "offline_retention"}, 409, "another actor"),
        ({"name": "AG-0000000000000000"}, 409, "another actor"),
        ({"name": "ag-0000000000000000"}, 409, "another actor"),
        ({"name": "a b"}, 400, "name"),
        ({"role": "root"}, 400, "role"),
        ({"organization": "acme"}, 400, "organization"),
        ({"role": "metrics", "organizations": ["acme"]}, 400, "whole fleet"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, 400, "past"),
    ],
)
def test_a_token_that_would_mislead_is_refused(
    admin: httpx2.Client, members: dict[str, Any], status: int, words: str
) -> None:
    """A name of somebody else, a mistyped member (which would widen the token), an expiry in the past."""
    answer = admin.post("/api/access", json={"name": "alice", "role": "viewer", **members})
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert admin.get("/api/access").json()["data"] == []


def test_a_name_is_given_once(admin: httpx2.Client) -> None:
    """409 while its token is not revoked, also for an expired one, and for a name that differs in case only."""
    _create(admin)
    refused = admin.post("/api/access", json={"name": "Alice", "role": "admin"})
    assert (refused.status_code, "named alice exists" in refused.json()["error"]) == (409, True)
    assert admin.post("/api/access", json={"name": "alice", "role": "admin"}).status_code == 409
    admin.delete("/api/access/alice")
    _create(admin, name="Alice")


def test_tokens_are_bounded(served: Served, admin: httpx2.Client) -> None:
    """A thousand live tokens at most; a revoked one makes room."""
    _create(admin)
    with served.bench() as bench:
        known = bench.fleet.access
        first = known.get("alice")
        assert first is not None
        for number in range(1, LIVE_TOKENS):
            known.add(type(first)(f"t{number}", b"%032d" % number, first.role, (), 0.0, 0.0))
    assert admin.post("/api/access", json={"name": "more", "role": "viewer"}).status_code == 409
    admin.delete("/api/access/alice")
    _create(admin, name="more")


def test_the_store_keeps_the_digest_and_the_last_use(served: Served, admin: httpx2.Client) -> None:
    """Not the text; the use is written once a minute at most, and is there after a restart."""
    token = _create(admin, organizations=["acme", "umbrella"])["token"]
    with served.bench() as bench:
        bench.pass_time(61, 1)
        used_at = bench.wall
    assert _status(served, token) in {200, 403}
    with served.bench() as bench:
        bench.pass_time(30)
        (stored,) = PeeweeStore(bench.database, bench.keyring.store_key).load().access
        assert stored.last_used_at is None
        bench.pass_time(31)
        (stored,) = PeeweeStore(bench.database, bench.keyring.store_key).load().access
    assert (stored.name, stored.organizations, stored.last_used_at) == ("alice", ("acme", "umbrella"), used_at)
    directory = Path(str(bench.database.database)).parent
    assert not any(token.encode() in file.read_bytes() for file in directory.iterdir() if file.is_file())
    assert admin.get("/api/access").json()["data"][0]["lastUsedAt"] is not None


def test_the_admin_token_works_as_before(served: Served) -> None:
    """It is no access token: it is not listed, cannot be revoked, and is not limited."""
    with served.client(ADMIN_TOKEN) as admin:
        assert admin.get("/api/access").json()["data"] == []
        assert admin.delete("/api/access/admin").status_code == 404
        assert {admin.get("/health").status_code for _ in range(100)} == {200}
