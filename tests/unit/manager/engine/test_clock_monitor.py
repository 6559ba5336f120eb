"""Steps of the manager's wall clock through the engine: reports stay on time, attacks are answered, people are told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from manager.domain.agents.registry import Takeover
from manager.domain.policies.fleet_policies import GLOBAL
from manager.domain.response import ResponderSettings
from manager.engine.commands.requests import ReadPolicy, SetPolicy, UndoIncident
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.model import iso
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

ATTACKER = "203.0.113.66"
SETTINGS = EngineSettings(takeover=Takeover.ALLOW, boot_id="boot-1")
STEPS = [301.0, 3600.0, 2 * 86_400.0, -5.0, -601.0, -3600.0, -2 * 86_400.0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, SETTINGS)
    yield bench
    bench.database.close()


class Guards:
    """Agents whose own clocks do not follow the manager's."""

    def __init__(self, bench: Bench, *names: str) -> None:
        self.bench, self.set_by = bench, 0.0
        token = bench.token()
        self.agents = [bench.enroll(name, token) for name in names]
        self.heartbeats()

    @property
    def time(self) -> float:
        """The agents' time: true time, whatever the manager's clock was set to."""
        return self.bench.wall - self.set_by

    def set_manager_clock(self, seconds: float) -> None:
        """Set the manager's wall clock."""
        self.bench.began += seconds
        self.set_by += seconds

    def heartbeats(self) -> None:
        for agent in self.agents:
            self.bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(self.time))

    def attack(self, *numbers: int, source: str = ATTACKER, at: float | None = None) -> None:
        """Let agents report an attack in one batch."""
        for number in numbers:
            agent = self.agents[number]
            payload = agent.threat(self.time if at is None else at, sourceIp=source)
            self.bench.put(topics.THREATS, agent.agent_id, payload)
        self.bench.engine.step(self.bench.now)

    def blocked(self, number: int) -> list[str]:
        ips = self.bench.ask(ReadPolicy(self.agents[number].agent_id)).document["blocklist"]["ips"]
        return [entry if isinstance(entry, str) else entry["value"] for entry in ips]


def responses(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows("SELECT state, reason FROM incident_response ORDER BY at")


@pytest.mark.parametrize("seconds", STEPS)
def test_an_attack_after_a_step_is_answered(bench: Bench, seconds: float) -> None:
    """The manager's clock is set forward or back: reports right after it are on time, and the address is blocked."""
    guards = Guards(bench, "web-1", "web-2")
    bench.pass_time(60)
    guards.set_manager_clock(seconds)
    guards.attack(0, 1)
    assert guards.blocked(0) == guards.blocked(1) == [ATTACKER]
    (received, event_time), *_ = bench.rows("SELECT received_at, event_time FROM threat")
    assert event_time == pytest.approx(received, abs=0.01)


@pytest.mark.parametrize("seconds", STEPS)
def test_an_attack_on_both_sides_of_a_step_is_one(bench: Bench, seconds: float) -> None:
    """One agent reports before the step, the other one 100 s of true time later: one incident, answered."""
    guards = Guards(bench, "web-1", "web-2")
    guards.attack(0)
    bench.pass_time(50)
    guards.set_manager_clock(seconds)
    bench.pass_time(50)
    guards.attack(1)
    assert guards.blocked(0) == guards.blocked(1) == [ATTACKER]
    assert bench.rows("SELECT count(*) FROM incident WHERE kind = 'source_ip'") == [(1,)]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_step_makes_a_backlog_no_more_punctual(bench: Bench, seconds: float, restart: bool) -> None:
    """What happened an hour before stays late on both sides of a step, and causes no response."""
    guards = Guards(bench, "web-1", "web-2")
    bench.pass_time(5)
    guards.set_manager_clock(seconds)
    bench.pass_time(5)
    if restart:
        bench.crash()
    guards.heartbeats()
    guards.attack(0, 1, at=guards.time - 3000.0)
    assert {state for state, _ in responses(bench)} == {"refused"}


@pytest.mark.parametrize("seconds", STEPS)
def test_a_step_while_the_manager_is_down_is_found_at_its_start(bench: Bench, seconds: float) -> None:
    """Within one boot: reports on both sides of the restart are on time and correlated as if nothing had happened."""
    guards = Guards(bench, "web-1", "web-2", "web-3")
    guards.attack(0, 1)
    bench.pass_time(10)
    bench.database.close()
    guards.set_manager_clock(seconds)
    bench.build()
    guards.attack(2)
    assert guards.blocked(2) == [ATTACKER] or organization_blocks(bench) == [ATTACKER]
    assert bench.rows("SELECT count(*), max(report_count) FROM incident WHERE kind = 'source_ip'") == [(1, 3)]
    assert bench.rows("SELECT action FROM audit_entry WHERE action = 'clock.step'") == [("clock.step",)]


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_an_open_incident_outlives_a_step_and_a_restart(bench: Bench, seconds: float) -> None:
    """The incident's times are stored as they are after the step: the next report joins it after a restart."""
    guards = Guards(bench, "web-1", "web-2", "web-3")
    guards.attack(0, 1)
    bench.pass_time(10)
    guards.set_manager_clock(seconds)
    bench.pass_time(10)
    bench.crash()
    guards.attack(2)
    assert bench.rows("SELECT count(*), max(report_count) FROM incident WHERE kind = 'source_ip'") == [(1, 3)]


def test_a_policy_is_published_again_after_the_clock_was_set_back(bench: Bench) -> None:
    """A guard that lost its policy gets it again though the policy was made in what is now the future."""
    guards = Guards(bench, "web-1")
    agent = guards.agents[0]
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70}}, "test"))
    bench.pass_time(30)
    guards.set_manager_clock(-86_400.0)
    bench.pass_time(5)
    bench.publisher.published.clear()
    heartbeat = agent.heartbeat(guards.time, policy_version=1, policy_digest="0" * 64)
    bench.receive(topics.HEARTBEAT, agent.agent_id, heartbeat)
    bench.pass_time(1)
    assert bench.publisher.take(topics.POLICY.address(agent.agent_id))


