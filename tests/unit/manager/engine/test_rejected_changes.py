"""Commands whose change the store rejects: they are taken back in memory, on the hosts and in the audit log."""

from collections.abc import Callable
from typing import Any

import pytest

from manager.domain.access import Role
from manager.domain.networks import network_of
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.domain.response import OrganizationResponse
from manager.domain.response.manual_blocks import FLEET, ManualHolder
from manager.domain.response.organization_step import ORGANIZATION_RESPONSE
from manager.engine.batch import Changes
from manager.engine.commands.access_requests import CreateAccess, RevokeAccess, RotateAccess
from manager.engine.commands.block_requests import AddBlocks, LiftAddress, NewBlock
from manager.engine.commands.requests import (
    ApproveIncident,
    ChangeAgent,
    FreezeResponses,
    RemoveAgent,
    RemoveBlock,
    RevokeToken,
    RotateToken,
    SetOrganizationResponse,
    SetPolicy,
    UndoIncident,
)
from manager.errors import StoreRejected
from schemas import topics
from tests.support.attacks import attack, trusted
from tests.support.blocks import add, blocked, changes
from tests.support.engine import Bench
from tests.support.memory import memory_of
from tests.support.operators import digest_of

ADDRESS = "198.51.100.9"
FAR = "198.51.100.77"


@pytest.fixture
def refused(bench: Bench) -> Callable[[Any, Callable[[Changes], bool]], None]:
    """Return a function that asks for a change in one batch with another one, while the store rejects the first."""

    def ask(request: Any, culprit: Callable[[Changes], bool]) -> None:
        commit = bench.store.commit

        def rejecting(changes: Changes) -> None:
            if culprit(changes):
                raise StoreRejected("it does not fit")
            commit(changes)

        bench.store.commit = rejecting  # type: ignore[method-assign]
        beside = bench.submit(AddBlocks(FLEET, (NewBlock(FAR, 3600.0, "seen"),), "bob"))
        answers = bench.submit(request)
        bench.engine.step(bench.now)
        ((_, error),) = answers
        assert isinstance(error, StoreRejected)
        assert beside[0][1] is None
        del bench.store.commit

    return ask


Refused = Callable[[Any, Callable[[Changes], bool]], None]


def audited(bench: Bench, action: str) -> list[tuple[Any, ...]]:
    return bench.rows(f"SELECT actor FROM audit_entry WHERE action LIKE '{action}' ORDER BY id")


def has_block(*values: str) -> Callable[[Changes], bool]:
    return lambda changes: any(block.value in values for block in changes.manual_added)


def test_manual_blocks_that_the_store_rejects_are_in_force_nowhere(bench: Bench, refused: Refused) -> None:
    """None of the command's is, the change that has them is not published, and guards have the rest by the snapshot."""
    bench.enroll("a")
    changes(bench)
    wanted = (NewBlock(ADDRESS, 3600.0, "seen"), NewBlock("198.51.100.10", 3600.0, "seen"))
    refused(AddBlocks(FLEET, wanted, "alice"), has_block("198.51.100.10"))
    assert blocked(bench) == [FAR]
    assert not [each for change in changes(bench) for each in change["added"] if each["value"] != FAR]
    assert bench.rows("SELECT value FROM emergency_entry") == [(FAR,)]
    kept = bench.rows("SELECT id FROM emergency_entry")
    assert bench.rows("SELECT target FROM audit_entry WHERE action LIKE 'block.%'") == kept
    assert len(bench.publisher.take(topics.FLEET.address("blocks_added"))) == 1
    assert len(bench.rows("SELECT 1 FROM event WHERE name = 'blocks_added'")) == 1
    sequence = bench.fleet.blocklists.sequences["default"]
    bench.crash()
    assert (blocked(bench), bench.fleet.blocklists.sequences["default"]) == ([FAR], sequence)
    assert bench.ask(AddBlocks(FLEET, wanted, "alice")).blocks


@pytest.mark.parametrize("scope", ["fleet", "agent"])
def test_a_block_that_another_one_did_not_replace_holds_on(bench: Bench, refused: Refused, scope: str) -> None:
    """With its own end, in memory, in the store and on the hosts."""
    agent = bench.enroll("a")
    holder = FLEET if scope == "fleet" else ManualHolder("agent", agent.agent_id)
    (block,) = add(bench, ADDRESS, holder=holder, seconds=600).blocks
    refused(AddBlocks(holder, (NewBlock(ADDRESS, 60.0, "shorter"),), "alice"), has_block(ADDRESS))
    for _ in range(2):
        (live,) = bench.fleet.responder.entries.manual.list_about(ADDRESS)
        assert (live.id, live.expires_at) == (block.id, block.expires_at)
        policy = bench.fleet.policies.effective[agent.agent_id].resolved.sections["blocklist"]["ips"]
        held = policy if scope == "agent" else blocked(bench)
        assert len(held) == (1 if scope == "agent" else 2)
        assert (block.id,) in bench.rows("SELECT id FROM emergency_entry")
        bench.crash()
    bench.pass_time(601)
    assert bench.rows("SELECT value FROM emergency_entry") == [(FAR,)]


