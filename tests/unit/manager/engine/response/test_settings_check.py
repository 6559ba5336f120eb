"""Live blocks after a start with other settings: those that the settings forbid are lifted, with a reason."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.domain.correlation import CorrelatorSettings
from manager.domain.response import ResponderSettings
from manager.engine.commands.requests import ApproveIncident, ReadPolicy
from manager.errors import StoreUnavailable
from schemas import topics
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

Rows = list[tuple[Any, ...]]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def start(bench: Bench, **settings: Any) -> None:
    """Start the manager with these settings changed, and let it run one step."""
    bench.settings = dataclasses.replace(bench.settings, **settings)
    bench.crash()
    bench.pass_time(0.1)


def blocks(bench: Bench) -> Rows:
    return bench.rows("SELECT DISTINCT value, scope FROM emergency_entry WHERE kind = 'ip' ORDER BY value, scope")


def response(bench: Bench) -> tuple[str, str]:
    """Return state and reason of the response to the attacker."""
    ((state, reason),) = bench.rows(
        f"SELECT state, reason FROM incident_response JOIN incident ON id = incident_id WHERE value = '{ATTACKER}'"
    )
    return state, reason


def lifted(bench: Bench) -> list[dict[str, Any]]:
    """Return the audited blocks that were lifted, and why."""
    rows = bench.rows("SELECT before, after FROM audit_entry WHERE action = 'block.lift'")
    return [json.loads(before) | json.loads(after) for before, after in rows]


def addresses(bench: Bench, agent: SimulatedAgent) -> list[str]:
    ips = bench.ask(ReadPolicy(agent.agent_id)).document["blocklist"]["ips"]
    return [entry["value"] for entry in ips]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("admin_networks", "it is in an admin network"),
        ("fleet_networks", "it is in a network of the fleet"),
        ("own_addresses", "it is the manager's or the broker's own address"),
    ],
)
@pytest.mark.parametrize("reporters", [2, 3])
@pytest.mark.parametrize("hours", [0, 1])
def test_a_block_of_an_address_that_a_setting_protects_is_lifted(
    bench: Bench, setting: str, said: str, reporters: int, hours: int
) -> None:
    """Also of an incident that closed long ago; other blocks stay, and the agents get their policies without it."""
    agents = trusted(bench, "a", "b", "c")
    attack(bench, *agents[:reporters])
    attack(bench, *agents[:reporters], sourceIp="198.51.100.7")
    bench.pass_time(hours * 3600, step=20)
    left = {address for address in blocks(bench) if address[0] != ATTACKER}
    bench.publisher.published.clear()
    start(bench, **{setting: (f"{ATTACKER}/32",)})
    assert set(blocks(bench)) == left
    assert ATTACKER not in addresses(bench, agents[0])
    (told,) = lifted(bench)
    assert (told["count"], told["reason"]) == (2 if reporters == 2 else 3, f"never blocked: {said}")
    assert response(bench) == ("refused", f"never blocked: {said}")
    changes = bench.publisher.take(topics.BLOCKLIST_CHANGES.address("default"))
    removed = [entry["value"] for change in changes for entry in json.loads(change)["removed"]]
    assert removed == ([ATTACKER] if reporters == 3 else [])
    bench.crash()
    bench.pass_time(0.1)
    assert len(lifted(bench)) == 1


def test_the_same_settings_lift_nothing(bench: Bench) -> None:
    """Neither the first start with a store, nor a later one, nor one with less strict settings."""
    attack(bench, *trusted(bench, "a", "b", "c"))
    before = bench.rows("SELECT id FROM emergency_entry ORDER BY id")
    start(bench)
    start(bench, fleet_networks=("192.0.2.0/24",))
    start(bench, responder=ResponderSettings(organization_agents=2))
    assert bench.rows("SELECT id FROM emergency_entry ORDER BY id") == before
    assert lifted(bench) == []


@pytest.mark.parametrize("hours", [0, 1])
def test_an_incident_with_fewer_agents_than_are_needed_now_blocks_nothing(bench: Bench, hours: int) -> None:
    """Two agents were enough at the last start, three are now: the third one's report blocks it again."""
    agents = trusted(bench, "a", "b", "c")
    attack(bench, *agents[:2])
    bench.pass_time(hours * 3600, step=20)
    start(bench, correlator=CorrelatorSettings(source_ip_agents=3))
    assert blocks(bench) == []
    assert response(bench) == ("refused", "2 agents reported it in time, 3 are needed")
    assert [told["count"] for told in lifted(bench)] == [2]
    if hours:  # closed long ago: nothing of it stays in memory
        (incident_id,) = bench.rows(f"SELECT id FROM incident WHERE value = '{ATTACKER}'")[0]
        bench.pass_time(3600, step=20)
        assert bench.fleet.responder.responses.get(incident_id) is None
    else:
        attack(bench, agents[2])
        assert (ATTACKER, "organization") in blocks(bench)


