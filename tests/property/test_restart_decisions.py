"""Two managers with the same history, one of which is restarted at any moment: their decisions stay equal for ever.

Both run on a real store and a virtual clock. Compared are incidents with members and those who are actionable, requests
and refusals of responses, live entries, and what fleet events tell of refused indicators.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from manager.domain.agents.registry import Takeover
from manager.domain.policies.fleet_policies import GLOBAL
from manager.domain.response.manual_blocks import FLEET, ManualHolder
from manager.engine.commands.block_requests import AddBlocks, LiftAddress, NewBlock
from manager.engine.commands.requests import (
    ApproveIncident,
    ChangeAllowlist,
    FreezeResponses,
    RemoveBlock,
    UndoIncident,
)
from manager.engine.settings import EngineSettings
from manager.errors import ManagerError
from schemas import topics
from tests.property.test_engine_histories import HISTORIES
from tests.support.engine import START, Bench
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.long("tests/unit/manager/engine/response/test_restart_of_correlation.py")

AGENTS = 5
ADDRESSES = ["203.0.113.1", "203.0.113.2", "10.0.0.1"]
HASHES = [None, "a" * 64]
DELAYS = st.sampled_from([0.0, 0.0, 0.0, 10.0, 250.0, 300.0, 301.0, 450.0, 900.0, 2000.0])
SETTINGS = EngineSettings(takeover=Takeover.ALLOW, boot_id="one")


class Manager:
    """A manager, its agents by number, and its decisions with names instead of random ids."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.directory.name), SETTINGS)
        token = self.bench.token()
        self.agents = [self.bench.enroll(f"host-{number}", token) for number in range(AGENTS)]
        self.bench.pass_time(1)
        self.beat(self.agents)

    def beat(self, agents: list[SimulatedAgent]) -> None:
        for agent in agents:
            self.bench.put(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(self.agents_time))
        self.bench.engine.step(self.bench.now)

    @property
    def agents_time(self) -> float:
        """The agents' time, which does not follow steps of the manager's clock."""
        return START + self.bench.elapsed

    def close(self) -> None:
        self.bench.database.close()
        self.directory.cleanup()

    def incident(self, index: int) -> str:
        """Return the id of an incident, by the order of opening."""
        found = self.bench.rows("SELECT id FROM incident ORDER BY opened_at, kind, value, first_seen_at")
        return found[index % len(found)][0] if found else "inc-none"

    def entry(self, index: int) -> str:
        """Return the id of a live entry."""
        found = self.bench.rows(
            "SELECT id FROM emergency_entry LEFT JOIN agent ON agent_id = target "
            "ORDER BY created_at, kind, value, scope, hostname"
        )
        return found[index % len(found)][0] if found else "blk-none"

    def decisions(self) -> dict[str, list[Any]]:
        """Return everything that was decided so far, and the refusals told since the last call."""
        rows = self.bench.rows
        incident = "incident.kind, incident.value, first_seen_at, last_seen_at"
        told = self.bench.publisher.take(topics.FLEET.address("indicator_refused"))
        reasons = rows(
            f"SELECT {incident}, state, reason, at, granted_at, organization_wide FROM incident_response "
            "JOIN incident ON id = incident_id ORDER BY 1, 2, 3, 4"
        )
        names = self.names()
        return {
            "incidents": rows(
                f"SELECT {incident}, opened_at, closed_at, late, chronic, merged_into IS NULL, report_count, "
                "return_count, announced_members FROM incident ORDER BY 1, 2, 3, 4, 5"
            ),
            "members": rows(
                f"SELECT {incident}, hostname, actionable, vouched FROM incident_member "
                "JOIN incident ON id = incident_id JOIN agent USING (agent_id) ORDER BY 1, 2, 3, 4, 5"
            ),
            "responses": [tuple(names.get(part, _renamed(part, names)) for part in row) for row in reasons],
            "entries": rows(
                "SELECT kind, value, scope, coalesce(hostname, target), created_at, expires_at FROM emergency_entry "
                "LEFT JOIN agent ON agent_id = target ORDER BY 1, 2, 3, 4"
            ),
            "refused": [
                (event["hostname"], event["data"]["value"], event["data"]["reason"]) for event in map(json.loads, told)
            ],
        }

    def names(self) -> dict[str, str]:
        """Return names for incident ids."""
        rows = self.bench.rows("SELECT id, kind, value, first_seen_at FROM incident")
        return {row[0]: f"{row[1]} {row[2]} {row[3]}" for row in rows} | {
            agent.agent_id: agent.hostname for agent in self.agents
        }


def _renamed(text: Any, names: dict[str, str]) -> Any:
    if isinstance(text, str):
        text = text.partition(": the ")[0]  # the clocks that are off are named from memory
        for known, name in names.items():
            text = text.replace(known, name)
    return text


