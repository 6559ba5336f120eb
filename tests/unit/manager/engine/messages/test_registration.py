"""Registration over MQTT, on a real store and a virtual clock."""

import pytest

from manager.engine.commands.requests import ChangeAgent, RemoveAgent, RevokeToken
from manager.errors import Conflict
from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.usefixtures("each_system")


def test_registration_gives_an_id_that_a_second_one_keeps(bench: Bench) -> None:
    """The same hostname and organization is a reconnection; another organization is another agent."""
    first = bench.enroll("web-1")
    again = bench.enroll("web-1")
    elsewhere = bench.enroll("web-1", organization_id="acme")
    assert first.agent_id == again.agent_id != elsewhere.agent_id
    assert bench.rows("SELECT count(*) FROM agent") == [(2,)]


def test_racing_registrations_of_one_host_yield_one_agent(bench: Bench) -> None:
    """Two hundred registrations of one hostname, each with a secret of its own, are one agent."""
    token = bench.token()
    for n in range(200):
        agent = SimulatedAgent("web-1", token, bench.keyring.seal_public)
        client_id, payload = agent.registration(bench.wall + n / 1000)
        bench.put(topics.REGISTRATION, client_id, payload)
    bench.pass_time(10)
    assert bench.rows("SELECT count(*) FROM agent") == [(1,)]


def test_a_registration_sent_again_is_answered_again_and_changes_nothing(bench: Bench) -> None:
    """A lost reply costs the client one repetition: same bytes, same reply."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    client_id, payload = agent.registration(bench.wall)
    bench.receive(topics.REGISTRATION, client_id, payload)
    first = bench.answer(client_id)
    before = bench.rows("SELECT session, stamp_digest, http_digest FROM agent")
    bench.pass_time(30)
    bench.receive(topics.REGISTRATION, client_id, payload)
    assert bench.answer(client_id) == first
    assert bench.rows("SELECT session, stamp_digest, http_digest FROM agent") == before


def test_an_older_registration_is_refused(bench: Bench) -> None:
    """A withheld registration changes nothing after a newer one was accepted."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    old_id, old = agent.registration(bench.wall)
    assert "agentId" in bench.register(agent, sent_at=bench.wall + 5)
    bench.receive(topics.REGISTRATION, old_id, old)
    assert bench.answer(old_id)["error"] == "outdated"


def test_a_stamp_years_ahead_is_capped_in_the_store_and_at_the_start(bench: Bench) -> None:
    """The stored stamp is the receipt; one that an earlier release stored is capped when it is loaded."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    bench.register(agent, sent_at=bench.wall + 1e9)
    assert bench.rows("SELECT stamp_sent_at FROM agent") == [(bench.wall,)]
    bench.database.execute_sql(f"UPDATE agent SET stamp_sent_at = {bench.wall + 1e9}")
    bench.crash()
    bench.pass_time(1)
    again = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    assert "agentId" in bench.register(again)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda payload: payload.replace(b'"hostname":"web-1"', b'"hostname":"web-2"'), "bad_proof"),
        (lambda payload: payload[:-3] + b'x"}', "bad_proof"),
        (lambda payload: payload[:-60] + b"}", "malformed"),
        (lambda payload: payload.replace(b'"tokenId":"tok-', b'"tokenId":"tok_'), "unknown_token"),
        (lambda _payload: b"{}", "malformed"),
    ],
)
def test_forged_registrations_are_refused(bench: Bench, spoil: object, error: str) -> None:
    """A modified registration enrolls nobody and becomes a dead letter with its reason."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    client_id, payload = agent.registration(bench.wall)
    bench.receive(topics.REGISTRATION, client_id, spoil(payload))  # type: ignore[operator]
    assert bench.answer(client_id)["error"] in {error, "bad_proof"}
    assert len(bench.fleet.registry) == 0
    assert bench.rows("SELECT count(*) FROM dead_letter") == [(1,)]


def test_a_secret_sealed_to_another_manager_is_refused(bench: Bench) -> None:
    """An unsealed secret, or one sealed to another key or client, enrolls nobody."""
    from schemas.keys import ManagerKeyring  # noqa: PLC0415 -- only this test has a second manager

    agent = SimulatedAgent("web-1", bench.token(), ManagerKeyring(b"x" * 32).seal_public)
    assert bench.register(agent)["error"] == "malformed"


def test_tokens_count_agents_and_end(bench: Bench) -> None:
    """A token's uses are counted once per agent; spent, expired and revoked ones let no new agent in."""
    token = bench.token(max_uses=1, expires_at=bench.wall + 100)
    bench.enroll("web-1", token)
    bench.enroll("web-1", token)
    other = SimulatedAgent("web-2", token, bench.keyring.seal_public)
    assert bench.register(other)["error"] == "used_token"
    bench.pass_time(100, step=9)
    again = SimulatedAgent("web-1", token, bench.keyring.seal_public)
    assert bench.register(again)["error"] == "expired_token"
    unlimited = bench.token()
    bench.ask(RevokeToken(unlimited.token_id, "test"))
    assert bench.register(SimulatedAgent("web-3", unlimited, bench.keyring.seal_public))["error"] == "unknown_token"


