"""Enrollment as operators mean it, the same over both doors: whom a token lets in, how often, and as what."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from manager.domain.agents.agent import State
from manager.domain.agents.registry import Takeover
from manager.domain.agents.tokens import EnrollmentRate
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.keys import EnrollmentToken, new_secret
from tests.integration.api.served import HOST, Served
from tests.integration.api.terminal import Terminal
from tests.support.simulated import SimulatedAgent
from tests.support.waiting import eventually

Enroll = Callable[..., str]
"""Registers a hostname with a token by one door; returns the agent's id, or why it was refused."""


def _by_mqtt(served: Served, hostname: str, token: EnrollmentToken, secret: bytes | None = None, **said: Any) -> str:
    with served.bench() as bench:
        bench.elapsed += 1
        agent = SimulatedAgent(hostname, token, bench.keyring.seal_public, secret or new_secret())
        said = {"organization_id" if name == "organizationId" else name: value for name, value in said.items()}
        answer = bench.register(agent, **said)
    return str(answer.get("agentId") or answer["error"])


def _by_http(served: Served, hostname: str, token: EnrollmentToken | str, **said: Any) -> str:
    with served.client(str(token)) as client:
        answer = client.post("/api/agents/register", json={**HOST, "hostname": hostname, **said}).json()
    return str(answer.get("agentId") or answer["error"])


DOORS = pytest.mark.parametrize("enroll", [_by_mqtt, _by_http], ids=["mqtt", "http"])


def _create(terminal: Terminal, *terms: str) -> EnrollmentToken:
    made = terminal.records("tokens", "create", *terms)
    token = EnrollmentToken.parse(made["token"])
    assert made["tokenId"] == token.token_id
    return token


def _listed(terminal: Terminal, token: EnrollmentToken) -> dict[str, Any]:
    (found,) = [each for each in terminal.records("tokens", "list") if each["tokenId"] == token.token_id]
    return dict(found)


