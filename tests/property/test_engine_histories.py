"""A state machine over the engine: no sequence of messages, commands, time, restarts and store errors ends a step.

Each history runs on a real store. Whatever happens in it, no report is acknowledged or receipted that is not stored,
none is stored twice, and no failure is isolated that was not injected: failure isolation must not hide a defect.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from manager.domain.agents.host import Host
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.domain.response.manual_blocks import FLEET, ManualHolder
from manager.engine.batch import Changes
from manager.engine.commands.block_requests import AddBlocks, LiftAddress, NewBlock
from manager.engine.commands.http_agent_requests import (
    CreatePolicy,
    PollPolicy,
    RecordHeartbeat,
    RegisterAgent,
    StoreReports,
)
from manager.engine.commands.requests import (
    ApproveIncident,
    Broadcast,
    ChangeAgent,
    ChangeAllowlist,
    CreateToken,
    DeregisterAgent,
    ExplainPolicy,
    FreezeResponses,
    Preview,
    PruneAgents,
    ReadDrift,
    ReadPolicy,
    ReadResponseStatus,
    RemoveAgent,
    RemoveBlock,
    RevokeToken,
    RollBack,
    SetPolicy,
    UndoIncident,
    WorkOnIncident,
)
from manager.errors import ManagerError, StoreRejected, StoreUnavailable
from manager.storage.agent_figures import ALL_AGENTS, AgentCounts
from manager.storage.statements import Statements
from schemas import topics
from schemas.decoding import decode
from schemas.http_agents import HttpHeartbeat
from schemas.limits import MESSAGE_LIMIT
from tests.support.engine import Bench, prepared_reports
from tests.support.examples import examples
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.long("tests/unit/manager/engine/test_failure_isolation.py")

HISTORIES = int(os.environ.get("PANGUARD_HISTORIES") or examples(100))
"""Histories of one run; `make fuzz` asks for more."""

HOSTS = [f"host-{number}" for number in range(4)]
ADDRESSES = [
    "203.0.113.1",
    "203.0.113.2",
    "10.0.0.1",
    "127.0.0.1",
    "198.51.100.0/24",
    "no address",
    "::1",
    "2001:db8::1",
]
HASHES = ["a" * 64, "B" * 40, "not a hash"]
LARGEST = 2**53 - 1
MOMENTS = st.one_of(
    st.floats(-700, 700),
    st.sampled_from([-1_700_000_000.0, -86_400.0, 86_400.0, 2e9, 251_602_300_799.999]),
)
"""Seconds by which an agent's clock is off; the last reaches the end of the calendar."""

documents = st.sampled_from(
    [
        None,
        {"thresholds": {"autoRespond": 70}},
        {"blocklist": {"ips": [{"value": "192.0.2.1", "expiresAt": "2027-01-15T08:00:30Z"}]}},
        {"allowlist": {"ips": ["203.0.113.0/24"]}},
        {"rules": [{"type": "block_ip", "value": "192.0.2.9", "duration": "1h"}]},
        {"detection": {"sigma": ["x" * 300_000]}},
        {"thresholds": {"autoRespond": 101}},
    ]
)