def test_a_lift_goes_on_where_the_block_that_ended_it_is_rejected(bench: Bench, refused: Refused) -> None:
    """The never list has the address, so that fences end their guards' own blocks."""
    bench.enroll("a")
    bench.ask(LiftAddress(ADDRESS, "ann"))
    refused(AddBlocks(FLEET, (NewBlock(ADDRESS, 60.0, "seen"),), "alice"), has_block(ADDRESS))
    for _ in range(2):
        assert ADDRESS in bench.fleet.blocklists.never["default"]
        network = network_of(ADDRESS)
        assert network is not None
        assert bench.fleet.responder.never_block.lifted.holds("default", network, bench.wall)
        bench.crash()


@pytest.mark.parametrize("change", ["rotate", "revoke"])
def test_an_access_token_whose_change_the_store_rejects_is_as_before(
    bench: Bench, refused: Refused, change: str
) -> None:
    """Its text is accepted, and no other; nothing of it is in the audit log."""
    made = bench.ask(CreateAccess("test", "ann", Role.RESPONDER, expires_at=bench.wall + 1000))
    request = RotateAccess("eve", "ann") if change == "rotate" else RevokeAccess("eve", "ann")
    bench.pass_time(10)
    refused(request, lambda changes: "ann" in changes.access)
    for _ in range(2):
        token = bench.fleet.access.find(digest_of(made))
        assert token is not None
        assert token is bench.fleet.access.get("ann")
        assert (token.is_live(bench.wall), token.rotated_at, token.expires_at) == (
            True, token.created_at, token.created_at + 1000,
        )  # fmt: skip
        bench.crash()
    assert ("eve",) not in audited(bench, "access.%")
    rotated = bench.ask(RotateAccess("test", "ann"))
    assert bench.fleet.access.find(digest_of(made)) is None
    assert bench.fleet.access.find(digest_of(rotated)) is not None


def test_an_access_token_that_the_store_rejects_leaves_the_revoked_one_of_its_name(
    bench: Bench, refused: Refused
) -> None:
    """A created one is gone, as if nobody had asked."""
    made = bench.ask(CreateAccess("test", "ann", Role.VIEWER))
    bench.ask(RevokeAccess("test", "ann"))
    refused(CreateAccess("eve", "ann", Role.ADMIN), lambda changes: "ann" in changes.access)
    token = bench.fleet.access.get("ann")
    assert token is not None
    assert (token.role, token.revoked_at is None) == (Role.VIEWER, False)
    assert bench.fleet.access.find(digest_of(made)) is token
    refused(CreateAccess("eve", "new", Role.ADMIN), lambda changes: "new" in changes.access)
    assert bench.fleet.access.get("new") is None


@pytest.mark.parametrize("change", ["rotate", "revoke"])
def test_an_enrollment_token_whose_change_the_store_rejects_is_as_before(
    bench: Bench, refused: Refused, change: str
) -> None:
    """Hosts enroll with its text."""
    token = bench.token()
    request = RotateToken(token.token_id, "eve") if change == "rotate" else RevokeToken(token.token_id, "eve")
    refused(request, lambda changes: token.token_id in changes.tokens)
    assert bench.enroll("a", token).agent_id
    bench.crash()
    assert bench.enroll("b", token).agent_id


def test_a_document_that_the_store_rejects_is_not_in_force(bench: Bench, refused: Refused) -> None:
    """Nor on the hosts, and its group is not there; what was in force is again, over a restart too."""
    agent = bench.enroll("a")
    bench.ask(ChangeAgent(agent.agent_id, "test", tags=("web",)))
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 71.0}}, "test"))
    for scope, document in (
        (GLOBAL, {"thresholds": {"autoRespond": 72.0}}),
        (GLOBAL, None),
        (Scope("group", "web"), {"selector": {"tagsAll": ["web"]}, "priority": 1,
                                 "policy": {"thresholds": {"autoRespond": 73.0}}}),
    ):  # fmt: skip
        refused(SetPolicy(scope, document, "eve"), lambda changes: bool(changes.revisions))
        bench.publisher.take(topics.POLICY.address(agent.agent_id))
    for _ in range(2):
        policy = bench.fleet.policies.effective[agent.agent_id]
        assert policy.resolved.sections["thresholds"]["autoRespond"] == 71.0
        assert bench.fleet.policies.groups.find("web") is None
        bench.pass_time(6)
        bench.crash()
    assert bench.fleet.policies.effective[agent.agent_id].version == policy.version
    assert ("eve",) not in audited(bench, "policy.%")


