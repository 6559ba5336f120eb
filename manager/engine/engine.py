"""The one writer: takes what lies in the inbox, decides, commits one transaction, and only then acknowledges."""

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from manager.domain.agents.agent import Door
from manager.domain.budget import Budget
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.engine.batch import Batch, Outcome, Publication, ThreatRow
from manager.engine.commands.executor import execute
from manager.engine.context import Context, ReceivedReport
from manager.engine.fleet import Fleet
from manager.engine.flood_control import FloodSuspensions, RegistrationThrottle
from manager.engine.inbox import Command, Inbound, Inbox
from manager.engine.messages import clone_events, held_back_events, reports
from manager.engine.messages.dispatch import dispatch
from manager.engine.origin import MANAGER
from manager.engine.outgoing.receipts import Receipts
from manager.engine.outgoing.threat_events import ThreatEvents
from manager.engine.policies.blocklist_messages import BlocklistMessages
from manager.engine.policies.message import PolicySerializer
from manager.engine.policies.queue import PolicyQueue
from manager.engine.ports import BrokerAccess, Publisher, Store
from manager.engine.response import emergency_response
from manager.engine.response.incident_recorder import IncidentRecorder
from manager.errors import ManagerError, StoreRejected, StoreUnavailable
from schemas import codes
from schemas.fleet import FleetEvent
from schemas.presence import ManagerKeys
from schemas.topics import FLEET, MANAGER_KEYS, POLICY, RECEIPTS

log = structlog.get_logger(__name__)

_STALL = 10.0
"""Seconds between two steps from which the manager itself counts as having been deaf."""

_HOUSEKEEPING = 60.0
_SAID = 86_400.0
"""Seconds for which what a report said of logins and paths is remembered over a restart."""

_PRUNED_AT_ONCE = 2000