def test_the_token_fixes_organization_site_and_tags(bench: Bench) -> None:
    """The token's organization, site and tags override those of the registration."""
    token = bench.token(organization_id="acme", site="berlin", tags=("prod",))
    agent = bench.enroll("web-1", token, organization_id="evil", site="moon", tags=["own"])
    record = bench.fleet.registry.agents[agent.agent_id]
    assert (record.organization_id, record.host.site, record.host.tags) == ("acme", "berlin", ("prod",))


@pytest.mark.parametrize("restarted", [False, True])
def test_no_old_registration_brings_a_removed_agent_back(bench: Bench, *, restarted: bool) -> None:
    """Old registrations are refused, also after a restart; a new registration of the guard is accepted."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    kept = []
    for _ in range(2):
        kept.append(agent.registration(bench.wall))
        bench.receive(topics.REGISTRATION, *kept[-1])
        agent.agent_id = bench.answer(kept[-1][0])["agentId"]
        bench.pass_time(5)
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    if restarted:
        bench.crash()
    for client_id, payload in kept:
        bench.receive(topics.REGISTRATION, client_id, payload)
        assert bench.answer(client_id)["error"] == "outdated"
    assert len(bench.fleet.registry) == 0
    assert "agentId" in bench.register(agent)


def test_a_removed_host_whose_clock_was_set_back_comes_back_with_a_new_token(bench: Bench) -> None:
    """A token created after the removal proves that the registration is newer than the removal."""
    agent = bench.enroll("web-1")
    bench.pass_time(1)
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    assert bench.register(agent, sent_at=bench.wall - 3600)["error"] == "outdated"
    bench.pass_time(1)
    agent.token = bench.token()
    assert "agentId" in bench.register(agent, sent_at=bench.wall - 3600)


def restart(bench: Bench) -> None:
    """End the manager, and build it again from its store."""
    bench.database.close()
    bench.build()


def moved(bench: Bench, agent_id: str, organization_id: str) -> None:
    """Move an agent to another organization, as an operator does."""
    bench.ask(ChangeAgent(agent_id, "test", organization_id=organization_id))


def test_a_moved_agent_is_found_by_its_registration(bench: Bench) -> None:
    """The token's organization is the former one; the reply names the new one, also after a restart of the manager."""
    token = bench.token(organization_id="acme", tags=("web",))
    agent = bench.enroll("web-1", token)
    moved(bench, agent.agent_id, "other")
    for _ in range(2):
        bench.pass_time(1)
        reply = bench.register(agent)
        assert (reply["agentId"], reply["organizationId"]) == (agent.agent_id, "other")
        assert list(bench.fleet.registry.agents) == [agent.agent_id]
        restart(bench)
    moved(bench, agent.agent_id, "acme")
    bench.pass_time(1)
    assert bench.register(agent)["organizationId"] == "acme"


def test_an_agent_is_moved_to_no_organization_that_has_its_hostname(bench: Bench) -> None:
    """Two agents of one name in one organization could not be told apart."""
    first, second = bench.enroll("web-1", organization_id="acme"), bench.enroll("WEB-1", organization_id="other")
    with pytest.raises(Conflict, match="has an agent web-1 already"):
        moved(bench, first.agent_id, "other")
    assert bench.fleet.registry.agents[first.agent_id].organization_id == "acme"
    moved(bench, second.agent_id, "third")
    moved(bench, first.agent_id, "third-b")
    assert {agent.organization_id for agent in bench.fleet.registry.agents.values()} == {"third", "third-b"}


def test_a_removed_agent_that_was_moved_is_kept_out_by_its_old_registration(bench: Bench) -> None:
    """The broker may deliver its registration again, which names the former organization; restarts change nothing."""
    token = bench.token(organization_id="acme")
    agent = bench.enroll("web-1", token)
    client_id, payload = agent.registration(bench.wall)
    moved(bench, agent.agent_id, "other")
    bench.receive(topics.REGISTRATION, client_id, payload)
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    for _ in range(2):
        bench.receive(topics.REGISTRATION, client_id, payload)
        assert bench.fleet.registry.agents == {}
        restart(bench)


def test_a_moved_agents_old_sequence_is_no_sign_of_a_restored_store(bench: Bench) -> None:
    """Before the guard changes over, its heartbeats state the former organization's sequence, which counts as none."""
    agent = bench.enroll("web-1", organization_id="acme")
    bench.fleet.blocklists.sequences["acme"] = bench.fleet.policies.advance()
    stated = bench.fleet.blocklists.sequences["acme"]
    moved(bench, agent.agent_id, "other")
    beat = agent.heartbeat(bench.wall, blocklistSequence=stated)
    bench.receive(topics.HEARTBEAT, agent.agent_id, beat)
    assert bench.fleet.registry.agents[agent.agent_id].in_force.blocklist_sequence == 0
    assert bench.fleet.restored_store.agents == set()