def test_an_agent_whose_move_the_store_rejects_is_where_it_was(bench: Bench, refused: Refused) -> None:
    """With its tags, its policy and its blocks; later it may move, and be found by its hostname."""
    agent = bench.enroll("a")
    add(bench, ADDRESS, holder=ManualHolder("agent", agent.agent_id))
    request = ChangeAgent(agent.agent_id, "eve", tags=("web",), site="berlin", organization_id="acme")
    refused(request, lambda changes: agent.agent_id in changes.agents)
    for _ in range(2):
        record = bench.fleet.registry.agents[agent.agent_id]
        assert (record.organization_id, record.host.tags, record.host.site) == ("default", (), None)
        assert (record.operator_set, record.registered_in) == (frozenset(), None)
        assert bench.fleet.registry.find_by_hostname("default", "a") is record
        assert bench.fleet.registry.find_by_hostname("acme", "a") is None
        assert bench.fleet.policies.effective[agent.agent_id].placement.organization_id == "default"
        query = f"SELECT organization_id FROM emergency_entry WHERE value = '{ADDRESS}'"
        assert bench.rows(query) == [("default",)]
        bench.crash()
    bench.ask(request)
    assert bench.fleet.registry.agents[agent.agent_id].organization_id == "acme"


class Attacked:
    """A fleet with an incident that responds, one that waits for approval, and blocks and a document by hand."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.agents = trusted(bench, "a", "b", "c", "d", "e")
        attack(bench, *self.agents[:2])
        attack(bench, self.agents[0], sourceIp="203.0.113.1")
        attack(bench, self.agents[1], sourceIp="203.0.113.1")
        for number in range(2, 13):  # more than one token may have answered at once
            attack(bench, *self.agents[2:4], sourceIp=f"203.0.113.{number}")
        self.agent_id = self.agents[0].agent_id
        (self.block,) = add(bench, "198.51.100.200").blocks
        add(bench, "198.51.100.201", holder=ManualHolder("agent", self.agent_id))
        bench.ask(SetPolicy(Scope("agent", self.agent_id), {"thresholds": {"autoRespond": 66.0}}, "test"))
        bench.pass_time(8)
        rows = bench.rows("SELECT id FROM incident WHERE value = '203.0.113.66'")
        ((self.incident_id,),) = rows
        self.waiting_id = next(iter(bench.fleet.waiting_approvals))
        self.entry_id = next(each.id for each in bench.fleet.responder.entries if each.incident_id == self.incident_id)

    def requests(self) -> dict[str, tuple[Any, Callable[[Changes], bool]]]:
        """Return commands, each with the change of it that the store is to reject."""
        return {
            "remove block": (RemoveBlock(self.block.id, "eve"), lambda each: bool(each.manual_removed)),
            "remove entry": (RemoveBlock(self.entry_id, "eve"), lambda each: bool(each.entries_removed)),
            "undo": (UndoIncident(self.incident_id, "eve"), lambda each: bool(each.responses)),
            "approve": (ApproveIncident(self.waiting_id, "eve"), lambda each: bool(each.responses)),
            "lift a block": (LiftAddress("198.51.100.200", "eve"), lambda each: bool(each.manual_removed)),
            "lift entries": (LiftAddress("203.0.113.66", "eve"), lambda each: bool(each.entries_removed)),
            "freeze": (FreezeResponses(frozen=True, author="eve"), lambda each: "responses_frozen" in each.meta),
            "count": (
                SetOrganizationResponse(OrganizationResponse.ANY, "eve"),
                lambda each: ORGANIZATION_RESPONSE in each.meta,
            ),
            "remove agent": (RemoveAgent(self.agent_id, "eve"), lambda each: bool(each.removed)),
        }


def _recorded(bench: Bench) -> dict[str, list[Any]]:
    """Return the actions in the audit log, and the lines of history and lifts."""
    queries = {
        "audit_entry": "SELECT action FROM audit_entry ORDER BY id",
        "agent_history": "SELECT event FROM agent_history WHERE event != 'policy_applied' ORDER BY rowid",
        "block_lift": "SELECT count(*) FROM block_lift",
    }
    return {table: list(bench.rows(sql)) for table, sql in queries.items()}


COMMANDS = (
    "approve", "count", "freeze", "lift a block", "lift entries", "remove agent", "remove block",
    "remove entry", "undo",
)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_the_store_rejects_ends_nothing(bench: Bench, refused: Refused, name: str) -> None:
    """Memory is as before, beside the block of the same batch; so it is after a restart; later the command works."""
    fleet = Attacked(bench)
    request, culprit = fleet.requests()[name]
    before, recorded = memory_of(bench), _recorded(bench)
    refused(request, culprit)
    assert _recorded(bench) == {**recorded, "audit_entry": [*recorded["audit_entry"], ("block.add",)]}
    far = next(each for each in bench.fleet.responder.entries.manual if each.value == FAR)
    before["manual"] = sorted([*before["manual"], (far.id, FAR, far.expires_at)])
    before["blocklist"] = sorted([*before["blocklist"], FAR])
    assert memory_of(bench) == before
    assert ("eve",) not in audited(bench, "%")
    assert bench.rows("SELECT 1 FROM agent_history WHERE event IN ('agent_removed', 'responses_frozen')") == []
    assert bench.rows("SELECT 1 FROM event WHERE name IN ('agent_removed', 'responses_frozen')") == []
    assert bench.fleet.counters["failures_isolated"] == 0
    bench.crash()
    assert memory_of(bench) == before
    bench.ask(request)
    assert memory_of(bench) != before
    ended = memory_of(bench)
    bench.crash()
    assert memory_of(bench) == ended
