"""Blocks by hand and by incident that overlap, end and are lifted, against a plain list of them.

The engine runs on a real store; a guard's copy of the blocklist is made of the published changes alone.
"""

import json
import tempfile
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manager.domain.response.manual_blocks import ManualHolder
from manager.engine.commands.block_requests import AddBlocks, LiftAddress, NewBlock
from manager.engine.commands.requests import RemoveBlock
from manager.errors import Conflict
from schemas import topics
from tests.support.attacks import attack, trusted
from tests.support.engine import Bench
from tests.support.examples import examples

pytestmark = pytest.mark.long("tests/unit/manager/engine/commands/test_blocks.py")

ATTACKERS = [f"203.0.113.{number}" for number in range(1, 4)]
VALUES = [*ATTACKERS, "203.0.113.0/31", "203.0.113.2/31", "203.0.113.0/29"]
ORGANIZATIONS = ("acme", "other")
INCIDENT = 4 * 3600


@dataclass(frozen=True)
class Known:
    """One block that must be in force: for the fleet, an organization or an agent."""

    scope: str
    target: str
    value: str
    ends: float
    by_hand: bool


class OverlappingBlocks(RuleBasedStateMachine):
    """Every rule changes the engine and the list; the invariant compares them."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.directory.name))
        self.agents = trusted(self.bench, "a", "b", "c", organization_id="acme")
        self.agents += trusted(self.bench, "d", organization_id="other")
        self.known: list[Known] = []
        self.lifted: dict[tuple[str, str], float] = {}
        self.unused = list(ATTACKERS)
        self.copies: dict[str, dict[str, float]] = {name: {} for name in ORGANIZATIONS}
        self.sequences = {name: self.bench.fleet.blocklists.sequences.get(name, 0) for name in ORGANIZATIONS}
        self.bench.publisher.published.clear()

    @rule(
        holder=st.sampled_from([("fleet", ""), ("organization", "acme"), ("organization", "other"), ("agent", 0)]),
        value=st.sampled_from(VALUES),
        seconds=st.sampled_from([1, 60, 3600, INCIDENT, 8 * 3600]),
    )
    def add(self, holder: tuple[Any, Any], value: str, seconds: int) -> None:
        """The newest word for the same hosts and value counts; it ends lifts in the organizations of these hosts."""
        scope, target = holder
        target = self.agents[target].agent_id if scope == "agent" else target
        block = NewBlock(value, float(seconds), "seen")
        self.bench.ask(AddBlocks(ManualHolder(scope, target), (block,), "alice"))
        new = Known(scope, target, value, self.bench.wall + seconds, by_hand=True)
        same = (new.scope, new.target, new.value)
        self.known = [each for each in self.known if not each.by_hand or (each.scope, each.target, each.value) != same]
        self.known.append(new)
        blocking = {"fleet": ORGANIZATIONS, "organization": (target,), "agent": ("acme",)}[scope]
        for organization, text in [*self.lifted]:
            if organization in blocking and overlap(text, value):
                del self.lifted[organization, text]

    @precondition(lambda self: self.unused)
    @rule(agents=st.integers(2, 3), index=st.integers(0, 2))
    def attacked(self, agents: int, index: int) -> None:
        """Two agents block by themselves, three the organization; not while somebody has lifted the address."""
        address = self.unused.pop(index % len(self.unused))
        attack(self.bench, *self.agents[:agents], sourceIp=address)
        lifted = [
            text
            for (organization, text), until in self.lifted.items()
            if until > self.bench.wall and organization == "acme"
        ]
        if any(overlap(text, address) for text in lifted):
            return
        ends = self.bench.wall + INCIDENT
        for agent in self.agents[:2]:
            self.known.append(Known("agent", agent.agent_id, address, ends, by_hand=False))
        if agents > 2:
            self.known.append(Known("organization", "acme", address, ends, by_hand=False))

    @precondition(lambda self: self.unused)
    @rule(
        scope=st.sampled_from([("fleet", ""), ("organization", "acme")]),
        seconds=st.sampled_from([60, INCIDENT - 1, 8 * 3600]),
    )
    def attacked_and_added(self, scope: tuple[Any, Any], seconds: int) -> None:
        """The organization blocks by an incident what a person blocks for another duration."""
        address = self.unused[0]
        self.attacked(3, 0)
        self.add(scope, address, seconds)

    @precondition(lambda self: self.known)
    @rule(index=st.integers(0, 30))
    def remove(self, index: int) -> None:
        """One block by its id; the others of its address stay."""
        gone = self.known.pop(index % len(self.known))
        ((block_id,),) = self.bench.rows(
            "SELECT id FROM emergency_entry WHERE kind = 'ip'"
            f" AND scope = '{gone.scope}' AND target = '{gone.target}' AND value = '{gone.value}'"
            f" AND added_by IS {'NOT ' if gone.by_hand else ''}NULL"
        )
        self.bench.ask(RemoveBlock(block_id, "alice"))

    @rule(value=st.sampled_from(VALUES))
    def lift(self, value: str) -> None:
        """Everything within it, unless a wider block would go on."""
        network = ip_network(value)
        wider = [each for each in self.known if ip_network(each.value).prefixlen < network.prefixlen]
        if any(overlap(each.value, value) for each in wider):
            with pytest.raises(Conflict):
                self.bench.ask(LiftAddress(value, "alice"))
            return
        self.bench.ask(LiftAddress(value, "alice"))
        self.known = [each for each in self.known if not overlap(each.value, value)]
        self.lifted |= {(organization, value): self.bench.wall + 300 for organization in ORGANIZATIONS}

    @rule(seconds=st.sampled_from([1, 59, 240, 3600, INCIDENT - 1]))
    def wait(self, seconds: int) -> None:
        """What has ended is gone within the second."""
        self.bench.elapsed += seconds
        self.bench.engine.step(self.bench.now)
        self.bench.pass_time(1)
        self.known = [each for each in self.known if each.ends > self.bench.wall]
        self.lifted = {lift: until for lift, until in self.lifted.items() if until > self.bench.wall}

    @rule()
    def restart(self) -> None:
        """Blocks and lifts survive it."""
        self.bench.crash()

    @invariant()
    def the_same_is_in_force(self) -> None:
        """In the store, in each organization's blocklist, in a guard's copy of it, and in the agents' own policies."""
        bench = self.bench
        stored = bench.rows("SELECT scope, target, value, expires_at, added_by FROM emergency_entry WHERE kind = 'ip'")
        assert sorted((*row[:3], round(row[3]), row[4] is not None) for row in stored) == sorted(
            (each.scope, each.target, each.value, round(each.ends), each.by_hand) for each in self.known
        )
        for organization_id in ORGANIZATIONS:
            wanted = self._ends(("fleet", ""), ("organization", organization_id))
            snapshot = bench.fleet.blocklists.snapshot(organization_id)
            found = {each.value: each.expires_at.timestamp() for each in snapshot.entries if each.expires_at}
            assert found == pytest.approx(wanted, rel=0, abs=1.5)
            self._take(organization_id)
            assert self.copies[organization_id] == pytest.approx(wanted, rel=0, abs=1.5)
        for agent in self.agents:
            sections = bench.fleet.policies.effective[agent.agent_id].resolved.sections
            listed = [entry["value"] for entry in sections["blocklist"]["ips"]]
            assert sorted(listed) == sorted(self._ends(("agent", agent.agent_id)))

    def _ends(self, *holders: tuple[str, str]) -> dict[str, float]:
        """Return the later end of each value among the blocks of some holders."""
        ends: dict[str, float] = {}
        for each in self.known:
            if (each.scope, each.target) in holders:
                ends[each.value] = max(each.ends, ends.get(each.value, 0.0))
        return ends

    def _take(self, organization_id: str) -> None:
        """Apply the published changes as a guard does, each on the sequence that it follows."""
        copy = self.copies[organization_id]
        for payload in self.bench.publisher.take(topics.BLOCKLIST_CHANGES.address(organization_id)):
            change = json.loads(payload)
            assert change["fromSequence"] == self.sequences[organization_id]
            self.sequences[organization_id] = change["sequence"]
            for gone in change.get("removed", ()):
                copy.pop(gone["value"], None)
            for new in change.get("added", ()):
                copy[new["value"]] = self.bench.wall + new["secondsLeft"]

    def teardown(self) -> None:
        """Close the store."""
        if hasattr(self, "bench"):
            self.bench.database.close()
            self.directory.cleanup()


def overlap(one: str, other: str) -> bool:
    """Return whether two networks share an address."""
    return ip_network(one).overlaps(ip_network(other))


OverlappingBlocks.TestCase.settings = settings(max_examples=examples(25), stateful_step_count=25, deadline=None)
TestOverlappingBlocks = pytest.mark.timeout(600)(OverlappingBlocks.TestCase)