def organization_blocks(bench: Bench) -> list[str]:
    return [entry.value for entry in bench.fleet.responder.entries.list_of("organization", "default")]


def test_offsets_shifted_by_a_step_outlive_a_restart(bench: Bench) -> None:
    """A restart right after a step, before any heartbeat: reports are on time."""
    guards = Guards(bench, "web-1", "web-2")
    guards.set_manager_clock(4000.0)
    bench.pass_time(1)
    bench.crash()
    guards.attack(0, 1)
    assert guards.blocked(0) == [ATTACKER]


def test_another_boot_has_no_reference(bench: Bench) -> None:
    """After a boot the monotonic clock starts anew; that is no step."""
    Guards(bench, "web-1")
    bench.pass_time(10)
    bench.database.close()
    bench.settings = replace(SETTINGS, boot_id="boot-2")
    bench.began += 500.0
    bench.build()
    bench.pass_time(10)
    assert bench.rows("SELECT action FROM audit_entry WHERE action = 'clock.step'") == []
    assert bench.fleet.counters["clock_steps"] == 0


@pytest.mark.parametrize(
    "stored", ["", "boot-1", "boot-1 ", "boot-1 x", "boot-1 nan", "boot-1 inf", "boot-1 1e999", "x 5"]
)
def test_a_stored_reference_that_is_damaged_counts_for_nothing(bench: Bench, stored: str) -> None:
    """A start with it finds no step, and stores a right one."""
    bench.pass_time(1)
    with bench.database.atomic():
        bench.database.execute_sql("UPDATE meta SET value = ? WHERE key = 'clock_reference'", (stored,))
    bench.crash()
    bench.pass_time(1)
    assert bench.fleet.counters["clock_steps"] == 0
    assert bench.store.meta("clock_reference") == f"boot-1 {bench.wall - bench.now.monotonic!r}"


def test_a_step_is_logged_and_audited(bench: Bench) -> None:
    """People are told of a step, once, with both times; small corrections say nothing."""
    bench.pass_time(5)
    bench.began += 1.5
    bench.pass_time(5)
    before = bench.wall
    bench.began += 3600.0
    with structlog.testing.capture_logs() as logs:
        bench.pass_time(5)
    (line,) = [line for line in logs if line["event"] == "manager_clock_stepped"]
    assert line["seconds"] == pytest.approx(3601.5)
    ((actor, was, after),) = bench.rows("SELECT actor, before, after FROM audit_entry WHERE action = 'clock.step'")
    assert actor == "manager"
    assert json.loads(was)["at"] < json.loads(after)["at"]
    assert bench.wall > before


