"""Rejected commands: whatever the store rejects, memory is as the store has it."""

import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manager.domain.policies.fleet_policies import Scope
from manager.domain.response import EmergencyEntry, OrganizationResponse
from manager.domain.response.manual_blocks import FLEET, ManualHolder
from manager.domain.response.organization_step import ORGANIZATION_RESPONSE
from manager.engine.batch import Changes
from manager.engine.commands.block_requests import AddBlocks, LiftAddress, NewBlock
from manager.engine.commands.requests import (
    ApproveIncident,
    FreezeResponses,
    RemoveAgent,
    RemoveBlock,
    SetOrganizationResponse,
    SetPolicy,
    UndoIncident,
)
from manager.engine.fleet import FROZEN
from manager.errors import StoreRejected
from tests.support.attacks import attack, trusted
from tests.support.engine import Bench
from tests.support.examples import examples
from tests.support.memory import memory_of

pytestmark = pytest.mark.usefixtures("each_system")

ADDRESSES = ("203.0.113.66", "198.51.100.200", "198.51.100.201", "203.0.113.1")
MEMBERS = ("removed", "responses", "entries_removed", "manual_added", "manual_removed", "revisions", "meta")
"""The kinds of changes that a command is about."""

STATES = {FROZEN, ORGANIZATION_RESPONSE}

commands = st.sampled_from(
    ["remove block", "remove entry", "undo", "approve", "lift", "freeze", "thaw", "count", "remove agent", "add", "set"]
)


def _request(bench: Bench, command: str, index: int) -> Any:
    """Return a command about something that there is, or about nothing."""
    fleet = bench.fleet
    incidents = [incident_id for (incident_id,) in bench.rows("SELECT id FROM incident ORDER BY value")]
    agents = [each.agent_id for each in sorted(fleet.registry.agents.values(), key=lambda each: each.hostname)]
    entries, manual = _ids(fleet.responder.entries, agents), fleet.responder.entries.manual
    address = ADDRESSES[index % len(ADDRESSES)]
    blocks = [each.id for each in sorted(manual, key=lambda each: each.value)]

    def of(ids: list[str]) -> str:
        return ids[index % len(ids)] if ids else "none"

    holder = FLEET if index % 2 else ManualHolder("agent", of(agents))
    makers: dict[str, Callable[[], Any]] = {
        "remove block": lambda: RemoveBlock(of(blocks), "eve"),
        "remove entry": lambda: RemoveBlock(of(entries), "eve"),
        "undo": lambda: UndoIncident(of(incidents), "eve"),
        "approve": lambda: ApproveIncident(of(incidents), "eve"),
        "lift": lambda: LiftAddress(address, "eve"),
        "freeze": lambda: FreezeResponses(frozen=True, author="eve"),
        "thaw": lambda: FreezeResponses(frozen=False, author="eve"),
        "count": lambda: SetOrganizationResponse(OrganizationResponse.ANY, "eve"),
        "remove agent": lambda: RemoveAgent(of(agents), "eve"),
        "add": lambda: AddBlocks(holder, (NewBlock(address, 900.0 + index, "seen"),), "eve"),
        "set": lambda: SetPolicy(Scope("agent", of(agents)), {"thresholds": {"autoRespond": 60 + index}}, "eve"),
    }
    return makers[command]()


def _ids(entries: Iterable[EmergencyEntry], agents: list[str]) -> list[str]:
    """Return the ids of entries in an order that each run of an example has."""

    def order(entry: EmergencyEntry) -> tuple[str, str, int]:
        return entry.value, entry.scope, agents.index(entry.target) if entry.target in agents else -1

    return [entry.id for entry in sorted(entries, key=order)]


@example([([("add", 0), ("add", 0)], "manual_added")])
@example([([("add", 0)], None), ([("add", 0), ("add", 0)], "manual_removed")])
@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.tuples(st.lists(st.tuples(commands, st.integers(0, 7)), min_size=1, max_size=3),
                          st.sampled_from([None, *MEMBERS])), min_size=1, max_size=5))  # fmt: skip
def test_memory_is_as_a_restart_loads_it(batches: list[tuple[list[tuple[str, int]], str | None]]) -> None:
    """After any batches of commands, of each of which the store may reject a kind of change."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        agents = trusted(bench, "a", "b", "c")
        attack(bench, *agents[:2])
        attack(bench, *agents[1:], sourceIp="203.0.113.1")
        bench.pass_time(8)
        for asked, rejected in batches:
            _carry_out(bench, asked, rejected)
            bench.pass_time(1)
            assert bench.failures().keys() <= {"batches_rejected", "changes_rejected"}
        bench.pass_time(6)
        before = memory_of(bench)
        bench.crash()
        assert memory_of(bench) == before
        bench.database.close()


def _carry_out(bench: Bench, asked: list[tuple[str, int]], rejected: str | None) -> None:
    """Let the engine decide commands in one batch, while the store rejects what has a kind of change."""
    commit = bench.store.commit

    def rejecting(changes: Changes) -> None:
        found = () if rejected is None else getattr(changes, rejected)
        if found and (rejected != "meta" or STATES & changes.meta.keys()):
            raise StoreRejected("it does not fit")
        commit(changes)

    bench.store.commit = rejecting  # type: ignore[method-assign]
    for command, index in asked:
        bench.submit(_request(bench, command, index))
    bench.engine.step(bench.now)
    with suppress(AttributeError):
        del bench.store.commit