class Engine:
    """One inbox, one thread, one transaction for each batch. No method blocks but for the commit.

    Args:
        fleet: the state, restored from the store.
        store: where batches are committed.
        publisher: who publishes what follows from them.
        acknowledge: is given the handles of committed messages, in the order in which they came.
        broker_access: tells the broker whom it lets in.
    """

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        publisher: Publisher,
        acknowledge: Callable[[list[Any]], None],
        broker_access: BrokerAccess,
    ) -> None:
        settings = fleet.settings
        self.fleet = fleet
        self.inbox = Inbox(
            Budget(settings.agent_messages, settings.agent_bytes, settings.burst),
            settings.registrations_in_batch,
            batch_bytes=settings.batch_bytes,
        )
        self.policies_waiting = PolicyQueue()
        self.listeners: list[Callable[[FleetEvent], None]] = []
        self._store = store
        self._messages = BlocklistMessages(fleet.keyring, fleet.blocklists, settings.snapshot_every)
        self._incident_recorder = IncidentRecorder(
            settings.correlator, store.archive, emergency_response.react, fleet.allowlist
        )
        self._publisher = publisher
        self._acknowledge = acknowledge
        self._broker_access = broker_access
        self._suspensions = FloodSuspensions(fleet, self.inbox, broker_access)
        self._pace = RegistrationThrottle(broker_access, settings.registrations_in_batch)
        self._serializer = PolicySerializer(fleet.keyring)
        self._receipts = Receipts(settings.receipt_interval, settings.retry_after)
        self._threat_events = ThreatEvents(settings.receipt_interval)
        self._behind: set[str] = set()
        self._confirmed: dict[str, EffectivePolicy] = {}
        self._raised = False
        self._stuck: Context | None = None
        self._last_step: float | None = None
        self._next_sweep = self._next_flush = self._next_housekeeping = 0.0
        self.policies_waiting.add(
            policy.agent_id for policy in fleet.policies.effective.values() if not policy.published
        )

    def recall(self, now: Instant) -> None:
        """Remember incidents and recent reports, so that correlation goes on as if it had never stopped."""
        self._incident_recorder.recall(self._store.archive, now)
        evidence = self.fleet.responder.never_block.evidence
        for organization_id, site, agent_id, received, said in self._store.archive.telling(now.wall - _SAID):
            evidence.record(organization_id, site, agent_id, said, received)

    def adopt(self, policies: list[EffectivePolicy]) -> None:
        """Write effective policies that this release resolves in another way than the one before."""
        for policy in policies:
            self._confirmed[policy.agent_id] = policy
        self._raised = bool(policies)

    @property
    def has_work(self) -> bool:
        """Whether something can be done at once."""
        waiting = len(self.policies_waiting) > 0 and self._publisher.ready and not self._publisher.backlog
        unhurried = self.inbox.registrations if self._pace.is_held else 0
        return len(self.inbox) > unhurried or waiting

    @property
    def can_commit(self) -> bool:
        """Whether the last commit went through."""
        return self._stuck is None

    def connected(self, now: Instant, *, fresh: bool) -> None:
        """The broker is there; `fresh` if it kept nothing of this manager, so that all is published again."""
        if self.can_commit:
            self.fleet.liveness.open_door(Door.MQTT, now)
        self._broker_access.connected()
        self._publisher.publish(Publication(MANAGER_KEYS.address(), self._keys(), retained=True))
        effective = self.fleet.policies.effective.values()
        if fresh:
            self._messages.publish_all()
            for policy in effective:
                policy.published = False
        self.policies_waiting.add(policy.agent_id for policy in effective if not policy.published)

    def disconnected(self) -> None:
        """The broker is gone: MQTT agents do not age until it is back."""
        self.fleet.liveness.close_door(Door.MQTT)

    def opened_http(self, now: Instant) -> None:
        """The HTTP door is open: its agents age from now."""
        self.fleet.liveness.open_door(Door.HTTP, now)

    def step(self, now: Instant) -> bool:
        """Take one batch through to its acknowledgements; return whether it could commit.

        A batch that cannot commit is kept, whole, and tried again by the next step; nothing of it is acknowledged
        before, and nothing new is taken meanwhile.
        """
        self._mind_the_gap(now)
        context = self._stuck
        if context is None:
            context = self._desk(now)
            for item in self.inbox.take(self.fleet.settings.batch_limit, self._pace.take(now)):
                self._handle(context, item)
            self._follow_time(context, now)
        return self._commit(context, now)

    def suspend_flooding(self, now: Instant) -> bool:
        """Keep agents that flood out at once, for this waits for no batch; return whether there was any."""
        return self._suspensions.begin(now)

    def stop(self, now: Instant) -> bool:
        """Write what is written behind; return whether that could be committed."""
        self._next_flush = 0.0
        return self.step(now)

    def _desk(self, now: Instant) -> Context:
        return Context(
            self.fleet,
            Batch(now),
            self._serializer,
            self.policies_waiting,
            self._messages,
            self._store.archive,
            self._behind,
        )

    def _handle(self, context: Context, item: Inbound | Command) -> None:
        """Handle one item; whatever goes wrong in it, the batch goes on."""
        if isinstance(item, Inbound):
            if item.handle is not None:
                context.batch.handles.append(item.handle)
            try:
                dispatch(context, item)
            except Exception:
                log.exception("message_failed", topic=item.topic)
                self.fleet.counters["messages_failed"] += 1
                context.dead_letter(item.topic, "the manager failed on it", item.payload)
            return
        value: Any = None
        error: Exception | None = None
        context.origin = item.origin
        try:
            value = execute(context, item.request)
        except ManagerError as refused:
            error = refused
        except Exception as failure:  # the caller gets it, the batch goes on
            log.exception("command_failed", command=type(item.request).__name__)
            error = failure
        context.origin = MANAGER
        context.batch.outcomes.append(Outcome(item.reply, value, error))

    def _observe(self, context: Context, arrival: ReceivedReport, row: ThreatRow) -> None:
        """Correlate a report that will be stored; one that the rules fail on is stored without that."""
        try:
            emergency_response.note(context, arrival)
            self._incident_recorder.observe(context, arrival, row)
        except ManagerError:
            raise
        except Exception:
            log.exception("report_not_correlated", agent_id=arrival.agent.agent_id, threat_id=arrival.report.id)
            self.fleet.counters["reports_not_correlated"] += 1

    def _follow_time(self, context: Context, now: Instant) -> None:
        """Do what is due by time alone: wills that settled, the sweep, what is written behind."""
        fleet = self.fleet
        self._suspensions.follow_time(context, now)
        self._incident_recorder.follow_time(context, now)
        emergency_response.follow_time(context, now)
        clone_events.follow_time(context)
        for transition in fleet.liveness.apply_wills(fleet.registry.agents, now):
            context.batch.transition(transition)
        if now.monotonic >= self._next_sweep:
            self._next_sweep = now.monotonic + fleet.settings.sweep_interval
            for transition in fleet.liveness.mark_stale(fleet.registry.agents.values(), now):
                context.batch.transition(transition)
            held_back_events.look(context)
        if now.monotonic >= self._next_flush:
            self._next_flush = now.monotonic + fleet.settings.write_behind
            self._write_behind(context)
        if now.monotonic >= self._next_housekeeping:
            self._next_housekeeping = now.monotonic + (_HOUSEKEEPING if self._prune(now) < _PRUNED_AT_ONCE else 1.0)
            self.inbox.forget_idle(now.monotonic)
            self._receipts.forget_idle(now.monotonic)

    def _prune(self, now: Instant) -> int:
        settings = self.fleet.settings
        try:
            return self._store.prune(
                now.wall - settings.threat_retention, now.wall - settings.id_retention, _PRUNED_AT_ONCE
            )
        except StoreUnavailable as error:
            log.warning("prune_failed", reason=str(error))
            return 0

    def _write_behind(self, context: Context) -> None:
        for agent_id in self._behind:
            agent = self.fleet.registry.find(agent_id)
            if agent is not None:
                context.batch.save(agent)
        self._behind.clear()
        for policy in self._confirmed.values():
            if policy.agent_id in self.fleet.policies.effective:
                context.batch.save_policy(policy)
        self._confirmed.clear()
        if self._raised:
            self._raised = False
            context.batch.changes.fleet_revision = self.fleet.policies.revision

    def _commit(self, context: Context, now: Instant) -> bool:
        try:
            reports.settle(context, self._store, self._observe)
            if context.batch.changes:
                self._store.commit(context.batch.changes)
        except StoreRejected as error:
            log.error("batch_rejected", reason=str(error))  # noqa: TRY400 -- the reason says it all
            reports.salvage(context, self._store)
        except StoreUnavailable as error:
            if self._stuck is None:
                log.error("store_unavailable", reason=str(error))  # noqa: TRY400 -- the reason says it all
                self._stuck = context
                self.fleet.counters["commits_failed"] += 1
                for door in Door:
                    self.fleet.liveness.close_door(door)
            return False
        if self._stuck is not None:
            log.info("store_available")
            self._stuck = None
            self._hear_again(now)
        self._follow_up(context, now)
        return True

    def _follow_up(self, context: Context, now: Instant) -> None:
        """Tell the world what is committed: acknowledgements, answers, receipts, policies, events."""
        batch = context.batch
        if batch.handles:
            self._acknowledge(batch.handles)
        for outcome in batch.outcomes:
            outcome.reply(outcome.value, outcome.error)
        self._mind_the_door(batch)
        for publication in batch.publications:
            self._publisher.publish(publication)
        self._send_receipts(context, now)
        self._publish_policies()
        if self._publisher.ready:
            for snapshot in self._messages.due(now.monotonic):
                self._publisher.publish(snapshot)
        if batch.changes.threats:
            self._note_threats(context, now)
        announcement = self._threat_events.due(now)
        if announcement is not None:
            batch.events.append(announcement)
        for event in batch.events:
            self._announce(event)

    def _mind_the_door(self, batch: Batch) -> None:
        """Have agents let in before the replies to their registrations are published, and removed ones cut off."""
        for agent, replaced in batch.admitted:
            self._broker_access.admit(agent, replaced=replaced)
        for agent_id in batch.cut_off:
            self._broker_access.expel(agent_id)

    def _send_receipts(self, context: Context, now: Instant) -> None:
        receipts = self._receipts
        for agent_id, threat_id in context.stored:
            receipts.stored(agent_id, threat_id)
        for agent_id, threat_id, reason in context.refused:
            receipts.refused(agent_id, threat_id, reason)
        deferred = self.inbox.take_deferred()
        if deferred:
            self.fleet.counters["messages_deferred"] += len(deferred)
            self._acknowledge([entry.handle for entry in deferred if entry.handle is not None])
            for entry in deferred:
                if entry.threat_id is not None:
                    receipts.deferred(entry.agent_id, entry.threat_id)
        for agent_id, receipt in receipts.due(now.monotonic):
            agent = self.fleet.registry.find(agent_id)
            if agent is not None:
                topic = RECEIPTS.below_root(agent_id)
                payload = codes.with_mac(agent.credential.mac_key, topic, receipt.body())
                self._publisher.publish(Publication(RECEIPTS.address(agent_id), payload))

    def _publish_policies(self) -> None:
        if not self._publisher.ready:
            return
        slice_ = self.fleet.settings.policies_in_step
        for agent_id in self.policies_waiting.take(max(0, slice_ - self._publisher.backlog)):
            policy = self.fleet.policies.effective.get(agent_id)
            if policy is not None:
                confirm = partial(self._published, agent_id, policy.version)
                payload = self._serializer.message(policy)
                self._publisher.publish(Publication(POLICY.address(agent_id), payload, retained=True, confirm=confirm))

    def _published(self, agent_id: str, version: int) -> None:
        """The broker has an agent's policy: it need not be published again, unless it has changed since."""
        policy = self.fleet.policies.effective.get(agent_id)
        if policy is not None and policy.version == version and not policy.published:
            policy.published = True
            self._confirmed[agent_id] = policy

    def _note_threats(self, context: Context, now: Instant) -> None:
        rows = context.batch.changes.threats
        held_back_events.stored(self.fleet, rows, now)
        self.fleet.counters["threats_stored"] += len(rows)
        self._threat_events.stored(rows, self.fleet.registry.names_by_number)

    def _announce(self, event: FleetEvent) -> None:
        if self._publisher.ready:
            self._publisher.publish(Publication(FLEET.address(event.event), event.body(), qos=0))
        for listener in self.listeners:
            listener(event)

    def _keys(self) -> bytes:
        keyring = self.fleet.keyring
        keys = ManagerKeys(sign_key=keyring.sign_public, seal_key=keyring.seal_public)
        return codes.with_signature(keyring.sign_key, MANAGER_KEYS.below_root(), keys.body())

    def _mind_the_gap(self, now: Instant) -> None:
        """A manager that was suspended was deaf, too."""
        last, self._last_step = self._last_step, now.monotonic
        if last is not None and now.monotonic - last > _STALL:
            log.warning("manager_stalled", seconds=round(now.monotonic - last, 1))
            liveness = self.fleet.liveness
            for door in Door:
                if liveness.is_open(door):
                    liveness.close_door(door)
                    liveness.open_door(door, now)

    def _hear_again(self, now: Instant) -> None:
        self.fleet.liveness.open_door(Door.HTTP, now)
        if self._publisher.ready:
            self.fleet.liveness.open_door(Door.MQTT, now)
