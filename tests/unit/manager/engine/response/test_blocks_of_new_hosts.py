"""Live blocks of an address that an enrolling host turns out to own: withdrawn at once, stored, and not made again."""

import json
from typing import Any

import pytest

from manager.domain.agents.host import Host
from manager.engine.commands.http_agent_requests import RegisterAgent
from manager.engine.commands.requests import RemoveBlock
from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

PUBLIC, PRIVATE = "203.0.113.66", "10.1.2.3"


def agents_of(bench: Bench, count: int, **members: Any) -> list[SimulatedAgent]:
    """Return agents whose clocks are known."""
    token = bench.token()
    agents = [bench.enroll(f"srv-{number}", token, **members) for number in range(count)]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    return agents


def attack(bench: Bench, agents: list[SimulatedAgent], source: str) -> None:
    for agent in agents:
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp=source))


def blocks(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows("SELECT value, scope FROM emergency_entry WHERE kind = 'ip'")


def response(bench: Bench) -> tuple[str, str]:
    ((state, reason),) = bench.rows(
        "SELECT state, reason FROM incident_response JOIN incident ON id = incident_id WHERE kind = 'source_ip'"
    )
    return state, reason


@pytest.mark.parametrize("door", ["mqtt", "http"])
@pytest.mark.parametrize(("reporters", "scope"), [(2, "agent"), (3, "organization")])
def test_an_enrolling_host_withdraws_the_blocks_of_its_own_address(
    bench: Bench, door: str, reporters: int, scope: str
) -> None:
    """Whether the block is the agents' own or the organization's: a further report brings no new one."""
    agents = agents_of(bench, reporters)
    attack(bench, agents, PUBLIC)
    assert scope in {each for _, each in blocks(bench)}
    bench.publisher.published.clear()
    if door == "mqtt":
        bench.enroll("new-1", addresses=[f"{PUBLIC}/24"])
    else:
        bench.ask(RegisterAgent(Host.of("new-1", "Debian 12", "x64", "1.0", addresses=(PUBLIC,)), None, by_admin=True))
    assert blocks(bench) == []
    assert response(bench) == ("refused", "never blocked: it is an address or a gateway of the fleet itself")
    changes = bench.publisher.take(topics.BLOCKLIST_CHANGES.address("default"))
    removed = [entry["value"] for change in changes for entry in json.loads(change)["removed"]]
    assert removed == ([PUBLIC] if scope == "organization" else [])
    attack(bench, agents, PUBLIC)
    bench.crash()
    assert blocks(bench) == []


def test_a_host_that_registers_again_with_another_gateway_withdraws_its_block(bench: Bench) -> None:
    """A gateway counts as an address does, and a known agent as a new one."""
    agents = agents_of(bench, 3)
    attack(bench, agents, PUBLIC)
    assert (PUBLIC, "organization") in blocks(bench)
    bench.pass_time(1)
    bench.register(agents[0], gateways=[PUBLIC])
    assert blocks(bench) == []


@pytest.mark.parametrize(("site", "left"), [("berlin", []), ("paris", [(PRIVATE, "agent")] * 2)])
def test_a_private_address_counts_on_its_own_site(bench: Bench, site: str, left: list[tuple[Any, ...]]) -> None:
    """Another site's host of the same private address is another host, and its enrollment withdraws nothing."""
    attack(bench, agents_of(bench, 2, site="berlin"), PRIVATE)
    assert len(blocks(bench)) == 2
    bench.enroll("new-1", site=site, addresses=[PRIVATE])
    assert blocks(bench) == left


@pytest.mark.parametrize("hours", [0, 1])
def test_an_incident_says_that_its_block_is_gone(bench: Bench, hours: int) -> None:
    """Also one that closed so long ago that only the store has its response; nothing of it stays in memory."""
    agents = agents_of(bench, 2)
    attack(bench, agents, PUBLIC)
    bench.pass_time(hours * 3600, step=20)
    bench.enroll("new-1", addresses=[PUBLIC])
    assert response(bench) == ("refused", "never blocked: it is an address or a gateway of the fleet itself")
    bench.pass_time(3600, step=20)
    remembered = bench.fleet.responder.responses
    ((incident_id,),) = bench.rows("SELECT id FROM incident WHERE kind = 'source_ip'")
    assert remembered.get(incident_id) is None


@pytest.mark.parametrize("hours", [0, 1])
def test_the_incident_of_a_block_that_a_person_removes_is_undone(bench: Bench, hours: int) -> None:
    """However long ago it closed; an attack after it has closed is blocked again."""
    agents = agents_of(bench, 2)
    attack(bench, agents, PUBLIC)
    bench.pass_time(hours * 3600, step=20)
    (entry_id, _) = bench.rows("SELECT id, scope FROM emergency_entry WHERE kind = 'ip' ORDER BY id")[0]
    bench.ask(RemoveBlock(entry_id, "ann"))
    assert response(bench) == ("undone", "an entry of it was removed by ann")
    bench.pass_time(3600, step=20)
    attack(bench, agents, PUBLIC)
    assert bench.rows("SELECT state FROM incident_response JOIN incident ON id = incident_id "
                      "WHERE kind = 'source_ip' ORDER BY opened_at") == [("undone",), ("applied",)]  # fmt: skip
