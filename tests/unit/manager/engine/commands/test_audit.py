"""The audit log: an entry is committed with its change, once."""

from pathlib import Path

from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.commands.requests import SetPolicy
from manager.engine.inbox import Command
from manager.errors import StoreUnavailable
from tests.support.engine import Bench


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
