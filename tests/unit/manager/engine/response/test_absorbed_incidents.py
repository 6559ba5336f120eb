"""Incidents that another one absorbed: their blocks, and the commands that name them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.response import ResponderSettings
from manager.engine.commands.requests import ApproveIncident, ReadPolicy, UndoIncident
from manager.engine.settings import EngineSettings
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.usefixtures("each_system")

SETTINGS = EngineSettings(takeover=Takeover.ALLOW)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, SETTINGS)
    yield bench
    bench.database.close()


def incidents(bench: Bench) -> list[tuple[str, str]]:
    """Return id and response of the attacker's incidents that no other one absorbed, in the order of their opening."""
    rows = bench.rows(
        "SELECT id, state FROM incident JOIN incident_response ON incident_id = id "
        f"WHERE value = '{ATTACKER}' AND merged_into IS NULL ORDER BY opened_at"
    )
    return [(incident_id, state) for incident_id, state in rows]


def merged_incidents(bench: Bench) -> tuple[str, str, list[SimulatedAgent]]:
    """Return the ids of an incident and of the one that it absorbed, which both responded, and their agents."""
    agents = trusted(bench, *"abcde")
    attack(bench, *agents[:2])
    bench.pass_time(400)
    attack(bench, *agents[2:4])
    ((survivor, _), (absorbed, _)) = incidents(bench)
    attack(bench, agents[4], at=bench.wall - 200)
    assert [incident for incident, _ in incidents(bench)] == [survivor]
    return survivor, absorbed, agents


def test_the_stored_blocks_of_an_absorbed_incident_name_the_one_that_stays(bench: Bench) -> None:
    """After a merge the store and the policies name the incident that absorbed the other, after a restart too."""
    survivor, _, agents = merged_incidents(bench)
    assert set(bench.rows("SELECT incident_id FROM emergency_entry WHERE kind = 'ip'")) == {(survivor,)}
    version = bench.ask(ReadPolicy(agents[2].agent_id)).version
    (shown,) = bench.ask(ReadPolicy(agents[2].agent_id)).document["blocklist"]["ips"]
    assert shown["incidentId"] == survivor
    bench.build()
    assert bench.ask(ReadPolicy(agents[2].agent_id)).version == version
    bench.ask(UndoIncident(survivor, "ann"))
    assert bench.rows("SELECT count(*) FROM emergency_entry WHERE kind = 'ip'") == [(0,)]


def test_an_undo_that_names_an_absorbed_incident_undoes_the_one_that_stays(bench: Bench) -> None:
    """Also after the last entry has ended, the incident that stays is undone, and the audit log has it."""
    survivor, absorbed, agents = merged_incidents(bench)
    entries = bench.fleet.responder.entries
    for entry in list(entries):
        entries.remove(entry)
    bench.ask(UndoIncident(absorbed, "ann"))
    assert incidents(bench) == [(survivor, "undone")]
    (audited,) = bench.rows("SELECT target, after FROM audit_entry WHERE action = 'incident.undo'")
    assert audited[0] == absorbed
    assert json.loads(audited[1])["state"] == "undone"
    attack(bench, *agents)
    assert [entry for entry in entries if entry.kind == "ip"] == []


def test_an_approval_that_names_an_absorbed_incident_approves_the_one_that_stays(tmp_path: Path) -> None:
    """Both waited because of the rate cap; the id that an operator was shown before the merge approves them."""
    rare = ResponderSettings(blocks=1, window=10_000.0)
    bench = Bench(tmp_path, EngineSettings(takeover=Takeover.ALLOW, responder=rare))
    attack(bench, *trusted(bench, "x", "y"), sourceIp="203.0.113.1")
    survivor, absorbed, _ = merged_incidents(bench)
    assert incidents(bench) == [(survivor, "pending_approval")]
    assert bench.ask(ApproveIncident(absorbed, "ann")) == survivor
    assert incidents(bench) == [(survivor, "applied")]
    assert bench.fleet.blocklists.snapshot("default").entries[0].value == ATTACKER
    (audited,) = bench.rows("SELECT target, before, after FROM audit_entry WHERE action = 'incident.approve'")
    before, after = json.loads(audited[1]), json.loads(audited[2])
    assert (audited[0], before["state"], after["state"]) == (absorbed, "pending_approval", "applied")
    bench.database.close()
