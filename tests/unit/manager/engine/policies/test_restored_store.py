"""A store restored from an older copy: what guards state shows it, people are told, and numbers continue above."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.connection.identity import Enrolled
from agent.policy.blocklist import OrganizationBlocklist
from agent.storage.database import Database
from manager.domain.agents.host import Host
from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.commands.http_agent_requests import PollPolicy, RegisterAgent
from manager.engine.commands.requests import ReadPolicy, SetPolicy
from manager.engine.policies.restored_store import WARNING
from schemas import topics
from schemas.limits import POLICY_LIMIT
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent
from tests.unit.agent.fake_link import FakeLink

ATTACKER = "203.0.113.66"


def restore(bench: Bench, copy: Path) -> None:
    """Put the copy in the place of the store, and start anew."""
    bench.database.close()
    shutil.rmtree(bench.directory)
    shutil.copytree(copy, bench.directory)
    bench.build()


def audited(bench: Bench) -> int:
    ((count,),) = bench.rows("SELECT count(*) FROM audit_entry WHERE action = 'store.restored'")
    return int(count)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "store").mkdir()
    return Bench(tmp_path / "store")


def back_up(bench: Bench, copy: Path) -> None:
    bench.pass_time(10)
    bench.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(bench.directory, copy)


def attacked(bench: Bench) -> list[SimulatedAgent]:
    """Return three agents that reported one attacker: it is in the organization's blocklist."""
    token = bench.token()
    agents = [bench.enroll(name, token) for name in ("a", "b", "c")]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    return agents


def report(bench: Bench, agents: list[SimulatedAgent]) -> None:
    for agent in agents:
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp=ATTACKER))


def test_a_proven_policy_version_ahead_is_told_once(bench: Bench, tmp_path: Path) -> None:
    """Log, audit log and warnings say that a guard knows more; its policy continues above it."""
    agent = bench.enroll("web-1")
    back_up(bench, tmp_path / "copy")
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70.0}}, "test"))
    held = bench.ask(ReadPolicy(agent.agent_id)).document
    restore(bench, tmp_path / "copy")
    assert WARNING not in bench.fleet.warnings
    claim = {"policy_version": 2, "policy_digest": held["digest"], "version_proof": held["versionProof"]}
    with capture_logs() as logged:
        for _ in range(2):
            bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, **claim))
    assert [line["event"] for line in logged].count("store_older_than_guards") == 1
    assert "1 guard knows more than the store" in bench.fleet.warnings[WARNING]
    assert audited(bench) == 1
    assert bench.ask(ReadPolicy(agent.agent_id)).version == 3


def test_a_blocklist_sequence_ahead_continues_above_it(bench: Bench, tmp_path: Path) -> None:
    """Guards that were ahead replace their entries by the snapshot, and obey the next block of the organization."""
    agents = attacked(bench)
    back_up(bench, tmp_path / "copy")
    report(bench, agents)
    ahead = bench.fleet.blocklists.sequences["default"]
    guards_database = Database.open(tmp_path / "guard.db")
    guard = OrganizationBlocklist(guards_database, Counter())
    guard.pin(Enrolled(agents[0].agent_id, "default", bench.keyring.sign_public))
    guard.opened(FakeLink(), 0)

    def hear() -> None:
        for row in (topics.BLOCKLIST_CHANGES, topics.BLOCKLIST):
            for payload in bench.publisher.take(row.address("default")):
                guard.receive(row, payload, bench.now.monotonic)

    bench.pass_time(11)
    hear()
    assert (guard.sequence, [each.value for each in guard.measures()]) == (ahead, [ATTACKER])
    restore(bench, tmp_path / "copy")
    bench.publisher.published.clear()
    assert bench.fleet.blocklists.sequences.get("default", 0) < ahead
    bench.receive(
        topics.HEARTBEAT, agents[0].agent_id, agents[0].heartbeat(bench.wall + 60, blocklist_sequence=guard.sequence)
    )
    assert WARNING in bench.fleet.warnings
    bench.pass_time(11)
    hear()
    assert guard.sequence == bench.fleet.blocklists.sequences["default"] > ahead
    assert list(guard.measures()) == []
    report(bench, agents)
    hear()
    assert [each.value for each in guard.measures()] == [ATTACKER]
    bench.crash()
    assert bench.fleet.blocklists.sequences["default"] == guard.sequence
    guards_database.close()


def test_a_sequence_that_nobody_can_have_is_ignored(bench: Bench) -> None:
    """An agent's number without a proof cannot use up the fleet's revisions, nor have snapshots read without end."""
    agent = bench.enroll("web-1")
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, blocklist_sequence=2**53 - 1))
    assert bench.fleet.policies.revision == 1
    assert WARNING not in bench.fleet.warnings
    for sequence in range(10, 100, 10):
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, blocklist_sequence=sequence))
    assert len(bench.publisher.take(topics.BLOCKLIST_CHANGES.address("default"))) == 1


def test_an_http_agent_that_is_ahead_gets_its_policy_again(bench: Bench, tmp_path: Path) -> None:
    """Its version has no proof; the policy continues above it all the same, and people are told."""
    agent_id = bench.ask(RegisterAgent(Host.of("web-1", "Debian 12", "x64", "1.0"), None, by_admin=True)).record[
        "agentId"
    ]
    back_up(bench, tmp_path / "copy")
    for number in (70.0, 71.0):
        bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": number}}, "test"))
    held = bench.ask(PollPolicy(agent_id, ())).version
    restore(bench, tmp_path / "copy")
    answer = bench.ask(PollPolicy(agent_id, (held,)))
    assert answer.version > held
    assert answer.document["thresholds"]["autoRespond"] == 85
    assert WARNING in bench.fleet.warnings
    revision = bench.fleet.policies.revision
    bench.ask(PollPolicy(agent_id, (POLICY_LIMIT**3,)))
    assert bench.fleet.policies.revision == revision