def test_settings_are_compared_with_those_of_the_last_start(bench: Bench) -> None:
    """Not with those of the first one: a block that only a laxer start allowed is narrowed by the next."""
    start(bench)
    start(bench, responder=ResponderSettings(organization_agents=2))
    attack(bench, *trusted(bench, "a", "b"))
    assert (ATTACKER, "organization") in blocks(bench)
    start(bench, responder=ResponderSettings(organization_agents=3))
    assert blocks(bench) == [(ATTACKER, "agent")]


@pytest.mark.parametrize("hours", [0, 1])
def test_an_organization_wide_block_with_too_few_agents_becomes_their_own(bench: Bench, hours: int) -> None:
    """The agents that report it keep it, with the same end, and no other agent has it."""
    agents = trusted(bench, "a", "b", "c", "d")
    attack(bench, *agents[:3])
    bench.pass_time(hours * 3600, step=20)
    (ends,) = bench.rows("SELECT expires_at FROM emergency_entry WHERE scope = 'organization'")
    start(bench, responder=ResponderSettings(organization_agents=4))
    assert blocks(bench) == [(ATTACKER, "agent")]
    assert [ATTACKER in addresses(bench, agent) for agent in agents] == [True, True, True, False]
    latest = bench.rows(f"SELECT max(expires_at) FROM emergency_entry WHERE value = '{ATTACKER}'")
    assert latest == [ends]
    assert response(bench) == ("applied", "block decided for the agents that report it")
    assert [told["reason"] for told in lifted(bench)] == ["block decided for the agents that report it"]


def test_a_store_that_cannot_be_read_at_first_is_checked_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is contained, and the next step lifts what the settings forbid."""
    attack(bench, *trusted(bench, "a", "b"))
    bench.settings = dataclasses.replace(bench.settings, correlator=CorrelatorSettings(source_ip_agents=3))
    bench.crash()
    find, calls = bench.store.archive.find, 0

    def failing(incident_id: str) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise StoreUnavailable("it cannot be read")
        return find(incident_id)

    monkeypatch.setattr(bench.store.archive, "find", failing)
    bench.engine.step(bench.now)
    assert blocks(bench) == [(ATTACKER, "agent")]
    bench.engine.step(bench.now)
    assert blocks(bench) == []


def test_an_organization_wide_block_of_agents_too_young_waits_for_approval(bench: Bench) -> None:
    """It can be approved as one that waited from the beginning, and is not lifted again by the next start."""
    agents = trusted(bench, "a", "b", "c", "d")
    attack(bench, *agents[:3])
    start(bench, responder=ResponderSettings(organization_age=86_400.0))
    state, reason = response(bench)
    assert state == "pending_approval"
    assert "0 of its agents have been registered for 24 h" in reason
    assert blocks(bench) == [(ATTACKER, "agent")]
    (incident_id,) = bench.rows(f"SELECT id FROM incident WHERE value = '{ATTACKER}'")[0]
    bench.ask(ApproveIncident(incident_id, "ann"))
    assert (ATTACKER, "organization") in blocks(bench)
    start(bench, responder=ResponderSettings(organization_age=2 * 86_400.0))
    assert (ATTACKER, "organization") in blocks(bench)
    assert len(lifted(bench)) == 1
