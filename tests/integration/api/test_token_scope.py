"""Tokens of one organization: what happens in another one changes no answer, no count, no event, and is not changed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.cli.support.failures import ExitCode
from schemas import topics
from schemas.keys import EnrollmentToken
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.integration.api.test_event_stream import Events
from tests.support.examples import examples
from tests.support.simulated import SimulatedAgent

OWN, OTHER = "acme", "umbrella"
ADDRESSES = {OWN: "198.51.100.7", OTHER: "198.51.100.99"}
SHARED_ADDRESS = "198.51.100.50"
"""Attacks agents of both organizations."""

FLEET_WIDE = "203.0.113.240"
"""Blocked in the whole fleet; each organization counts its own agents among the targets."""

QUERIES = ("", f"org_id={OTHER}", f"org_id={OWN}")
_UNREAD = {"GET /api/events/stream"}
"""Read by a test of its own."""


class Fleet:
    """A manager with two organizations, each with agents, incidents, blocks and policies."""

    def __init__(self, served: Served, admin: httpx2.Client) -> None:
        self.served, self.admin = served, admin
        self.agents: dict[str, list[SimulatedAgent]] = {}
        assert admin.post("/api/blocks", json={"value": FLEET_WIDE}).status_code == 201
        for organization in (OWN, OTHER):
            with served.bench() as bench:
                token = bench.token(organization_id=organization)
                names = (f"{organization}-1", f"{organization}-2", f"{organization}-3")
                self.agents[organization] = [bench.enroll(name, token, site=organization) for name in names]
            self.act(organization, "heartbeat", "attack", "policy", "agent policy", "allow")
        self.tokens = {role: self._token(role) for role in ("viewer", "responder", "admin")}
        paths = admin.get("/openapi.json").json()["paths"]
        described = {
            f"{method.upper()} {path}": about for path, each in paths.items() for method, about in each.items()
        }
        self.scoped = sorted(route for route, about in described.items() if about.get("x-scope") == "organization")
        self.ids = {organization: self._ids(organization) for organization in (OWN, OTHER)}

    def act(self, organization: str, *names: str) -> None:
        """Do something in an organization."""
        for name in names:
            ACTIONS[name](self, organization)

    def client(self, role: str) -> httpx2.Client:
        """Return a client with the token of one organization with a role."""
        return self.served.client(self.tokens[role])

    def marks(self) -> set[str]:
        """Return texts that stand in answers about the other organization alone."""
        agents = self.admin.get("/api/agents", params={"org_id": OTHER, "limit": 1000}).json()["data"]
        incidents = self.admin.get("/api/incidents", params={"org_id": OTHER, "limit": 200}).json()["data"]
        blocks = self.blocks(OTHER)
        ids = {each["agentId"] for each in agents} | {each["id"] for each in (*incidents, *blocks)}
        return ids | {OTHER, ADDRESSES[OTHER]}

    def blocks(self, organization: str) -> list[dict[str, Any]]:
        """Return the blocks of an organization, without those of the whole fleet."""
        found = self.admin.get("/api/blocks", params={"org_id": organization, "limit": 200}).json()["data"]
        return [each for each in found if each["organizationId"] == organization]

    def _token(self, role: str) -> str:
        wanted = {"name": f"own-{role}", "role": role, "organizations": [OWN]}
        return str(self.admin.post("/api/access", json=wanted).json()["data"]["token"])

    def _ids(self, organization: str) -> dict[str, str]:
        def first(path: str) -> str:
            return str(self.admin.get(path, params={"org_id": organization}).json()["data"][0]["id"])

        return {
            "agent_id": self.agents[organization][0].agent_id,
            "organization_id": organization,
            "incident_id": first("/api/incidents"),
            "entry_id": str(self.blocks(organization)[0]["id"]),
            "threat_id": first("/api/threats"),
        }


def _heartbeat(fleet: Fleet, organization: str) -> None:
    with fleet.served.bench() as bench:
        for agent in fleet.agents[organization]:
            bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))


def _attack(fleet: Fleet, organization: str) -> None:
    with fleet.served.bench() as bench:
        for address in (ADDRESSES[organization], SHARED_ADDRESS):
            for agent in fleet.agents[organization]:
                bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp=address))


def _enroll(fleet: Fleet, organization: str) -> None:
    with fleet.served.bench() as bench:
        token = bench.token(organization_id=organization)
        name = f"{organization}-{len(fleet.agents[organization]) + 1}"
        fleet.agents[organization].append(bench.enroll(name, token, site=organization))


def _refused(fleet: Fleet, organization: str) -> None:
    with fleet.served.bench() as bench:
        revoked: EnrollmentToken = bench.token(organization_id=organization)
        bench.fleet.tokens[revoked.token_id].revoked_at = bench.wall
        bench.register(
            SimulatedAgent(f"{organization}-late", revoked, bench.keyring.seal_public), organization_id=OTHER
        )


def _ask(method: str, path: str, body: Any = None) -> Callable[[Fleet, str], None]:
    def act(fleet: Fleet, organization: str) -> None:
        agent_id = fleet.agents[organization][0].agent_id
        url = path.format(organization=organization, agent=agent_id, address=ADDRESSES[organization])
        content = {} if body is None else {"json": json.loads(json.dumps(body).replace("%", organization))}
        assert fleet.admin.request(method, url, **content).status_code < 300, url

    return act


def _undo(fleet: Fleet, organization: str) -> None:
    (first, *_) = fleet.admin.get("/api/incidents", params={"org_id": organization}).json()["data"]
    assert fleet.admin.post(f"/api/incidents/{first['id']}/undo").status_code == 200


def _unblock(fleet: Fleet, organization: str) -> None:
    for block in fleet.blocks(organization)[:1]:
        assert fleet.admin.delete(f"/api/blocks/{block['id']}").status_code == 200


def _purge(fleet: Fleet, organization: str) -> None:
    if len(fleet.agents[organization]) > 3:
        gone = fleet.agents[organization].pop()
        assert fleet.admin.delete(f"/api/agents/{gone.agent_id}", params={"purge": "true"}).status_code == 200


ACTIONS: dict[str, Callable[[Fleet, str], None]] = {
    "heartbeat": _heartbeat,
    "attack": _attack,
    "enroll": _enroll,
    "refused": _refused,
    "policy": _ask("PUT", "/api/policies/organizations/{organization}", {"blocklist": {"domains": ["%.example"]}}),
    "no policy": _ask("DELETE", "/api/policies/organizations/{organization}"),
    "agent policy": _ask("PUT", "/api/policies/agents/{agent}", {"blocklist": {"domains": ["one.%.example"]}}),
    "allow": _ask("POST", "/api/allowlist?org_id={organization}", {"value": "192.0.2.0/24"}),
    "rules": _ask("POST", "/api/policy", {"rules": [], "org_id": "%"}),
    "mute": _ask("POST", "/api/notifications/mute", {"seconds": 600, "organization": "%", "reason": "%"}),
    "mute site": _ask("POST", "/api/notifications/mute", {"seconds": 600, "site": "%"}),
    "offline": _ask("DELETE", "/api/agents/{agent}"),
    "token": _ask("POST", "/api/tokens", {"organizationId": "%"}),
    "undo": _undo,
    "unblock": _unblock,
    "purge": _purge,
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Served(tmp_path_factory.mktemp("manager"), rate_limit=0) as served, served.client() as admin:
        yield Fleet(served, admin)


def _reads(fleet: Fleet) -> list[str]:
    return [route.removeprefix("GET ") for route in fleet.scoped if route.startswith("GET ") and route not in _UNREAD]


def _answers(client: httpx2.Client, fleet: Fleet) -> dict[str, tuple[int, str]]:
    """Return every answer to a reader, with each filter by organization, and about its own things by id."""
    urls = [f"{path.format_map(fleet.ids[OWN])}?{query}" for path in _reads(fleet) for query in QUERIES]
    return {url: (answer.status_code, answer.text) for url in urls if (answer := client.get(url))}


def test_what_happens_in_another_organization_changes_no_answer(fleet: Fleet) -> None:
    """Every scoped `GET` route answers byte by byte as before, whatever is done elsewhere; nor is its mark in one."""
    with fleet.client("viewer") as viewer:
        newest = _answers(viewer, fleet)

        @settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.sampled_from(sorted(ACTIONS)), min_size=1, max_size=6))
        def every(actions: list[str]) -> None:
            nonlocal newest
            before = newest
            fleet.act(OTHER, *actions)
            newest = _answers(viewer, fleet)
            assert {url: (said, newest[url]) for url, said in before.items() if newest[url] != said} == {}
            marks = fleet.marks() - {OTHER}
            assert {url for url, (_, text) in newest.items() if any(mark in text for mark in marks)} == set()
            own = [text for url, (_, text) in newest.items() if not url.endswith(QUERIES[1])]
            assert [text for text in own if OTHER in text] == []

        every()


def test_its_own_things_are_in_the_answers(fleet: Fleet) -> None:
    """So the test above says something: each route answers with 200, the lists with what the organization has."""
    with fleet.client("viewer") as viewer:
        found = _answers(viewer, fleet)
        assert {status for url, (status, _) in found.items() if not url.endswith(QUERIES[1])} == {200}
        assert {status for url, (status, _) in found.items() if url.endswith(QUERIES[1])} <= {200, 404}
        for path in ("agents", "incidents", "blocks", "threats"):
            answer = viewer.get(f"/api/{path}", params={"limit": 200}).json()
            whole = fleet.admin.get(f"/api/{path}", params={"limit": 200, "org_id": OWN}).json()
            assert answer == whole
            assert answer["data"]
            assert viewer.get(f"/api/{path}", params={"org_id": OTHER}).json()["data"] == []
        (wide,) = viewer.get("/api/blocks", params={"value": FLEET_WIDE}).json()["data"]
        assert wide["targetCount"] == 3
        overview = viewer.get("/api/overview").json()["data"]
        counted = viewer.get("/api/threats/summary").json()["data"]["correlatedGroups"]
    is_open = fleet.admin.get("/api/incidents", params={"limit": 200, "org_id": OWN, "open": "true"}).json()["data"]
    assert overview["threatSummary"]["correlatedGroups"] == counted == len(is_open) > 0
    assert (overview["totalAgents"], overview["threatSummary"]["affectedAgents"]) == (3, 3)
    assert overview["certificates"] == overview["warnings"] == []


def test_a_token_of_two_organizations_reads_both(fleet: Fleet) -> None:
    """Lists, threats in their order and counts are those of both, and of one where it is asked for."""
    wanted = {"name": "both", "role": "viewer", "organizations": [OWN, OTHER]}
    fleet.admin.delete("/api/access/both")
    with fleet.served.client(fleet.admin.post("/api/access", json=wanted).json()["data"]["token"]) as both:
        for path in (
            "agents",
            "incidents",
            "blocks",
            "threats",
            "threats/summary",
            "policies/history",
            "policies/drift",
        ):
            url = f"/api/{path}"
            limit = {"limit": 200} if "summary" not in path else {}
            told = [client.get(url, params=limit).json() for client in (both, fleet.admin)]
            for each in (*told[0]["data"], *told[1]["data"]) if path == "blocks" else ():
                del each["notEnforced"]  # some of the reasons, in no order
            assert told[0] == told[1], path
        page = both.get("/api/threats", params={"limit": 3, "org_id": OTHER}).json()["data"]
    assert {each["organizationId"] for each in page} == {OTHER}


def test_a_thing_of_another_organization_is_told_like_one_that_does_not_exist(fleet: Fleet) -> None:
    """404 by the same words, whether it is read or changed; nothing of it is changed, by no role."""
    unknown = {
        "agent_id": "ag-00000000000000ff",
        "organization_id": "nobody",
        "incident_id": "inc-ff",
        "entry_id": "blk-ff",
        "threat_id": "t-ff",
    }
    by_id = [route for route in fleet.scoped if "{" in route]
    assert len(by_id) > 10
    before = _whole(fleet)
    with fleet.client("admin") as admin:
        for route in by_id:
            method, _, path = route.partition(" ")
            filled = {"note": "n"} if path.endswith("/note") else {}
            body: dict[str, Any] = {"json": filled} if method in {"POST", "PUT", "PATCH"} else {}
            told = []
            for ids in (fleet.ids[OTHER], unknown):
                answer = admin.request(method, path.format_map(ids), **body)
                text = answer.text
                for each in ids.values():
                    text = text.replace(each, "?")
                told.append((answer.status_code, text))
            assert told[0] == told[1], route
            assert told[0][0] == 404, (route, told)
    assert _whole(fleet) == before


def test_a_change_that_names_another_organization_or_the_whole_fleet_is_refused(fleet: Fleet) -> None:
    """By query or body: 404 for another organization, 403 for the fleet; nothing is changed."""
    before = _whole(fleet)
    own_agent, other_agent = fleet.ids[OWN]["agent_id"], fleet.ids[OTHER]["agent_id"]
    with fleet.client("admin") as admin:
        for status, method, path, body in (
            (404, "POST", f"/api/allowlist?org_id={OTHER}", {"value": "192.0.2.1"}),
            (404, "POST", "/api/allowlist", {"value": "192.0.2.1", "organizationId": OTHER}),
            (404, "DELETE", f"/api/allowlist?org_id={OTHER}&value=192.0.2.0/24", None),
            (404, "POST", "/api/policy", {"rules": [], "org_id": OTHER}),
            (404, "POST", "/api/policy", {"rules": [], "agentId": other_agent}),
            (404, "POST", "/api/policies/diff", {"scope": "organization", "target": OTHER}),
            (404, "POST", "/api/policies/diff", {"scope": "agent", "target": other_agent}),
            (404, "POST", "/api/agents/change", {"agentIds": [own_agent, other_agent], "addTags": ["x"]}),
            (404, "POST", "/api/agents/change", {"agentIds": [own_agent], "organization": OTHER}),
            (403, "GET", "/api/agents?group=any", None),
            (403, "GET", "/api/protection/forecast?group=any", None),
            (403, "POST", "/api/policies/diff", {"scope": "global"}),
            (403, "POST", "/api/policy", {"rules": []}),
            (403, "POST", "/api/allowlist", {"value": "192.0.2.1"}),
            (403, "DELETE", "/api/allowlist?value=192.0.2.1", None),
            (403, "PUT", "/api/policies/global", {}),
            (403, "POST", "/api/agents/register", {"hostname": "x", "os": "o", "arch": "x", "version": "1"}),
            (403, "POST", f"/api/agents/{fleet.ids[OWN]['agent_id']}/heartbeat", {}),
        ):
            answer = admin.request(method, path, **({} if body is None else {"json": body}))
            assert answer.status_code == status, (method, path, answer.text)
    assert _whole(fleet) == before


def _whole(fleet: Fleet) -> list[Any]:
    """Return the store's rows, without the use of access tokens."""
    with fleet.served.bench() as bench:
        names = [name for (name,) in bench.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return [bench.rows(f"SELECT * FROM {name}") for name in names if name != "access_token"]


def test_an_organizations_admin_changes_its_own(fleet: Fleet) -> None:
    """Policies, allowlist, blocks and incidents of its organization; the audit log names the token."""
    ids = fleet.ids[OWN]
    with fleet.client("admin") as admin, fleet.client("responder") as responder:
        for answer in (
            admin.put(f"/api/policies/organizations/{OWN}", json={"thresholds": {"autoRespond": 77}}),
            admin.put(f"/api/policies/agents/{ids['agent_id']}", json={}),
            responder.post("/api/allowlist", params={"org_id": OWN}, json={"value": "192.0.2.77"}),
            responder.delete("/api/allowlist", params={"org_id": OWN, "value": "192.0.2.77"}),
            responder.post(f"/api/incidents/{ids['incident_id']}/undo"),
        ):
            assert answer.status_code in {200, 201}, answer.text
        history = admin.get("/api/policies/history", params={"limit": 1}).json()["data"]
    assert history[0]["author"] == "own-responder"
    fleet.act(OWN, "policy", "agent policy", "attack")


def test_the_stream_sends_only_events_of_the_tokens_organizations(fleet: Fleet) -> None:
    """Live, resumed and by ticket; each event names the organization."""
    everything = [name for name in sorted(ACTIONS) if name != "refused"]
    with fleet.client("viewer") as viewer:
        ticket = viewer.post("/api/events/ticket").json()["data"]["ticket"]
        with (
            viewer.stream("GET", "/api/events/stream") as live,
            fleet.served.client(None) as browser,
            browser.stream("GET", "/api/events/stream", params={"ticket": ticket}) as by_ticket,
        ):
            readers = [Events(live), Events(by_ticket)]
            assert [reader.next()[0] for reader in readers] == ["connected", "connected"]
            first = readers[0].last_id
            fleet.act(OTHER, *everything)
            fleet.act(OWN, "attack")
            with fleet.served.bench() as bench:
                bench.pass_time(2)  # threats are announced once a second
            fleet.act(OWN, "policy", "no policy", "offline")
            heard = [_until_offline(reader) for reader in readers]
        headers = {"Last-Event-ID": first}
        with viewer.stream("GET", "/api/events/stream", headers=headers) as later:
            resumed = Events(later)
            assert resumed.next()[0] == "connected"
            heard.append(_until_offline(resumed))
    assert heard[0] == heard[1] == heard[2]
    assert {"threats_reported", "policy_created"} <= {name for name, _ in heard[0]}
    assert {event["organizationId"] for _, event in heard[0]} == {OWN}
    assert not any(mark in json.dumps(heard) for mark in fleet.marks())
    fleet.act(OWN, "policy", "heartbeat")


def _until_offline(events: Events) -> list[tuple[str, Any]]:
    heard = []
    while not heard or heard[-1][0] != "agent_offline":
        heard.append(events.next())
    return heard


@pytest.mark.parametrize("end", ["revoke", "rotate"])
def test_a_stream_ends_when_its_token_does(tmp_path: Path, end: str) -> None:
    """At the next event, which it is not sent any more; its unused ticket is worth nothing."""
    with Served(tmp_path, rate_limit=0) as served, served.client() as admin:
        made = admin.post("/api/access", json={"name": "alice", "role": "viewer"}).json()["data"]
        with served.client(made["token"]) as alice:
            ticket = alice.post("/api/events/ticket").json()["data"]["ticket"]
            with alice.stream("GET", "/api/events/stream") as answer:
                events = Events(answer)
                assert events.next()[0] == "connected"
                if end == "revoke":
                    admin.delete("/api/access/alice")
                else:
                    admin.post("/api/access/alice/rotate", json={})
                served.enroll("srv-01")
                with pytest.raises(AssertionError, match="the stream ended"):
                    events.next()
        with served.client(None) as browser:
            assert browser.get("/api/events/stream", params={"ticket": ticket}).status_code == 401


def test_commands_work_with_a_token_of_one_organization(fleet: Fleet) -> None:
    """`now`, `status` and the lists end well, show its own, and nothing of the other; the rest says what is missing."""
    terminal = Terminal(fleet.served, fleet.tokens["viewer"])
    shown = {command: terminal.ok(*command.split()) for command in OWN_COMMANDS}
    marks = fleet.marks()
    assert {command for command, text in shown.items() if any(mark in text for mark in marks)} == set()
    assert f"{OWN}-1" in shown["agents list"]
    assert "Total agents    3" in shown["status"]
    refused = terminal.run("audit", "list")
    assert refused.exit_code == ExitCode.UNAUTHORIZED
    assert "this needs a token of all organizations" in refused.stderr


OWN_COMMANDS = (
    "now", "status", "agents list", "incidents list", "blocks list", "threats list", "policies history",
    "policies list", "policies drift", "allowlist list", "responses status", "protection forecast",
)  # fmt: skip


def test_the_overview_leaves_out_what_other_organizations_or_the_manager_alone_concerns(tmp_path: Path) -> None:
    """Held-back reports and clones of others, certificates and warnings; a token of all organizations reads them."""
    about = {"hostname": "h", "waiting": 1, "since": "2027-01-15T08:00:00Z"}
    held = [{"agentId": f"ag-{each}", "organizationId": each, **about} for each in (OWN, OTHER)]
    with (
        Served(
            tmp_path,
            rate_limit=0,
            held_back=lambda: held,
            certificates=lambda _now: [{"name": "http"}],
            warnings=lambda: [f"something about {OTHER}"],
        ) as served,
        served.client() as admin,
    ):
        with served.bench() as bench:
            agents = [bench.enroll("srv", bench.token(organization_id=each)) for each in (OWN, OTHER)]
            for agent in agents:
                _take_turns(bench, agent)
        wanted = {"name": "alice", "role": "viewer", "organizations": [OWN]}
        with served.client(admin.post("/api/access", json=wanted).json()["data"]["token"]) as alice:
            own = alice.get("/api/overview").json()["data"]
        whole = admin.get("/api/overview").json()["data"]
    names = ("heldBack", "clones", "certificates", "warnings")
    assert [len(whole[name]) for name in names] == [2, 2, 1, 1]
    assert [len(own[name]) for name in names] == [1, 1, 0, 0]
    assert (own["clonedAgents"], own["clones"][0]["agentId"]) == (1, agents[0].agent_id)
    assert own["heldBack"] == held[:1]


def _take_turns(bench: Any, agent: SimulatedAgent) -> None:
    """Let two instances of an agent come back after each other."""
    started = agent.uptime_from
    for turn in range(4):
        agent.uptime_from = started - 1000.0 * (turn % 2)
        agent.session += 1
        bench.elapsed += 5
        bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
