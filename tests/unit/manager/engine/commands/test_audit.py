"""The audit log: an entry is committed with its change, once."""

from pathlib import Path

import pytest

from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.commands.requests import SetPolicy
from manager.engine.inbox import Command
from manager.engine.origin import Origin
from manager.errors import StoreUnavailable
from schemas import topics
from tests.support.attacks import ATTACKER, trusted
from tests.support.engine import Bench

pytestmark = pytest.mark.usefixtures("each_system")


def test_an_entry_shares_the_fate_of_its_change(tmp_path: Path) -> None:
    """While the store is unavailable neither is stored; afterwards both are, once."""
    bench = Bench(tmp_path)
    commit, answers = bench.store.commit, []

    def refuse(_changes: object) -> None:
        raise StoreUnavailable("the disk is full")

    bench.store.commit = refuse  # type: ignore[method-assign]
    request = SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70}}, "admin")
    bench.engine.inbox.submit(Command(request, lambda value, error: answers.append((value, error))))
    for _ in range(3):
        bench.engine.step(bench.now)
    assert (answers, bench.rows("SELECT count(*) FROM audit_entry")) == ([], [(0,)])
    bench.store.commit = commit  # type: ignore[method-assign]
    bench.engine.step(bench.now)
    assert len(answers) == 1
    assert bench.rows("SELECT actor, action, target FROM audit_entry") == [("manager", "policy.set", "global")]
    bench.database.close()


def test_a_response_in_the_batch_of_a_command_is_the_responders(bench: Bench) -> None:
    """A person's command before it is theirs alone."""
    agents = trusted(bench, "a", "b")
    request = SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70}}, "ann")
    bench.engine.inbox.submit(Command(request, lambda *_: None, Origin("ann", "192.0.2.9", "r-1")))
    for agent in agents:
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp=ATTACKER))
    bench.engine.step(bench.now)
    audited = bench.rows("SELECT actor, action, address FROM audit_entry ORDER BY id DESC LIMIT 3")
    assert ("ann", "policy.set", "192.0.2.9") in audited
    assert ("responder", "incident.respond", None) in audited
