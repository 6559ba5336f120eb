"""The worker's engine: takes agents' messages in batches, stores their reports, then acknowledges and sends receipts.

It decides nothing but whether a report is new: the leader decides on what is stored. The code of verification,
decoding, deduplication and receipts is that of the leader's own engine.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import structlog

from manager.domain.budget import Budget
from manager.domain.correlation.reports import DATED
from manager.domain.ingest.gathering import Gathering
from manager.domain.ingest.topics import WORKER_LIFE
from manager.domain.instant import Instant
from manager.engine.batch import DeadLetter, Publication, ThreatRow
from manager.engine.context import ReceivedReport
from manager.engine.failure_isolation import isolated
from manager.engine.inbox import Command, Inbound, Inbox
from manager.engine.messages import reports
from manager.engine.messages.gathered_life import GatheredLife
from manager.engine.messages.report_decoding import UndecodedReport
from manager.engine.messages.reports import ReportIntake
from manager.engine.messages.verification import InvalidMessage, verify
from manager.engine.outgoing.receipts import Receipts
from manager.engine.ports import Publisher
from manager.engine.settings import EngineSettings
from manager.errors import LeaderNeeded, StoreRejected, StoreUnavailable
from manager.ingest.http_requests import HttpRequests, Policies, Submitted, refuse, refuse_otherwise
from manager.ingest.known_agents import KnownAgents
from manager.ingest.report_store import StoredOtherwise
from schemas.topics import HEARTBEAT, THREATS

log = structlog.get_logger(__name__)

LIFE_INTERVAL = 1.0
NOTIFY_INTERVAL = 0.05
_PAYLOAD_KEPT = 512
_LETTERS_IN_BATCH = 10
_REJECTED = "the store cannot hold this report"


class Store(Policies, Protocol):
    """The durable state of reports."""

    @property
    def generation(self) -> int | None:
        """The generation of the store as the last commit of reports saw it; None before its first one."""
        ...

    def store(
        self, rows: Sequence[ThreatRow], letters: Sequence[DeadLetter], whole: AbstractSet[int] = frozenset()
    ) -> dict[int, bytes]:
        """Store reports and dead letters; return the places of known reports and the digests they are stored with.

        Nothing is stored, and StoredOtherwise raised, if a report at one of the places in `whole` is stored with other
        content.
        """
        ...

    def store_each(self, rows: Sequence[ThreatRow]) -> tuple[dict[int, bytes], list[int]]:
        """Store the reports of a rejected batch one by one; return the same, and the places of refused ones."""
        ...

    def notify(self) -> None:
        """Wake the leader."""
        ...


class _NothingKnown:
    """Stands for the look-up of known reports: a worker learns them as it stores."""

    def known_reports(self, _keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], bytes]:
        return {}


@dataclass(slots=True)
class _Batch:
    handles: list[Any] = field(default_factory=list)
    reports: list[ReceivedReport] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    submitted: list[Submitted] = field(default_factory=list)

    @property
    def open(self) -> list[Submitted]:
        """The requests that are not refused."""
        return [each for each in self.submitted if each.submission.refusal is None]

    def dead_letter(self, now: Instant, topic: str, reason: str, payload: bytes) -> None:
        if len(self.letters) < _LETTERS_IN_BATCH:
            kept = payload[:_PAYLOAD_KEPT]
            self.letters.append(DeadLetter(now.wall, topic, reason[:512], len(payload), kept))


class _Written(NamedTuple):
    """The result of the storing of a batch; the places are those in `intake.new`."""

    intake: ReportIntake
    known: dict[int, bytes]
    unfit: list[int]


class IngestEngine:
    """Processes batches from one inbox in one thread. Only the commit blocks.

    Args:
        worker_id: the id of this process in its topic.
        life_key: codes what is handed over to the leader.
        settings: budgets and sizes.
        store: commits the reports.
        agents: the agents by id.
        publisher: sends receipts and gathered heartbeats.
        acknowledge: called with the handles of stored messages, in the order of their arrival.
        gather: seconds between two batches, for each process that shares the messages.
        is_heard: whether the leader hears of this process from its connection on; else from the first sign of life on.
    """

    def __init__(
        self,
        worker_id: str,
        life_key: bytes,
        settings: EngineSettings,
        *,
        store: Store,
        agents: KnownAgents,
        publisher: Publisher,
        acknowledge: Callable[[list[Any]], None],
        gather: float = 0.0,
        is_heard: bool = True,
    ) -> None:
        self._is_heard = is_heard
        self.gathering = Gathering(gather)
        self._settings = settings
        self._store = store
        self._agents = agents
        self._publisher = publisher
        self._acknowledge = acknowledge
        self._life = GatheredLife(worker_id, life_key)
        self._life_topic = WORKER_LIFE.address(worker_id)
        self._next_life = self._next_notification = 0.0
        self._taken: list[Inbound | Command] = []
        self._batch: _Batch | None = None
        self._has_stored = False
        self._generation = store.generation
        self.inbox = Inbox(self._budget(1), batch_bytes=settings.batch_bytes)
        self.receipts = Receipts(settings.receipt_interval, settings.retry_after, self._store_state)
        self.counters: Counter[str] = Counter()
        self._http = HttpRequests(store, agents, self._life, self.counters)
        self.problem: str | None = None
        """Why nothing can be stored just now; None while it can."""

    def idle_for(self, now: float) -> float:
        """Return the seconds until a step has work to do, if nothing arrives; at most those to the next hand-over."""
        until = min(LIFE_INTERVAL / 4, max(0.0, self._next_life - now))
        return min(until, self.gathers_for(now)) if len(self.inbox) else until

    def gathers_for(self, now: float) -> float:
        """Return the seconds until the next batch, for which nothing has to be read; 0 if one may be taken now."""
        is_large = len(self.inbox) * 2 >= self._settings.batch_limit
        waits_for_nothing = is_large or self.inbox.has_commands  # the HTTP door has gathered them
        return 0.0 if waits_for_nothing else self.gathering.left(now)

    def share(self, processes: int) -> None:
        """Divide each agent's budget by the number of processes among which the broker splits its messages."""
        if processes != self.gathering.processes and processes > 0:
            self.gathering.processes = processes
            self.inbox.use_budget(self._budget(processes))

    def connected(self, now: Instant, *, fresh: bool) -> None:  # noqa: ARG002 -- as the link calls its listener
        """Begin to hand over: the leader hears of this worker with the next message."""
        self._next_life = now.monotonic

    def disconnected(self) -> None:
        """Do nothing: what was in flight is sent again by its guard."""

    def step(self, now: Instant) -> bool:
        """Process one batch up to its receipts; return whether it was stored.

        What cannot be stored is kept, and neither acknowledged nor answered: its guard waits or sends it again.
        """
        try:
            self._store_batch(now)
        except StoreUnavailable as error:
            if self.problem is None:
                log.error("store_unavailable", reason=str(error))  # noqa: TRY400 -- the reason is enough
            self.problem = str(error)
            self.counters["commits_failed"] += 1
            return False
        if self.problem is not None:
            log.info("store_available")
            self.problem = None
        with isolated(self.counters, "receipts"):
            self._answer(now)
        with isolated(self.counters, "gathered heartbeats"):
            self.hand_over(now)
        return True

    def hand_over(self, now: Instant, *, ends: bool = False) -> None:
        """Send the gathered heartbeats to the leader, each second and when they fill a message."""
        if self._has_stored and now.monotonic >= self._next_notification:
            self._has_stored, self._next_notification = False, now.monotonic + NOTIFY_INTERVAL
            self._store.notify()
        is_due = now.monotonic >= self._next_life or self._life.is_full or ends
        if is_due:
            self._next_life = now.monotonic + LIFE_INTERVAL  # without a broker too: `idle_for` is the time to it
        self._is_heard = self._is_heard or not self._life.is_empty
        if is_due and self._is_heard and self._publisher.ready:
            while self._life.is_full:
                self._publisher.publish(Publication(self._life_topic, self._life.message(now, set()), qos=0))
            message = self._life.message(now, self.inbox.take_flooding(), ends=ends)
            self._publisher.publish(Publication(self._life_topic, message, qos=0))

    def pass_on(self, reason: str) -> None:
        """Have the leader serve the requests of HTTP agents that wait."""
        refuse(self.inbox.take_commands(), LeaderNeeded(reason))

    def forget_idle(self, now: Instant) -> None:
        """Drop state of agents that are idle."""
        self.inbox.forget_idle(now.monotonic)
        self.receipts.forget_idle(now.monotonic)

    def _store_batch(self, now: Instant) -> None:
        if self._batch is None:
            if not self._taken:
                if not len(self.inbox) or self.gathers_for(now.monotonic):
                    return
                self.gathering.begin(now.monotonic)
                self._taken = self.inbox.take(self._settings.batch_limit, 0)
                self.counters["batches"] += 1
            messages = [item for item in self._taken if not isinstance(item, Command)]
            commands = [item for item in self._taken if isinstance(item, Command)]
            self._taken = [*messages]  # if the database cannot be read, the leader serves the commands
            self._look_up(messages, commands)
            self._batch, self._taken = self._verified(messages, now), []
            self._batch.submitted = self._http.take(commands, now)
        self._commit(self._batch, now)
        self._batch = None

    def _look_up(self, messages: Sequence[Inbound], commands: Sequence[Command]) -> None:
        """Have the agents of a batch in memory.

        Raises:
            StoreUnavailable: the database cannot be read; the leader has to serve the commands.
        """
        named, renewed = self._http.agent_ids(commands)
        try:
            self._agents.complete(named | {message.identifier for message in messages}, renewed)
        except StoreUnavailable as error:
            refuse(commands, LeaderNeeded(str(error)))
            raise

    def _verified(self, messages: Iterable[Inbound], now: Instant) -> _Batch:
        batch = _Batch()
        for message in messages:
            if message.handle is not None:
                batch.handles.append(message.handle)
            self.counters[message.row.name] += 1
            try:
                self._take_message(batch, message, now)
            except Exception:
                log.exception("message_failed", topic=message.topic)
                self.counters["messages_failed"] += 1
                batch.dead_letter(now, message.topic, reports.FAILURE, message.payload)
        return batch

    def _take_message(self, batch: _Batch, message: Inbound, now: Instant) -> None:
        found = verify(self._agents.find, message.row, message.identifier, message.topic, message.payload)
        if isinstance(found, InvalidMessage):
            self.counters["dead_letters"] += 1
            batch.dead_letter(now, message.topic, found.reason, message.payload)
        elif message.row is HEARTBEAT:
            self._life.add(found.agent.agent_id, found.content, message.payload, now.monotonic)
        elif message.row is THREATS:
            received, refused = reports.received(found.agent, found.content)
            batch.reports += received
            for each in refused:
                self._refuse(batch, found.agent.agent_id, each, now)

    def _refuse(self, batch: _Batch, agent_id: str, refused: UndecodedReport, now: Instant) -> None:
        batch.dead_letter(now, THREATS.below_root(agent_id), refused.reason, refused.body)
        if refused.report_id is not None:
            batch.refused.append((agent_id, refused.report_id, refused.reason))

    def _commit(self, batch: _Batch, now: Instant) -> None:
        """Store a batch, and acknowledge it; on an error it may be committed again.

        Raises:
            StoreUnavailable: nothing of it is acknowledged.
        """
        intake, known, unfit = self._written(batch, now)
        rows = [row for _, row in intake.new]
        refused: dict[tuple[str, str], str] = {}
        for place, digest in known.items():
            report, row = intake.new[place]
            self.counters["reports_repeated"] += 1
            if digest != row.digest:
                refused[report.agent.agent_id, row.threat_id] = reports.OTHER_CONTENT
        for place in unfit:
            refused[intake.new[place][0].agent.agent_id, rows[place].threat_id] = _REJECTED
        self.counters["threats_stored"] += len(rows) - len(known) - len(unfit)
        self._has_stored = self._has_stored or len(known) + len(unfit) < len(rows)
        if batch.handles:
            self._acknowledge(batch.handles)
        self.receipts.stored(each for each in intake.stored if each not in refused)
        for agent_id, report_id, reason in (*batch.refused, *intake.refused):
            self.receipts.refused(agent_id, report_id, reason)
        for (agent_id, report_id), reason in refused.items():
            self.receipts.refused(agent_id, report_id, reason)
        for each in batch.submitted:
            each.submission.store_state = self._store_state() if each.submission.reports else {}
            each.command.reply(each.submission, None)

    def _written(self, batch: _Batch, now: Instant) -> _Written:
        """Decide on a batch and store it; requests with a report that cannot be stored are refused, and left out.

        Raises:
            StoreUnavailable: nothing is known to be stored.
        """
        while True:
            for each in (taken := batch.open):
                each.submission.received_at = now.wall
            intake = reports.decide(_NothingKnown(), batch.reports, [each.submission for each in taken], now.wall)
            whole = self._mark_submitted(intake, taken)
            failed = ((THREATS.below_root(each.agent.agent_id), len(each.document)) for each in intake.failed)
            letters = [*batch.letters, *(DeadLetter(now.wall, at, reports.FAILURE, size, b"") for at, size in failed)]
            rows = [row for _, row in intake.new]
            if not rows and not letters:
                return _Written(intake, {}, [])
            try:
                known, unfit = self._stored(rows, letters, whole)
            except StoredOtherwise as found:
                refuse_otherwise(taken, {rows[place][:2] for place in found.places})
            except StoreRejected as error:  # with submissions; the leader finds out which one
                refuse([each.command for each in batch.submitted], LeaderNeeded(str(error)))
                batch.submitted = []
            else:
                self._follow_generation()
                return _Written(intake, known, unfit)

    def _mark_submitted(self, intake: ReportIntake, taken: Sequence[Submitted]) -> frozenset[int]:
        """Return the places of reports in HTTP requests; mark the rows whose requests state their sending time."""
        if not taken:
            return frozenset()
        submitted = [(report, each.is_dated) for each in taken for report in each.submission.reports]
        keys = {reports.report_key(report) for report, _ in submitted}
        dated = {id(each) for each, is_ in submitted if is_}
        for place, (report, row) in enumerate(intake.new):
            if id(report) in dated:
                intake.new[place] = report, row._replace(ignored=row.ignored | DATED)
        return frozenset(place for place, (report, _) in enumerate(intake.new) if reports.report_key(report) in keys)

    def _stored(
        self, rows: list[ThreatRow], letters: list[DeadLetter], whole: AbstractSet[int]
    ) -> tuple[dict[int, bytes], list[int]]:
        try:
            return self._store.store(rows, letters, whole), []
        except StoreRejected as error:
            log.error("batch_rejected", reason=str(error))  # noqa: TRY400 -- the reason is enough
            self.counters["batches_rejected"] += 1
            if whole:
                raise
        if letters:
            self._store.store([], letters)
        return self._store.store_each(rows)

    def _follow_generation(self) -> None:
        """Withdraw receipts of a former generation, whose commits may be lost: their guards send the reports again."""
        if self._store.generation != self._generation:
            self._generation = self._store.generation
            self.receipts.withdraw_stored()

    def _store_state(self) -> dict[str, Any]:
        """Return the generation that the receipts' commits saw; without the leader's memory there is no mark."""
        return {} if self._generation is None else {"generation": self._generation}

    def _answer(self, now: Instant) -> None:
        """Acknowledge what is over an agent's budget, and send the receipts that are due."""
        deferred = self.inbox.take_deferred()
        self.counters["messages_deferred"] += len(deferred)
        handles = [entry.handle for entry in deferred if entry.handle is not None]
        if handles:
            self._acknowledge(handles)
        for entry in deferred:
            for report_id in entry.report_ids:
                self.receipts.deferred(entry.agent_id, report_id)
        self.receipts.send(self._publisher, self._agents.find, now)

    def _budget(self, processes: int) -> Budget:
        settings = self._settings
        return Budget(settings.agent_messages / processes, settings.agent_bytes / processes, settings.burst)