class EngineHistory(RuleBasedStateMachine):
    """Agents on both doors, an administrator, a broker that comes and goes, and a store that fails."""

    def __init__(self) -> None:
        super().__init__()
        structlog.configure(processors=[_drop])
        self.directory = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.directory.name))
        self.agents: list[SimulatedAgent] = []
        self.http_agents: list[str] = []
        self.sent: dict[tuple[str, str], int] = {}
        self.handles: dict[int, tuple[str, str]] = {}
        self.reports = 0
        self.injected = False
        self.fault: Exception | None = None

    @initialize()
    def start(self) -> None:
        self.token = self.bench.token()
        self.bench.pass_time(1)

    def teardown(self) -> None:
        self.end_fault()
        self.bench.pass_time(5)
        assert self.bench.engine.can_commit
        self.stored_once()
        for handle, key in self.handles.items():
            if handle in self.bench.acknowledged:
                assert self._is_decided(key), key
        self.bench.database.close()
        self.directory.cleanup()
        structlog.reset_defaults()

    # Agents over MQTT.

    @rule(hostname=st.sampled_from(HOSTS), skew=MOMENTS, organization=st.sampled_from([None, "acme"]))
    def register(self, hostname: str, skew: float, organization: str | None) -> None:
        agent = SimulatedAgent(hostname, self.token, self.bench.keyring.seal_public, uptime_from=self.bench.wall)
        members = {} if organization is None else {"organization_id": organization}
        client_id, payload = agent.registration(self._at(skew), **members)
        self.bench.receive(topics.REGISTRATION, client_id, payload)
        for answer in self.bench.publisher.take(topics.REGISTRATION_REPLY.address(client_id)):
            if b'"agentId"' in answer:
                reply = decode_json(answer)
                agent.agent_id, agent.session = reply["agentId"], reply["session"] + 1
                self.agents.append(agent)

    @rule(
        index=st.integers(0, 9),
        state=st.sampled_from(["online", "offline", "lost"]),
        skew=MOMENTS,
        step=st.integers(-1, 2),
    )
    def presence(self, index: int, state: str, skew: float, step: int) -> None:
        for agent in self._one(index):
            agent.session = max(0, agent.session + step)
            self._put(topics.PRESENCE, agent, agent.presence(state, self._at(skew)))

    @rule(
        index=st.integers(0, 9),
        skew=MOMENTS,
        events=st.sampled_from([0, 5, LARGEST]),
        total=st.sampled_from([None, 0, LARGEST]),
        version=st.sampled_from([None, 0, 1, 7, LARGEST]),
        outbox=st.sampled_from([None, 0, 3, LARGEST]),
    )
    def heartbeat(
        self, *, index: int, skew: float, events: int, total: int | None, version: int | None, outbox: int | None
    ) -> None:
        for agent in self._one(index):
            members = {"events_processed": events, "events_total": total, "policy_version": version}
            message = agent.heartbeat(self._at(skew), **members, outbox_size=outbox, blocklist_sequence=version)
            self._put(topics.HEARTBEAT, agent, message)

    @rule(
        index=st.integers(0, 9),
        skew=MOMENTS,
        address=st.sampled_from(ADDRESSES),
        file_hash=st.sampled_from(HASHES),
        login=st.booleans(),
    )
    def report(self, *, index: int, skew: float, address: str, file_hash: str, login: bool) -> None:
        for agent in self._one(index):
            self.reports += 1
            evidence: dict[str, Any] = {"sourceIp": address, "fileHash": file_hash}
            if login:
                evidence |= {"lastLogin": "2027-01-15T08:00:00Z", "filePath": "/bin/x"}
            key = (agent.agent_id, f"r-{self.reports}")
            payload = agent.threat(self._at(skew), key[1], **evidence)
            self.handles[self._put(topics.THREATS, agent, payload)] = key

    @rule(index=st.integers(0, 9), version=st.integers(0, 9), state=st.sampled_from(["applied", "partial", "failed"]))
    def policy_applied(self, index: int, version: int, state: str) -> None:
        for agent in self._one(index):
            body = (
                f'{{"version":{version},"digest":"{"0" * 64}","state":"{state}","session":{agent.session},'
                f'"sentAt":"2027-01-15T08:00:00Z"}}'
            )
            self._put(topics.POLICY_APPLIED, agent, agent.coded(topics.POLICY_APPLIED, body.encode()))

    @rule(
        index=st.integers(0, 9),
        row=st.sampled_from([topics.PRESENCE, topics.HEARTBEAT, topics.THREATS, topics.POLICY_APPLIED]),
        body=st.sampled_from([b"", b"{}", b"\xff", b"[" * 2000, b'{"session":1e400}', b'{"id":"x"}']),
        coded=st.booleans(),
    )
    def garbage(self, index: int, row: topics.Topic, body: bytes, *, coded: bool) -> None:
        for agent in self._one(index):
            payload = agent.coded(row, body) if coded and body.endswith(b"}") else body
            self._put(row, agent, payload)

    @rule(body=st.sampled_from([b"", b"{}", b"\x00" * 100]))
    def garbage_registration(self, body: bytes) -> None:
        self.bench.receive(topics.REGISTRATION, "0" * 32, body)

    # Agents over HTTP.

    @rule(hostname=st.sampled_from(HOSTS), by_admin=st.booleans())
    def http_register(self, hostname: str, *, by_admin: bool) -> None:
        answer = self._ask(RegisterAgent(Host.of(hostname, "Debian 12", "x64", "1.0"), None, by_admin=by_admin))
        if answer is not None:
            self.http_agents.append(answer.record["agentId"])

    @rule(index=st.integers(0, 9), body=st.sampled_from([b"{}", b'{"cpu":5,"eventsProcessed":9007199254740991}']))
    def http_heartbeat(self, index: int, body: bytes) -> None:
        for agent_id in self._one_http(index):
            self._ask(RecordHeartbeat(agent_id, decode(HttpHeartbeat, body, MESSAGE_LIMIT)))

    @rule(index=st.integers(0, 9), count=st.integers(1, 3), address=st.sampled_from(ADDRESSES))
    def http_reports(self, index: int, count: int, address: str) -> None:
        for agent_id in self._one_http(index):
            ids = [f"h-{self.reports + number}" for number in range(count)]
            self.reports += count
            self._ask(StoreReports(agent_id, prepared_reports(agent_id, self.bench.wall, *ids, sourceIp=address)))

    @rule(index=st.integers(0, 9), versions=st.lists(st.integers(0, 9), max_size=2))
    def http_poll(self, index: int, versions: list[int]) -> None:
        for agent_id in self._one_http(index):
            self._ask(PollPolicy(agent_id, tuple(versions)))

    # People.

    @rule(
        scope=st.sampled_from([GLOBAL, Scope("organization", "acme"), None]),
        document=documents,
        index=st.integers(0, 9),
    )
    def set_policy(self, scope: Scope | None, document: dict[str, Any] | None, index: int) -> None:
        chosen = scope or Scope("agent", self._any_id(index))
        self._ask(Preview(chosen, document))
        self._ask(SetPolicy(chosen, document, "test"))

    @rule(
        index=st.integers(0, 9),
        tags=st.sampled_from([None, (), ("web",)]),
        organization=st.sampled_from([None, "acme"]),
    )
    def change_agent(self, index: int, tags: tuple[str, ...] | None, organization: str | None) -> None:
        agent_id = self._any_id(index)
        self._ask(ChangeAgent(agent_id, "test", tags=tags, organization_id=organization))
        self._ask(ExplainPolicy(agent_id))

    @rule(
        name=st.sampled_from(["a", "b"]), document=documents, priority=st.integers(0, 1), days=st.sampled_from([1, 0])
    )
    def set_group(self, name: str, document: dict[str, Any] | None, priority: int, days: int) -> None:
        group = {"selector": {"tagsAll": ["web"]}, "priority": priority, "policy": document}
        self._ask(SetPolicy(Scope("group", name), group if document else None, "test"))
        self._ask(PruneAgents(self.bench.wall - 86_400 * days, "test"))

    @rule(index=st.integers(0, 9), value=st.sampled_from(ADDRESSES), listed=st.booleans(), revision=st.integers(0, 9))
    def change_policies(self, index: int, value: str, revision: int, *, listed: bool) -> None:
        self._ask(ChangeAllowlist(GLOBAL, None, value, listed=listed, author="test"))
        self._ask(RollBack(revision, "test"))
        rules = ({"type": "block_ip", "value": value, "duration": "1h"},)
        self._ask(CreatePolicy(rules, "n", None, None, self._any_id(index) if listed else None, "test"))

    @rule(index=st.integers(0, 9), again=st.booleans())
    def remove(self, index: int, *, again: bool) -> None:
        agent_id = self._any_id(index)
        agent = self.bench.fleet.registry.find(agent_id)
        self.bench.submit(RemoveAgent(agent_id, "test"))
        if again and agent is not None:
            self.bench.submit(RegisterAgent(agent.host, agent.organization_id, by_admin=True))
        self.bench.engine.step(self.bench.now)

    @rule(index=st.integers(0, 9))
    def deregister(self, index: int) -> None:
        self._ask(DeregisterAgent(self._any_id(index)))
        self._ask(ReadPolicy(self._any_id(index)))

    @rule(expires=st.sampled_from([None, 0.0, 253_402_300_799.999999]), uses=st.sampled_from([None, 0, 1]))
    def tokens(self, expires: float | None, uses: int | None) -> None:
        token = self._ask(CreateToken("test", expires_at=expires, max_uses=uses))
        if token is not None and uses == 0:
            self._ask(RevokeToken(token.token_id, "test"))
        elif token is not None:
            self.token = token

    @rule(
        index=st.integers(0, 9),
        action=st.sampled_from(["undo", "approve", "block", "add", "lift", "work", "freeze", "thaw", "read"]),
    )
    def respond(self, index: int, action: str) -> None:
        incidents = [incident_id for (incident_id,) in self.bench.rows("SELECT id FROM incident ORDER BY opened_at")]
        incident_id = incidents[index % len(incidents)] if incidents else "inc-none"
        entries = list(self.bench.fleet.responder.entries)
        entry_id = entries[index % len(entries)].id if entries else "blk-none"
        requests: dict[str, tuple[Any, ...]] = {
            "undo": (UndoIncident(incident_id, "test"),),
            "approve": (ApproveIncident(incident_id, "test"),),
            "block": (RemoveBlock(entry_id, "test"),),
            "add": (
                AddBlocks(FLEET, (NewBlock(f"203.0.113.{index}", 60.0 * index + 1, "r"),), "test"),
                AddBlocks(ManualHolder("organization", "default"), (NewBlock("203.0.113.0/29", 900.0, "r"),), "test"),
            ),
            "lift": (LiftAddress(f"203.0.113.{index}", "test"),),
            "work": (WorkOnIncident(incident_id, "close", "test", "done"),),
            "freeze": (FreezeResponses(frozen=True, author="test"),),
            "thaw": (FreezeResponses(frozen=False, author="test"),),
            "read": (ReadResponseStatus(), ReadDrift(), Broadcast("test")),
        }
        for request in requests[action]:
            self._ask(request)

    # Time, broker, store.

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 31.0, 100.0, 700.0, 4000.0, 90_000.0]))
    def pass_time(self, seconds: float) -> None:
        self.bench.pass_time(seconds, step=max(0.1, seconds / 8))

    @rule(seconds=st.sampled_from([-90_000.0, -700.0, 700.0, 90_000.0]))
    def step_clock(self, seconds: float) -> None:
        self.bench.began += seconds
        self.bench.engine.step(self.bench.now)

    @rule(fresh=st.booleans())
    def broker_returns(self, *, fresh: bool) -> None:
        self.bench.publisher.ready = True
        self.bench.engine.connected(self.bench.now, fresh=fresh)

    @rule()
    def broker_goes(self) -> None:
        self.bench.publisher.ready = False
        self.bench.engine.disconnected()

    @rule(error=st.sampled_from([StoreUnavailable("the disk is full"), StoreRejected("it does not fit"), None]))
    def store_fails(self, error: Exception | None) -> None:
        """Let the store fail from now on: full, rejecting every second transaction, or failing in an unknown way."""
        self.end_fault()
        self.injected = True
        commit, count = self.bench.store.commit, 0

        def failing(changes: Changes) -> None:
            nonlocal count
            count += 1
            if isinstance(error, StoreRejected) and count % 2 == 0:
                commit(changes)
            else:
                self.bench.store.abandon()
                raise error or ZeroDivisionError

        self.bench.store.commit = failing  # type: ignore[method-assign]

    @rule()
    def end_fault(self) -> None:
        vars(self.bench.store).pop("commit", None)

    @rule()
    def restart(self) -> None:
        self.bench.crash()

    # Claims.

    @invariant()
    def contained_nothing(self) -> None:
        """Without an injected fault nothing fails inside."""
        if not self.injected:
            assert self.bench.failures() == {}

    @invariant()
    def stored_once(self) -> None:
        """No report has two rows."""
        rows = self.bench.rows("SELECT count(*) FROM threat GROUP BY agent_number, threat_id HAVING count(*) > 1")
        assert rows == []

    @invariant()
    def counted_agents(self) -> None:
        """The running counts of agents are those of the stored agents."""
        known = self.bench.store.figures.agents.known
        assert known in (None, AgentCounts.of_values(*Statements(self.bench.database).values(ALL_AGENTS)))
        assert known is not None or self.injected

    def _is_decided(self, key: tuple[str, str]) -> bool:
        """Return whether an acknowledged report is stored, refused, deferred, or from an agent that was unknown."""
        agent_id, report_id = key
        query = (
            "SELECT 1 FROM {table} JOIN agent ON agent.number = {table}.agent_number "
            f"WHERE agent_id = '{agent_id}' AND threat_id = '{report_id}'"
        )
        if any(self.bench.rows(query.format(table=table)) for table in ("threat", "stored_id")):
            return True
        letters = self.bench.rows(f"SELECT 1 FROM dead_letter WHERE topic = 'agents/{agent_id}/threats'")
        return bool(letters) or self.injected

    # GuardParts of rules.

    def _at(self, skew: float) -> float:
        return min(max(self.bench.wall + skew, 0.0), 253_402_300_799.999)

    def _one(self, index: int) -> list[SimulatedAgent]:
        return [self.agents[index % len(self.agents)]] if self.agents else []

    def _one_http(self, index: int) -> list[str]:
        return [self.http_agents[index % len(self.http_agents)]] if self.http_agents else []

    def _any_id(self, index: int) -> str:
        ids = [agent.agent_id for agent in self.agents] + self.http_agents
        return ids[index % len(ids)] if ids else "ag-0000000000000000"

    def _put(self, row: topics.Topic, agent: SimulatedAgent, payload: bytes) -> int:
        handle = self.bench.put(row, agent.agent_id, payload)
        if handle % 3:
            self.bench.engine.step(self.bench.now)
        return handle

    def _ask(self, request: Any) -> Any:
        """Return the answer to a command; None if it was refused, or waits for the store."""
        answers = self.bench.submit(request)
        self.bench.engine.step(self.bench.now)
        for value, error in answers:
            assert error is None or isinstance(error, ManagerError), error
            return value
        return None


def decode_json(payload: bytes) -> dict[str, Any]:
    import json  # noqa: PLC0415 -- one reply is read here

    return dict(json.loads(payload))


def _drop(_logger: Any, _method: str, _event: dict[str, Any]) -> Any:
    raise structlog.DropEvent


@pytest.mark.timeout(max(1200, 10 * HISTORIES))
def test_no_history_ends_a_step_or_loses_a_report(each_system: str) -> None:
    """Whatever happens, what is acknowledged is stored once, or decided otherwise; PostgreSQL has fewer histories."""
    histories = HISTORIES if each_system == "sqlite" else max(1, HISTORIES // 5)
    some = settings(max_examples=histories, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(EngineHistory, settings=some)