class RestartedManager(RuleBasedStateMachine):
    """Everything is done to both managers; restarts to one."""

    @initialize()
    def start(self) -> None:
        structlog.configure(processors=[_drop])
        self.steady, self.restarted = Manager(), Manager()
        self.reports = 0

    def teardown(self) -> None:
        if hasattr(self, "steady"):
            try:
                self.pass_time(1.0)
                assert self.restarted.bench.failures() == {}
            finally:
                self.steady.close()
                self.restarted.close()
                structlog.reset_defaults()

    @rule(
        numbers=st.lists(st.integers(0, AGENTS - 1), min_size=1, max_size=3),
        address=st.sampled_from(ADDRESSES),
        file_hash=st.sampled_from(HASHES),
        delay=DELAYS,
        login=st.sampled_from([False] * 9 + [True]),
        vouches=st.booleans(),
    )
    def report(
        self, *, numbers: list[int], address: str, file_hash: str | None, delay: float, login: bool, vouches: bool
    ) -> None:
        for number in numbers:
            self.reports += 1
            for manager in self._both():
                evidence: dict[str, Any] = {"sourceIp": address} | ({"fileHash": file_hash} if file_hash else {})
                if login:
                    evidence |= {"lastLogin": "2027-01-15T07:00:00Z", "filePath": "/bin/x"}
                agent, at = manager.agents[number], manager.agents_time - delay
                agent.vouches = vouches
                payload = agent.threat(at, f"r-{self.reports}", **evidence)
                manager.bench.receive(topics.THREATS, agent.agent_id, payload)
        self.compare()

    @rule(address=st.sampled_from(["203.0.113.1", "203.0.113.0/24", "a" * 64]), listed=st.booleans())
    def change_allowlist(self, address: str, *, listed: bool) -> None:
        self._ask(lambda _: ChangeAllowlist(GLOBAL, None, address, listed=listed, author="test"))

    @rule(index=st.integers(0, 9))
    def undo(self, index: int) -> None:
        self._ask(lambda manager: UndoIncident(manager.incident(index), "test"))

    @rule(index=st.integers(0, 9))
    def approve(self, index: int) -> None:
        self._ask(lambda manager: ApproveIncident(manager.incident(index), "test"))

    @rule(index=st.integers(0, 9))
    def remove_block(self, index: int) -> None:
        self._ask(lambda manager: RemoveBlock(manager.entry(index), "test"))

    @rule(
        value=st.sampled_from(["203.0.113.1", "203.0.113.0/29", "10.0.0.1"]),
        seconds=st.sampled_from([60.0, 3600.0]),
        organization=st.booleans(),
    )
    def add_block(self, value: str, seconds: float, *, organization: bool) -> None:
        holder = ManualHolder("organization", "default") if organization else FLEET
        self._ask(lambda _: AddBlocks(holder, (NewBlock(value, seconds, "r"),), "test"))

    @rule(value=st.sampled_from(["203.0.113.1", "203.0.113.0/29"]))
    def lift(self, value: str) -> None:
        self._ask(lambda _: LiftAddress(value, "test"))

    @rule(frozen=st.booleans())
    def freeze(self, *, frozen: bool) -> None:
        self._ask(lambda _: FreezeResponses(frozen=frozen, author="test"))

    @rule(seconds=st.sampled_from([1.0, 10.0, 299.0, 300.0, 301.0, 600.0, 601.0, 1000.0, 3700.0]))
    def pass_time(self, seconds: float) -> None:
        for manager in self._both():
            manager.bench.pass_time(seconds, step=max(1.0, seconds / 4))
            manager.beat(manager.agents)
        self.compare()

    @rule(seconds=st.sampled_from([-4000.0, -700.0, -350.0, 350.0, 700.0, 4000.0]))
    def step_clock(self, seconds: float) -> None:
        for manager in self._both():
            manager.bench.began += seconds
            manager.bench.engine.step(manager.bench.now)
        self.compare()

    @rule()
    def restart(self) -> None:
        self.restarted.bench.crash()

    def compare(self) -> None:
        """Compare all decisions after the next second: incidents are closed once a second, from the start on."""
        for manager in self._both():
            manager.bench.pass_time(1.0)
        steady, restarted = (manager.decisions() for manager in self._both())
        for kind, decided in steady.items():
            assert decided == restarted[kind], kind

    def _both(self) -> tuple[Manager, Manager]:
        return self.steady, self.restarted

    def _ask(self, request: Any) -> None:
        answers = []
        for manager in self._both():
            given = manager.bench.submit(request(manager))
            manager.bench.engine.step(manager.bench.now)
            ((_, error),) = given
            assert error is None or isinstance(error, ManagerError), error
            answers.append(type(error))
        assert answers[0] is answers[1]
        self.compare()


def _drop(_logger: Any, _method: str, _event: dict[str, Any]) -> Any:
    raise structlog.DropEvent


@pytest.mark.timeout(max(1200, 10 * HISTORIES))
def test_a_restart_changes_no_decision(each_system: str) -> None:
    """Both managers decide alike for ever; PostgreSQL has fewer histories."""
    histories = max(1, HISTORIES // (2 if each_system == "sqlite" else 10))
    run_state_machine_as_test(
        RestartedManager, settings=settings(max_examples=histories, stateful_step_count=20, deadline=None)
    )
