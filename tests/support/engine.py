"""Engine test bench: an engine on a real SQLite store and a virtual clock, with a recording publisher."""

import json
from pathlib import Path
from typing import Any

from manager.domain.agents.agent import Agent
from manager.domain.agents.registry import Takeover
from manager.domain.http_reports import PreparedReport, prepare
from manager.domain.instant import Instant
from manager.domain.response.response_record import REMEMBERED
from manager.domain.signing_keys import SIGNING_KEYS, SigningKeys
from manager.engine.batch import Publication
from manager.engine.clock_monitor import pending_step
from manager.engine.commands.requests import CreateToken
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.inbox import Command, Inbound
from manager.engine.settings import EngineSettings
from manager.storage import tables
from manager.storage.sealed_values import SealedValues
from manager.storage.statements import system_of
from manager.storage.store import PeeweeStore
from schemas import topics
from schemas.decoding import decode
from schemas.http_agents import HttpEvents
from schemas.keys import EnrollmentToken, ManagerKeyring
from schemas.limits import BODY_LIMIT
from schemas.topics import Topic
from tests.support.migrated_store import forgo_durability, open_migrated
from tests.support.simulated import SimulatedAgent

START = 1_800_000_000.0


class RecordingPublisher:
    """Records publications, and confirms each at once, as a broker would; while it is not ready they are lost."""

    def __init__(self) -> None:
        self.ready = True
        self.backlog = 0
        self.published: list[Publication] = []

    def publish(self, publication: Publication) -> None:
        if not self.ready:
            return
        self.published.append(publication)
        if publication.confirm is not None:
            publication.confirm()

    def take(self, topic: str) -> list[bytes]:
        """Remove and return the payloads published on a topic."""
        found = [publication.payload for publication in self.published if publication.topic == topic]
        self.published = [publication for publication in self.published if publication.topic != topic]
        return found


class RecordingBrokerAccess:
    """Records calls, in order."""

    def __init__(self) -> None:
        self.admitted: list[tuple[str, bool]] = []
        self.expelled: list[str] = []
        self.suspended: list[str] = []
        self.resumed: list[str] = []
        self.room: int | None = None

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        self.admitted.append((agent.agent_id, replaced))

    def expel(self, agent_id: str) -> None:
        self.expelled.append(agent_id)

    def suspend(self, agent_id: str) -> None:
        self.suspended.append(agent_id)

    def resume(self, agent_id: str) -> None:
        self.resumed.append(agent_id)

    def connected(self) -> None:
        pass


