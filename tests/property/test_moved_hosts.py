"""Hosts and policy groups that change their organization: each block is of the organization of the hosts that have it.

The engine runs on a real store, which also fails between a decision and its commit, and is opened again after a crash.
"""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manager.domain.policies.fleet_policies import Scope
from manager.domain.response.manual_blocks import ManualHolder
from manager.engine.batch import Changes
from manager.engine.commands.block_requests import AddBlocks, LiftAddress, NewBlock
from manager.engine.commands.requests import ChangeAgent, ChangeAllowlist, SetPolicy
from manager.errors import ManagerError, StoreUnavailable
from tests.support.attacks import attack, trusted
from tests.support.engine import Bench
from tests.support.examples import examples
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.long("tests/unit/manager/engine/response/test_ownership.py")

ORGANIZATIONS = ("acme", "other")
ATTACKERS = [f"203.0.113.{number}" for number in range(1, 5)]
VALUES = ["198.51.100.1", "198.51.100.2", *ATTACKERS[:2]]

organizations = st.sampled_from(ORGANIZATIONS)
agents = st.integers(0, 2)


class MovedHosts(RuleBasedStateMachine):
    """Every rule is a command or a report; the invariants look at each block in the store and on the hosts."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.directory.name))
        self.agents = trusted(self.bench, "a", "b", "c", organization_id="acme")
        self.unused = list(ATTACKERS)

    @rule(index=agents, organization=organizations, fails=st.sampled_from([False, False, True]))
    def move(self, index: int, organization: str, *, fails: bool) -> None:
        self._ask(ChangeAgent(self.agents[index].agent_id, "alice", organization_id=organization), fails=fails)

    @rule(index=agents, tags=st.sampled_from([(), ("web",)]))
    def tag(self, index: int, tags: tuple[str, ...]) -> None:
        self._ask(ChangeAgent(self.agents[index].agent_id, "alice", tags=tags))

    @rule(organization=st.sampled_from([None, *ORGANIZATIONS]), fails=st.sampled_from([False, False, True]))
    def set_group(self, organization: str | None, *, fails: bool) -> None:
        document = {"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": {}}
        document |= {} if organization is None else {"organization": organization}
        self._ask(SetPolicy(Scope("group", "web"), document, "alice"), fails=fails)

    @rule()
    def remove_group(self) -> None:
        self._ask(SetPolicy(Scope("group", "web"), None, "alice"))

    @rule(index=st.one_of(agents, st.none()), value=st.sampled_from(VALUES))
    def add(self, index: int | None, value: str) -> None:
        holder = ManualHolder("group", "web") if index is None else ManualHolder("agent", self.agents[index].agent_id)
        self._ask(AddBlocks(holder, (NewBlock(value, 3600.0, "seen"),), "alice"))

    @precondition(lambda self: self.unused)
    @rule(first=agents, second=agents)
    def attacked(self, first: int, second: int) -> None:
        """Two agents of one organization block the address by themselves."""
        attack(self.bench, self.agents[first], self.agents[second], sourceIp=self.unused.pop())

    @rule(value=st.sampled_from(VALUES), organization=organizations)
    def lift(self, value: str, organization: str) -> None:
        """A lift that says so leaves no block of the address on a host of the organization."""
        if self._ask(LiftAddress(value, "alice", organization)) is not None:
            hosts = [agent for agent in self.agents if self._organization(agent) == organization]
            assert all(value not in self._blocked(agent) for agent in hosts)

    @rule(value=st.sampled_from(VALUES), organization=organizations, listed=st.booleans())
    def allow(self, value: str, organization: str, *, listed: bool) -> None:
        self._ask(ChangeAllowlist(Scope("organization", organization), None, value, listed=listed, author="alice"))

    @rule()
    def crash(self) -> None:
        self.bench.crash()
        self.bench.pass_time(1)

    @invariant()
    def each_block_is_of_the_organization_of_its_hosts(self) -> None:
        for scope, target, organization_id in self.bench.rows(
            "SELECT scope, target, organization_id FROM emergency_entry WHERE scope IN ('agent', 'group')"
        ):
            if scope == "agent":
                assert organization_id == self.bench.fleet.registry.agents[target].organization_id
            else:
                group = self.bench.fleet.policies.groups.find(target)
                assert group is not None
                assert organization_id == (group.organization_id or "")

    @invariant()
    def the_store_has_what_is_in_memory(self) -> None:
        entries = self.bench.fleet.responder.entries
        live = {(each.id, each.organization_id) for each in entries.manual}
        live |= {(each.id, each.subject.organization_id) for each in entries}
        assert set(self.bench.rows("SELECT id, organization_id FROM emergency_entry")) == live

    @invariant()
    def hosts_have_the_blocks_of_their_own_organization(self) -> None:
        """Nothing is in a host's policy that no token of its organization could find in the list of blocks."""
        for agent in self.agents:
            own = self._organization(agent)
            listed = self.bench.rows(f"SELECT value FROM emergency_entry WHERE organization_id IN ('{own}', '')")
            assert set(self._blocked(agent)) <= {value for (value,) in listed}
        assert self.bench.failures() == {}

    def teardown(self) -> None:
        self.bench.database.close()
        self.directory.cleanup()

    def _organization(self, agent: SimulatedAgent) -> str:
        return self.bench.fleet.registry.agents[agent.agent_id].organization_id

    def _blocked(self, agent: SimulatedAgent) -> list[str]:
        """Return the addresses that an agent blocks by its own policy."""
        sections = self.bench.fleet.policies.effective[agent.agent_id].resolved.sections
        return [entry["value"] for entry in sections["blocklist"]["ips"]]

    def _ask(self, request: Any, *, fails: bool = False) -> Any:
        """Return the answer to a command, None if it is refused, or `fails`: a crash before the commit."""
        if not fails:
            with suppress(ManagerError):
                return self.bench.ask(request)
            return None

        def failing(_changes: Changes) -> None:
            raise StoreUnavailable("the disk is full")

        self.bench.store.commit = failing  # type: ignore[method-assign]
        self.bench.submit(request)
        self.bench.engine.step(self.bench.now)
        self.crash()
        return None


MovedHosts.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
TestMovedHosts = pytest.mark.timeout(900)(MovedHosts.TestCase)