@DOORS
def test_the_token_says_where_an_agent_belongs(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """Organization, site and tags of the token stand in the record, and none of what the caller claims instead."""
    token = _create(terminal, "--organization", "acme", "--site", "berlin", "--tag", "web", "--tag", "prod")
    agent_id = enroll(served, "srv-01", token, organizationId="other", site="moon", tags=["mine"])
    record = terminal.records("agents", "show", agent_id)
    assert [record[name] for name in ("organizationId", "site", "tags")] == ["acme", "berlin", ["web", "prod"]]
    assert (record["reportedSite"], record["reportedTags"]) == ("moon", ["mine"])


@DOORS
def test_what_the_token_leaves_open_the_caller_says(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """A token without terms lets a host name its organization; its site and tags are reported ones only."""
    agent_id = enroll(served, "srv-01", _create(terminal), organizationId="acme", site="bonn", tags=["mine"])
    record = terminal.records("agents", "show", agent_id)
    assert [record[name] for name in ("organizationId", "site", "tags")] == ["acme", None, []]
    assert (record["reportedSite"], record["reportedTags"]) == ("bonn", ["mine"])


@DOORS
def test_uses_are_counted_once_for_each_agent(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """Repeated registrations of a host count once; the list shows used and left, and the next host is refused."""
    token = _create(terminal, "--uses", "2", "--expires", "9999d")
    first = enroll(served, "srv-01", token)
    assert [enroll(served, "srv-01", token) for _ in range(3)] == [first] * 3
    assert [_listed(terminal, token)[name] for name in ("uses", "usesLeft", "maxUses")] == [1, 1, 2]
    enroll(served, "srv-02", token)
    assert enroll(served, "srv-03", token) in (
        "used_token",
        "the enrollment token's uses are used up; ask for a new one",
    )
    assert enroll(served, "srv-01", token) == first  # used up, it still takes its own back
    assert [_listed(terminal, token)[name] for name in ("uses", "usesLeft", "maxUses")] == [2, 0, 2]
    assert len(terminal.records("agents", "list")) == 2


def test_both_doors_count_together(served: Served, terminal: Terminal) -> None:
    """One host over MQTT and then HTTP is one use; another one over HTTP is the second and last."""
    token = _create(terminal, "--uses", "2")
    first = _by_mqtt(served, "srv-01", token)
    assert _by_http(served, "srv-01", token) == first
    assert _listed(terminal, token)["usesLeft"] == 1
    assert _by_http(served, "srv-02", token).startswith("ag-")
    assert _by_mqtt(served, "srv-03", token) == "used_token"


def test_a_repeat_byte_for_byte_uses_nothing_up(served: Served, terminal: Terminal) -> None:
    """The last use's registration, sent again a hundred times, gets its one answer each time."""
    token = _create(terminal, "--uses", "1")
    with served.bench() as bench:
        agent = SimulatedAgent("srv-01", token, bench.keyring.seal_public)
        client_id, payload = agent.registration(bench.wall)
        answers = []
        for _ in range(100):
            bench.put(topics.REGISTRATION, client_id, payload)
            bench.engine.step(bench.now)
            answers.append(bench.answer(client_id))
    assert all(answer == answers[0] and answer["agentId"] for answer in answers)
    assert _listed(terminal, token)["uses"] == 1


@DOORS
def test_a_revoked_or_expired_token_lets_nobody_in(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """Registered agents stay; the list shows the time of the revocation."""
    revoked, expired = _create(terminal), _create(terminal, "--expires", "9999d")
    with served.bench() as bench:
        bench.fleet.tokens[expired.token_id].expires_at = bench.wall - 1
    first = enroll(served, "srv-01", revoked)
    terminal.ok("tokens", "revoke", revoked.token_id)
    refusals = [enroll(served, "srv-02", token) for token in (revoked, expired)]
    assert not [refusal for refusal in refusals if refusal.startswith("ag-")]
    assert [agent["agentId"] for agent in terminal.records("agents", "list")] == [first]
    assert _listed(terminal, revoked)["revokedAt"] is not None


def test_an_agent_stays_where_its_token_put_it(served: Served, terminal: Terminal) -> None:
    """Registering again with its own HTTP token, it keeps organization, site, tags and token, and uses nothing up."""
    token = _create(terminal, "--organization", "acme", "--site", "berlin", "--tag", "web", "--uses", "1")
    agent = served.join("srv-01", str(token))
    terminal.ok("tokens", "revoke", token.token_id)
    assert _by_http(served, "srv-01", agent.told["token"], organizationId="other", tags=["mine"]) == agent.agent_id
    record = terminal.records("agents", "show", "srv-01")
    assert [record[name] for name in ("organizationId", "site", "tags")] == ["acme", "berlin", ["web"]]
    assert record["tokenId"] == token.token_id
    assert _by_http(served, "srv-02", agent.told["token"]).startswith("this token is another agent's")


@DOORS
@pytest.mark.parametrize(
    ("takeover", "state", "taken"),
    [
        (Takeover.ALLOW, State.ONLINE, True),
        (Takeover.WHEN_OFFLINE, State.ONLINE, False),
        (Takeover.WHEN_OFFLINE, State.STALE, True),
        (Takeover.WHEN_OFFLINE, State.OFFLINE, True),
        (Takeover.PROOF, State.ONLINE, False),
        (Takeover.PROOF, State.OFFLINE, False),
    ],
)
def test_who_may_take_a_host_over(
    served: Served, terminal: Terminal, enroll: Enroll, *, takeover: Takeover, state: State, taken: bool
) -> None:
    """Another instance of a known host, without its credential: as the setting has it, and never a second record."""
    token = _create(terminal)
    first = enroll(served, "srv-01", token)
    with served.bench() as bench:
        bench.fleet.settings = EngineSettings(takeover=takeover)
        bench.fleet.registry.agents[first].state = state
        before = copy.copy(bench.fleet.registry.agents[first].credential)
    answer = enroll(served, "srv-01", token)
    assert (answer == first) is taken
    with served.bench() as bench:
        assert (bench.fleet.registry.agents[first].credential == before) is not taken
    assert len(terminal.records("agents", "list")) == 1


def test_its_own_credential_always_takes_a_host_back(served: Served, terminal: Terminal) -> None:
    """Under `proof`, while it counts as online, over both doors."""
    token, secret = _create(terminal), new_secret()
    over_mqtt = _by_mqtt(served, "srv-01", token, secret)
    over_http = served.join("srv-02", str(token))
    with served.bench() as bench:
        bench.fleet.settings = EngineSettings(takeover=Takeover.PROOF)
    assert _by_mqtt(served, "srv-01", token, secret) == over_mqtt
    assert _by_http(served, "srv-02", over_http.told["token"]) == over_http.agent_id


def test_the_list_shows_uses_and_what_is_left(served: Served, terminal: Terminal) -> None:
    """In the table too; a token without an end says so by a dash."""
    token = _create(terminal, "--uses", "10", "--organization", "acme")
    _by_mqtt(served, "srv-01", token)
    (row,) = [line for line in terminal.ok("tokens", "list").splitlines() if token.token_id in line]
    assert row.split()[:7] == [token.token_id, "-", "1", "9", "-", "-", "acme"]


@DOORS
def test_a_token_without_limits_has_a_rate(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """3 new agents an hour; reconnections do not count; an hour after the first one the next is let in."""
    token = _create(terminal)
    with served.bench() as bench:
        bench.fleet.enrollment_rate = EnrollmentRate(3)
    known = [enroll(served, f"srv-{number}", token) for number in range(3)]
    assert [enroll(served, f"srv-{number}", token) for number in range(3)] == known
    refusal = enroll(served, "srv-3", token)
    assert refusal == "conflict" or refusal.startswith("the enrollment token has let in 3 new agents within an hour")
    assert enroll(served, "srv-4", _create(terminal, "--uses", "9")).startswith("ag-")
    with served.bench() as bench:
        for _ in range(60):
            bench.pass_time(60, step=30)
    assert enroll(served, "srv-3", token).startswith("ag-")


def test_over_http_the_rate_is_429_with_retry_after(served: Served, terminal: Terminal) -> None:
    """The guard tries again after the time that it is told."""
    token = _create(terminal)
    with served.bench() as bench:
        bench.fleet.enrollment_rate = EnrollmentRate(1)
    _by_http(served, "srv-1", token)
    with served.client(str(token)) as client:
        answer = client.post("/api/agents/register", json={**HOST, "hostname": "srv-2"})
    assert answer.status_code == 429
    assert (answer.headers["Retry-After"], answer.headers["X-RateLimit-Limit"]) == ("3600", "1")


@DOORS
def test_refused_registrations_show_in_status_and_now(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """With the host, how often, and the reason; a host that comes in later is shown no more."""
    token = _create(terminal, "--uses", "1")
    enroll(served, "srv-01", token)
    for _ in range(2):
        enroll(served, "srv-02", token)
    for text in (terminal.ok("status"), terminal.ok("now")):
        (line,) = [line for line in text.splitlines() if "srv-02" in line]
        assert "2 registrations over" in line
        assert "used up; ask for a new one" in line
    (refused,) = terminal.records("now")["refusedRegistrations"]
    assert (refused["hostname"], refused["count"]) == ("srv-02", 2)
    enroll(served, "srv-02", _create(terminal))
    assert terminal.records("now")["refusedRegistrations"] == []


def test_a_host_without_a_token_shows_by_its_address(served: Served, terminal: Terminal) -> None:
    """A registration over HTTP that is refused before it is read: its address, counted once the engine has a turn."""
    with served.bench():
        assert _by_http(served, "srv-01", "wrong") == "Unauthorized"
    told = "a host at 127.0.0.1: 1 registration over HTTP"
    eventually(lambda: told in terminal.ok("status"), what="the refused registration")


@DOORS
def test_spellings_of_one_host_are_one_agent(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """`SRV-01`, `srv-01` and `srv-01.`, composed or not; the first spelling is shown, and each finds the agent."""
    token = _create(terminal)
    first = enroll(served, "SRV-01", token)
    assert {enroll(served, name, token) for name in ("srv-01", "srv-01.", "Srv-01")} == {first}
    assert enroll(served, "zürich", token) == enroll(served, "ZU\u0308RICH", token)
    for name in ("SRV-01", "srv-01", "srv-01."):
        assert terminal.records("agents", "show", name)["hostname"] == "SRV-01"
    assert "removed" in terminal.ok("agents", "remove", "--machine-id", "srv-01")
    assert [agent["hostname"] for agent in terminal.records("agents", "list")] == ["zürich"]


@DOORS
def test_a_stamp_years_ahead_locks_nobody_out(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """A clock that was years ahead, then right: the host comes back at once, by either door."""
    token = _create(terminal)
    with served.bench() as bench:
        agent = SimulatedAgent("srv-01", token, bench.keyring.seal_public)
        first = str(bench.register(agent, sent_at=bench.wall + 70 * 366 * 86_400)["agentId"])
    assert enroll(served, "srv-01", token) == first
