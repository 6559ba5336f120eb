"""Threats by source address, technique and id, over HTTP and by command."""

from typing import Any

import httpx2
import pytest

from manager.cli.support.failures import ExitCode
from manager.storage.queries import threat_search
from manager.storage.queries.threats import ThreatFilter
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted


@pytest.fixture
def attacked(served: Served) -> Served:
    """A manager whose agents met two attackers."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b")
        attack(bench, *agents)
        bench.elapsed += 60
        attack(bench, agents[0], sourceIp="2001:db8::1")
    return served


@pytest.mark.usefixtures("attacked")
def test_threats_are_searched_by_address_and_technique(admin: httpx2.Client, terminal: Terminal) -> None:
    """The address in any spelling; a technique has its sub-techniques; nonsense is refused."""

    def count(**query: Any) -> int:
        return len(admin.get("/api/threats", params=query).raise_for_status().json()["data"])

    assert count(source=ATTACKER) == 2
    assert count(source=f"::ffff:{ATTACKER}") == 2
    assert count(source="2001:DB8:0::1") == 1
    assert count(source="192.0.2.200") == 0
    (technique,) = {each["threat"]["technique"] for each in admin.get("/api/threats").json()["data"]}
    assert count(technique=technique.partition(".")[0].lower()) == count(technique=technique) == 3
    assert count(technique=technique, source=ATTACKER, org_id="default") == 2
    assert count(technique="T9999") == 0
    for wrong in ({"source": "nonsense"}, {"technique": "brute"}, {"source": "203.0.113.0/24"}):
        assert admin.get("/api/threats", params=wrong).status_code == 400
    assert len(terminal.records("threats", "list", "--source", ATTACKER, "--technique", technique)) == 2
    assert terminal.records("threats", "list", "--source", ATTACKER, "--since", "2027-01-15T08:00:30Z") == []


@pytest.mark.usefixtures("attacked")
def test_a_threat_is_shown_by_its_id(admin: httpx2.Client, terminal: Terminal) -> None:
    """With its evidence; an id that is nobody's is not found."""
    first, *_ = admin.get("/api/threats", params={"source": ATTACKER}).json()["data"]
    assert admin.get(f"/api/threats/{first['id']}").json()["data"] == first
    shown = terminal.ok("threats", "show", first["id"], "--agent", first["hostname"])
    for words in (first["id"], first["agentId"], ATTACKER, first["eventTime"], "evidence sourceIp"):
        assert words in shown
    assert terminal.run("threats", "show", "nobody").exit_code == ExitCode.NOT_FOUND


def test_an_id_that_two_agents_gave_asks_for_the_agent(served: Served, admin: httpx2.Client) -> None:
    """HTTP agents number their reports by themselves."""
    event = {"id": "1", "type": "scan", "severity": "high", "details": {}, "timestamp": "2027-01-15T08:00:00Z"}
    agents = [served.join(hostname) for hostname in ("srv-01", "srv-02")]
    for agent in agents:
        with agent.client:
            assert agent.events({"events": [event]}).status_code == 201
    refused = admin.get("/api/threats/1")
    assert (refused.status_code, "srv-02" in refused.json()["error"]) == (409, True)
    shown = admin.get(f"/api/threats/1?agentId={agents[1].agent_id}").json()["data"]
    assert shown["hostname"] == "srv-02"


@pytest.mark.parametrize(
    ("key", "index"), [(("203.0.113.1", None), "threat_source_ip"), ((None, "T1110"), "technique")]
)
def test_a_search_reads_its_index_in_order(served: Served, key: tuple[Any, Any], index: str) -> None:
    """No sort of all threats of an attacker: the database reads as many rows as the page has."""
    plans: list[str] = []
    reader = served.services.queries._reader  # type: ignore[attr-defined]
    original = reader.rows

    def explained(query: Any) -> list[dict[str, Any]]:
        sql, parameters = query.sql()
        plan = reader._database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        plans.extend(row[-1] for row in plan)
        return original(query)

    reader.rows = explained
    threat_search.page(reader, threat_search.SearchKey(*key), ThreatFilter(), 50, threat_search.cursor_after(1.0, 1))
    assert any(index in line and "SEARCH" in line for line in plans)
    assert not any("TEMP B-TREE" in line for line in plans)