@pytest.mark.parametrize("restart", ["never", "during the step", "after the step"])
@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_the_rate_cap_gives_back_its_blocks_after_a_step(tmp_path: Path, seconds: float, restart: str) -> None:
    """The cap is full when the clock is set: 300 s of true time later it is empty again, and not before."""
    settings = replace(SETTINGS, responder=ResponderSettings(blocks=1, agent_share=1.0))
    bench = Bench(tmp_path, settings)
    guards = Guards(bench, "web-1", "web-2")
    guards.attack(0, 1, source="203.0.113.1")
    bench.pass_time(10)
    guards.set_manager_clock(seconds)
    if restart == "during the step":
        bench.crash()
    bench.pass_time(10)
    if restart == "after the step":
        bench.crash()
    guards.attack(0, 1, source="203.0.113.2")
    bench.pass_time(290)
    guards.heartbeats()
    guards.attack(0, 1, source="203.0.113.3")
    assert [state for state, _ in responses(bench)][-1] == "applied"
    sql = "SELECT value, state FROM incident JOIN incident_response ON id = incident_id WHERE kind = 'source_ip'"
    states = dict(bench.rows(sql))
    assert states == {"203.0.113.1": "applied", "203.0.113.2": "pending_approval", "203.0.113.3": "applied"}
    bench.database.close()


@pytest.mark.parametrize("restart", ["never", "during the step"])
@pytest.mark.parametrize("seconds", STEPS)
def test_an_undone_response_is_remembered_over_a_step(bench: Bench, seconds: float, restart: str) -> None:
    """For 900 s of true time after its incident closed and no longer, also where the step was while no manager ran."""
    guards = Guards(bench, "web-1", "web-2", "web-3")
    guards.attack(0, 1)
    ((incident_id,),) = bench.rows("SELECT id FROM incident WHERE kind = 'source_ip'")
    bench.ask(UndoIncident(incident_id, "admin"))
    bench.pass_time(650, step=10)
    assert bench.rows("SELECT count(*) FROM incident WHERE closed_at IS NULL AND kind = 'source_ip'") == [(0,)]
    guards.set_manager_clock(seconds)
    if restart == "during the step":
        bench.crash()
    bench.pass_time(5)
    remembered = bench.fleet.responder.responses
    known = remembered.get(incident_id)
    assert known is not None
    assert known.state == "undone"
    bench.pass_time(800, step=10)
    assert remembered.get(incident_id) is not None
    bench.pass_time(100, step=10)
    assert remembered.get(incident_id) is None


@pytest.mark.parametrize("seconds", [-86_400.0])
def test_a_grant_from_the_future_is_given_back_after_a_restart(tmp_path: Path, seconds: float) -> None:
    """The clock is set back by a day between two boots: the rate cap is free again after 300 s."""
    settings = replace(SETTINGS, responder=ResponderSettings(blocks=1, agent_share=1.0))
    bench = Bench(tmp_path, settings)
    guards = Guards(bench, "web-1", "web-2")
    guards.attack(0, 1, source="203.0.113.1")
    bench.database.close()
    bench.settings = replace(settings, boot_id="boot-2")
    guards.set_manager_clock(seconds)
    bench.build()
    guards.heartbeats()
    bench.pass_time(310)
    guards.heartbeats()
    guards.attack(0, 1, source="203.0.113.3")
    assert guards.blocked(0)[-1] == "203.0.113.3"
    bench.database.close()


def test_a_statement_on_policies_counts_after_the_clock_was_set_back(bench: Bench) -> None:
    """A guard applies a policy after the clock was set back by a day: it is believed at once."""
    guards = Guards(bench, "web-1", "web-2")
    agent: SimulatedAgent = guards.agents[0]
    policy = bench.ask(ReadPolicy(agent.agent_id))
    applied = {"version": policy.version, "digest": policy.digest, "state": "applied"}
    send(bench, agent, applied, guards.time)
    guards.set_manager_clock(-86_400.0)
    bench.pass_time(5)
    guards.attack(0, 1)
    policy = bench.ask(ReadPolicy(agent.agent_id))
    send(bench, agent, {**applied, "version": policy.version, "digest": policy.digest}, guards.time)
    assert bench.fleet.registry.agents[agent.agent_id].in_force.version == policy.version


def send(bench: Bench, agent: SimulatedAgent, applied: dict[str, Any], at: float) -> None:
    body = json.dumps({**applied, "sentAt": iso(at)}, separators=(",", ":")).encode()
    bench.receive(topics.POLICY_APPLIED, agent.agent_id, agent.coded(topics.POLICY_APPLIED, body))
