"""An ingest worker's engine beside a leader's on one database, with a recording publisher."""

from contextlib import ExitStack
from typing import Any

from manager.domain.ingest.topics import WORKER_LIFE
from manager.engine.inbox import Command, Inbound
from manager.engine.settings import EngineSettings
from manager.ingest.engine import IngestEngine
from manager.ingest.known_agents import KnownAgents
from manager.ingest.report_store import ReportStore
from manager.storage.postgresql.connection import open_writer
from schemas import topics
from schemas.topics import Topic
from tests.support.engine import Bench, RecordingPublisher
from tests.support.migrated_store import address_of
from tests.support.simulated import SimulatedAgent

KEY = bytes(range(32))
"""Codes what workers hand over."""


class WorkerBench:
    """One worker beside the leader of a bench."""

    def __init__(
        self, leader: Bench, number: int, settings: EngineSettings | None = None, *, is_heard: bool = True
    ) -> None:
        self.leader = leader
        self.worker_id = f"{number:032x}"
        self.database = open_writer(address_of(leader.directory / "panguard.db"))
        self.store = ReportStore(self.database, leader.keyring.store_key)
        self.agents = KnownAgents(self.store.agents)
        self.publisher = RecordingPublisher()
        self.acknowledged: list[Any] = []
        self.engine = IngestEngine(
            self.worker_id,
            KEY,
            settings or EngineSettings(),
            store=self.store,
            agents=self.agents,
            publisher=self.publisher,
            acknowledge=self.acknowledged.extend,
            is_heard=is_heard,
        )
        self._handles = 0

    def put(self, row: Topic, agent: SimulatedAgent, payload: bytes) -> int:
        self._handles += 1
        topic = row.below_root(agent.agent_id)
        message = Inbound(row, agent.agent_id, topic, payload, self._handles)
        self.engine.inbox.put(message, self.leader.now.monotonic)
        return self._handles

    def receive(self, row: Topic, agent: SimulatedAgent, payload: bytes) -> int:
        handle = self.put(row, agent, payload)
        self.engine.step(self.leader.now)
        return handle

    def receipts(self, agent: SimulatedAgent) -> dict[str, list[Any]]:
        told: dict[str, list[Any]] = {"stored": [], "refused": [], "deferred": []}
        for payload in self.publisher.take(topics.RECEIPTS.address(agent.agent_id)):
            receipt = agent.reads(topics.RECEIPTS, payload, self.leader.keyring)
            for kind, entries in told.items():
                entries.extend(receipt.get(kind, []))
        return told

    def deliver_life(self) -> None:
        """Pass what the worker handed over to the leader, as the broker does."""
        for payload in self.publisher.take(WORKER_LIFE.address(self.worker_id)):
            self.leader.put(WORKER_LIFE, self.worker_id, payload)
        self.leader.engine.step(self.leader.now)

    def ask(self, *requests: Any) -> list[tuple[Any, Exception | None]]:
        """Have commands in one batch, as the HTTP door submits them; return what each is answered."""
        answers: list[tuple[Any, Exception | None]] = []
        for request in requests:
            self.engine.inbox.submit(Command(request, lambda value, error: answers.append((value, error))))
        self.engine.step(self.leader.now)
        return answers


def a_worker(
    leader: Bench,
    stack: ExitStack,
    number: int = 1,
    settings: EngineSettings | None = None,
    *,
    is_heard: bool = True,
) -> WorkerBench:
    """Return a worker beside a leader, closed with the stack."""
    worker = WorkerBench(leader, number, settings, is_heard=is_heard)
    stack.callback(worker.database.close)
    return worker