class Bench:
    """One manager's core on a directory; it can be ended and built again."""

    def __init__(self, directory: Path, settings: EngineSettings | None = None, at: float = START) -> None:
        self.directory = directory
        self.settings = settings or EngineSettings(takeover=Takeover.ALLOW)
        self.keyring = ManagerKeyring(bytes(32))
        self.elapsed = 0.0
        self.began = at
        self.acknowledged: list[Any] = []
        self.broker_access = RecordingBrokerAccess()
        self.publisher = RecordingPublisher()
        self._handles = 0
        self.build()

    def build(self) -> None:
        """Build the core from the store, as a restart does."""
        path = self.directory / "panguard.db"
        self.database = open_migrated(path)
        forgo_durability(self.database)
        tables.database.initialize(self.database)
        self.store = PeeweeStore(self.database, self.keyring.store_key)
        self.store.sealed = SealedValues(self.database, bytes(32))
        self.fleet = Fleet(self.keyring, self.settings)
        kept = self.store.sealed.get(SIGNING_KEYS)
        if kept is not None:
            self.fleet.use_signing_keys(SigningKeys.load(kept))
        snapshot = self.store.load()
        step = pending_step(snapshot.meta, self.settings.boot_id, self.now)
        incidents = self.store.archive.responding(self.wall - step - REMEMBERED)
        self.changed = self.fleet.restore(snapshot, incidents, self.wall, step)
        self.engine = Engine(self.fleet, self.store, self.publisher, self.acknowledged.extend, self.broker_access)
        self.engine.restore_correlation(self.now)
        self.engine.http_door_opened(self.now)
        self.engine.connected(self.now, fresh=False)

    def crash(self) -> None:
        """End the core as SIGKILL would, and build it again."""
        self.database.close()
        self.build()

    @property
    def now(self) -> Instant:
        """The virtual moment."""
        return Instant(self.began + self.elapsed, 1000.0 + self.elapsed)

    @property
    def wall(self) -> float:
        """The virtual time, in seconds since 1970."""
        return self.now.wall

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, with a step of the engine each second."""
        end = self.elapsed + seconds
        while self.elapsed < end:
            self.elapsed = min(end, self.elapsed + step)
            self.engine.step(self.now)

    def receive(self, row: Topic, identifier: str, payload: bytes) -> int:
        """Put one message in the inbox and let the engine step; return the handle."""
        handle = self.put(row, identifier, payload)
        self.engine.step(self.now)
        return handle

    def put(self, row: Topic, identifier: str, payload: bytes) -> int:
        """Put one message in the inbox."""
        self._handles += 1
        inbound = Inbound(row, identifier, row.below_root(identifier), payload, self._handles)
        self.engine.inbox.put(inbound, self.now.monotonic)
        return self._handles

    def ask(self, request: Any) -> Any:
        """Submit a command, let the engine step, and return its answer or raise its error."""
        answers = self.submit(request)
        self.engine.step(self.now)
        value, error = answers[0]
        if error is not None:
            raise error
        return value

    def token(self, **members: Any) -> EnrollmentToken:
        """Return a new enrollment token."""
        token: EnrollmentToken = self.ask(CreateToken(author="test", **members))
        return token

    def enroll(self, hostname: str, token: EnrollmentToken | None = None, **members: Any) -> SimulatedAgent:
        """Return an agent that registered and sent its birth."""
        agent = SimulatedAgent(hostname, token or self.token(), self.keyring.seal_public, uptime_from=self.wall)
        reply = self.register(agent, **members)
        agent.agent_id, agent.session = reply["agentId"], reply["session"] + 1
        self.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", self.wall))
        return agent

    def register(self, agent: SimulatedAgent, **members: Any) -> dict[str, Any]:
        """Send a registration and return the answer."""
        client_id, payload = agent.registration(members.pop("sent_at", self.wall), **members)
        self.receive(topics.REGISTRATION, client_id, payload)
        return self.answer(client_id)

    def answer(self, client_id: str) -> dict[str, Any]:
        """Return the one answer to a registration."""
        (payload,) = self.publisher.take(topics.REGISTRATION_REPLY.address(client_id))
        return dict(json.loads(payload))

    def receipts(self, agent: SimulatedAgent) -> dict[str, list[Any]]:
        """Return the content of all receipts of an agent."""
        told: dict[str, list[Any]] = {"stored": [], "refused": [], "deferred": []}
        for payload in self.publisher.take(topics.RECEIPTS.address(agent.agent_id)):
            receipt = agent.reads(topics.RECEIPTS, payload, self.keyring)
            for kind, entries in told.items():
                entries.extend(receipt.get(kind, []))
        return told

    def state(self, agent: SimulatedAgent) -> str:
        """Return the agent's state, with the reason where it is stale."""
        record = self.fleet.registry.agents[agent.agent_id]
        return f"stale {record.reason}" if record.state == "stale" else str(record.state)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return rows of the store."""
        text = sql.replace("%", "%%") if system_of(self.database) == "postgresql" else sql
        return list(self.database.execute_sql(text).fetchall())

    def submit(self, request: Any) -> list[tuple[Any, Exception | None]]:
        """Put a command in the inbox without a step; return the list that gets its answer."""
        answers: list[tuple[Any, Exception | None]] = []
        self.engine.inbox.submit(Command(request, lambda value, error: answers.append((value, error))))
        return answers

    def failures(self) -> dict[str, int]:
        """Return the counters of contained failures that are not zero."""
        return {name: self.fleet.counters[name] for name in FAILURES if self.fleet.counters[name]}


FAILURES = (
    "messages_failed", "reports_failed", "reports_not_correlated", "commands_failed", "parts_failed",
    "batches_rejected", "changes_rejected", "commits_failed",
)  # fmt: skip
"""Counters of failures that the engine contains."""


def prepared_reports(agent_id: str, now: float, *ids: str, **details: str) -> tuple[PreparedReport, ...]:
    """Return reports as the HTTP server hands them to the engine."""
    events = [{"id": each, "type": "brute_force", "severity": "high", "details": details} for each in ids]
    return tuple(prepare(agent_id, decode(HttpEvents, json.dumps({"events": events}).encode(), BODY_LIMIT), now))
