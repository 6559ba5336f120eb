"""Engine: the single writer. Processes the inbox in batches: decides, commits one transaction, then acknowledges."""

from collections.abc import Callable
from typing import Any

import structlog

from manager.domain.agents.agent import Door
from manager.domain.budget import Budget
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.engine import alerting, ticks
from manager.engine.batch import Batch, CommandAnswer
from manager.engine.clock_monitor import ClockMonitor, StallDetector
from manager.engine.commands import agent_changes
from manager.engine.commands.executor import execute
from manager.engine.commands.operators import OPERATOR_ADDRESSES
from manager.engine.commands.signing_keys import ENDED_EVERY, end_rotations, keys_publication
from manager.engine.context import Context
from manager.engine.events import EventRow
from manager.engine.failure_isolation import isolated
from manager.engine.fleet import Fleet
from manager.engine.flood_control import FloodSuspensions, RegistrationThrottle
from manager.engine.inbox import Command, Inbound, Inbox
from manager.engine.messages import clone_events, reports
from manager.engine.messages.handlers import dispatch, record_gathered
from manager.engine.messages.stored_elsewhere import StoredElsewhere
from manager.engine.messages.verification import verify_ahead
from manager.engine.origin import MANAGER
from manager.engine.outgoing.after_commit import AfterCommit
from manager.engine.outgoing.threat_events import ThreatEvents
from manager.engine.piecewise_commit import PiecewiseCommit
from manager.engine.policies.blocklist_messages import BlocklistMessages
from manager.engine.policies.lost_reports import StoreRun
from manager.engine.policies.never_lists import NeverLists
from manager.engine.policies.publisher import PolicyPublisher
from manager.engine.policies.queue import PolicyQueue
from manager.engine.policies.signed_policy import PolicySerializer
from manager.engine.ports import BrokerAccess, Publisher, Store
from manager.engine.response import emergency_response, manual_response
from manager.engine.response.incident_recorder import IncidentRecorder
from manager.engine.response.ownership import OwnershipCheck
from manager.engine.response.settings_check import SettingsCheck
from manager.engine.system_events import SystemEvents
from manager.engine.write_behind import WriteBehind
from manager.errors import ManagerError, StoreRejected, StoreUnavailable

log = structlog.get_logger(__name__)


class Engine:
    """Processes batches from one inbox in one thread, each in one transaction. Only the commit blocks.

    Args:
        fleet: the in-memory state, restored from the store.
        store: commits the batches.
        publisher: sends publications to the broker.
        acknowledge: called with the handles of committed messages, in the order of their arrival.
        broker_access: controls which agents the broker accepts.
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
        self._store = store
        store.work_beside_commits(self._verify_ahead)
        self._publisher = publisher
        self._broker_access = broker_access
        self._serializer = PolicySerializer(fleet.keyring)
        self._blocklist_messages = BlocklistMessages(fleet.keyring, fleet.blocklists, settings.snapshot_every)
        self._write_behind = WriteBehind(fleet)
        self._policies = PolicyPublisher(fleet, publisher, self._serializer, self._write_behind)
        self._incident_recorder = IncidentRecorder(settings.correlator, store.archive, emergency_response.react)
        self._clock_monitor = ClockMonitor(fleet, self._incident_recorder.correlator)
        self._suspensions = FloodSuspensions(fleet, self.inbox, broker_access)
        self._registration_throttle = RegistrationThrottle(broker_access, settings.registrations_in_batch)
        self._after_commit = AfterCommit(
            fleet,
            self.inbox,
            publisher=publisher,
            acknowledge=acknowledge,
            broker_access=broker_access,
            policies=self._policies,
            blocklist_messages=self._blocklist_messages,
        )
        self._threat_events = ThreatEvents(settings.receipt_interval, fleet.registry.find_by_number)
        self.stored_elsewhere = StoredElsewhere(store)
        self.system_events = SystemEvents()
        self._uncommitted: Context | None = None
        self._available = True
        self._piecewise_commit: PiecewiseCommit | None = None
        self._stall_detector = StallDetector(fleet.liveness)
        self._housekeeping = ticks.Housekeeping(
            fleet, store, (self.inbox.forget_idle, self._after_commit.receipts.forget_idle)
        )
        self._sweep = ticks.Periodic(settings.sweep_interval, ticks.sweep)
        self._ticks: tuple[ticks.Tick, ...] = (
            StoreRun().tick,
            self._suspensions.tick,
            self.system_events.tick,
            self._incident_recorder.tick,
            SettingsCheck(fleet).tick,
            OwnershipCheck().tick,
            emergency_response.tick,
            manual_response.tick,
            clone_events.tick,
            ticks.watch_workers,
            NeverLists(fleet).tick,
            ticks.Periodic(ticks.EXPIRY_INTERVAL, agent_changes.remove_expired),
            ticks.settle_wills,
            ticks.Periodic(ticks.SILENCE_INTERVAL, ticks.look_for_silence),
            self._sweep,
            self._write_behind.tick,
            ticks.Periodic(ticks.ACCESS_INTERVAL, ticks.record_access),
            ticks.Periodic(ENDED_EVERY, end_rotations),
            ticks.Periodic(ticks.EPHEMERAL_INTERVAL, agent_changes.remove_ephemeral),
        )

    def restore_correlation(self, now: Instant) -> None:
        """Load incidents, recent reports and evidence, so that correlation continues after a restart.

        The new agents of the last hour still count towards the enrollment rate.
        """
        archive = self._store.archive
        before_step = now.wall - self._clock_monitor.pending_step(now)
        operators = self.fleet.meta.get(OPERATOR_ADDRESSES)
        self.fleet.operator_addresses.load(
            operators, Instant(before_step, now.monotonic), lambda name: self.fleet.text_of_token(name, now.wall)
        )
        self.fleet.enrollment_rate.load(self.fleet.registry.agents.values(), self.fleet.tokens, now)
        self._incident_recorder.restore(archive, before_step)
        self.fleet.responder.never_block.evidence.load(archive.evidence())

    def store_restored_policies(self, policies: list[EffectivePolicy]) -> None:
        """Store effective policies that this release resolves differently from the previous release."""
        self._write_behind.add_restored_policies(policies)

    @property
    def listeners(self) -> list[Callable[[EventRow], None]]:
        """Functions that are called with every fleet event, after its commit."""
        return self._after_commit.listeners

    @property
    def policy_queue(self) -> PolicyQueue:
        """The agents whose effective policy must be published."""
        return self._policies.queue

    @property
    def has_work(self) -> bool:
        """Whether a step has work to do now."""
        return self.stored_elsewhere.has_work or self.is_behind

    @property
    def is_behind(self) -> bool:
        """Whether a step has left work, or messages or commands wait that were not there then."""
        held = self.inbox.registrations if self._registration_throttle.is_held else 0
        is_behind = len(self.inbox) > held or self.stored_elsewhere.is_behind or self.fleet.liveness.is_behind
        return is_behind or self._policies.has_work or self._write_behind.has_work

    @property
    def can_commit(self) -> bool:
        """Whether the last commit succeeded and no transaction has failed to begin since."""
        return self._available

    def connected(self, now: Instant, *, fresh: bool) -> None:
        """Handle a connection to the broker; if `fresh`, the broker has no state, and everything is published again."""
        if self.can_commit:
            self.fleet.liveness.open_door(Door.MQTT, now)
        self.system_events.broker_connected()
        self._broker_access.connected()
        self._publisher.publish(keys_publication(self.fleet, now.wall))
        for publication in self.fleet.retained_clearing.publications():
            self._publisher.publish(publication)
        if fresh:
            self._blocklist_messages.publish_all()
            for policy in self.fleet.policies.effective.values():
                policy.published = False
        self._policies.add_unpublished()

    def use_features(self, features: tuple[str, ...], now: Instant) -> None:
        """Announce other features to guards, at once or with the next connection to the broker."""
        log.info("features_announced", features=list(features), before=list(self.fleet.features))
        self.fleet.features = features
        if self._publisher.ready:
            self._publisher.publish(keys_publication(self.fleet, now.wall))

    def disconnected(self) -> None:
        """Handle the loss of the broker: MQTT agents do not become stale until it is back."""
        self.system_events.broker_lost()
        self.fleet.liveness.close_door(Door.MQTT)

    def http_door_opened(self, now: Instant) -> None:
        """Start the silence timers of HTTP agents."""
        self.fleet.liveness.open_door(Door.HTTP, now)

    def step(self, now: Instant) -> bool:
        """Process one batch from the inbox up to its acknowledgements; return whether it was committed.

        A batch that cannot be committed is kept and committed by a later step. Until then nothing of it is
        acknowledged, and no other batch begins. Errors do not end a step; they are logged and counted.
        """
        with isolated(self.fleet.counters, "stall detection"):
            self._stall_detector.check(now)
        context = self._uncommitted or self._decide(now)
        if context is None or not self._commit(context, now):
            self._work_without_store(now)
            return False
        with isolated(self.fleet.counters, "housekeeping"):  # outside the batch's transaction: it may be rolled back
            self._housekeeping.run(now)
        return True

    def suspend_flooding(self, now: Instant) -> bool:
        """Suspend agents that flood, before the next batch; return whether there was any."""
        return self._suspensions.suspend_flooding(now)

    def stop(self, now: Instant) -> bool:
        """Commit the pending write-behind records; return whether they were committed."""
        self._ticks = (*self._ticks, self._write_behind.write_all)
        return self.step(now)

    def _new_context(self, now: Instant) -> Context:
        return Context(
            self.fleet,
            Batch(now),
            self._serializer,
            self._policies.queue,
            self._blocklist_messages,
            self._store.archive,
            self._write_behind.unwritten,
        )

    def _decide(self, now: Instant) -> Context | None:
        """Take a batch from the inbox and decide it; None if the store cannot commit.

        Commands that change the store are executed only within a transaction: after the error that the store cannot
        commit, a caller must not find its change there later. A transaction begins for them, and while the store is
        known to be unavailable.
        """
        has_transaction = not self._available or self.inbox.needs_transaction
        if has_transaction and not self._begin(now):
            return None
        context = self._new_context(now)
        with isolated(self.fleet.counters, "clock monitor"):
            self._clock_monitor.tick(context, now)
        for item in self._take(now, has_transaction=has_transaction):
            if isinstance(item, Inbound):
                self._handle_message(context, item)
            else:
                self._handle_command(context, item)
        with isolated(self.fleet.counters, "gathered heartbeats"):
            record_gathered(context)
            self.inbox.add_flooding(context.flooding)
        with isolated(self.fleet.counters, "reports stored elsewhere"):
            self.stored_elsewhere.take(context, now)
        for tick in self._ticks:
            with isolated(self.fleet.counters, "tick"):
                tick(context, now)
        return context

    def _begin(self, now: Instant) -> bool:
        """Begin a transaction; return whether the store has begun it."""
        try:
            self._store.begin()
        except Exception as error:  # noqa: BLE001 -- after any failure here, no command may be executed
            self._set_unavailable(error, now)
            return False
        return True

    def _work_without_store(self, now: Instant) -> None:
        """Do the work that needs no commit while the store is unavailable, so that no queue grows without limit."""
        self.inbox.drop_withdrawn()
        self._after_commit.defer(now)
        with isolated(self.fleet.counters, "suspensions"):
            self._suspensions.resume(now)

    def _take(self, now: Instant, *, has_transaction: bool) -> list[Inbound | Command]:
        with isolated(self.fleet.counters, "inbox"):
            registrations = self._registration_throttle.allowance(now)
            return self.inbox.take(self.fleet.settings.batch_limit, registrations, has_transaction=has_transaction)
        return []

    def _handle_message(self, context: Context, message: Inbound) -> None:
        """Handle one message; its failure does not affect the rest of the batch."""
        if message.handle is not None:
            context.batch.handles.append(message.handle)
        try:
            dispatch(context, message)
        except Exception:
            log.exception("message_failed", topic=message.topic)
            self.fleet.counters["messages_failed"] += 1
            context.dead_letter(message.topic, "the manager failed on it", message.payload)

    def _handle_command(self, context: Context, command: Command) -> None:
        value: Any = None
        error: Exception | None = None
        context.origin, batch = command.origin, context.batch
        lengths = batch.lengths()
        try:
            value = execute(context, command.request)
        except ManagerError as refused:
            error = refused
        except Exception as failure:  # the caller gets the error, the batch continues
            log.exception("command_failed", command=type(command.request).__name__)
            self.fleet.counters["commands_failed"] += 1
            error = failure
        context.origin = MANAGER
        batch.complete_undo(command.request, lengths)
        batch.answers.append(CommandAnswer(command.request, command.reply, value, error))

    def _commit(self, context: Context, now: Instant) -> bool:
        """Commit a batch and carry out its effects, or keep it for the next step; return whether it is committed."""
        try:
            self._write(context)
        except Exception as error:  # noqa: BLE001 -- after any failure here, nothing may be acknowledged
            self._uncommitted = context
            self._set_unavailable(error, now)
            return False
        finally:
            with isolated(self.fleet.counters, "transaction"):
                self._store.abandon()
        self._uncommitted = self._piecewise_commit = None
        self._set_available(now)
        self._after_commit.run(context, now)
        return True

    def _write(self, context: Context) -> None:
        """Write a batch in one transaction; a batch that does not fit is written piece by piece."""
        reports.process_reports(context, self._store, self._incident_recorder.correlate)
        if self._piecewise_commit is None:
            self._complete_events(context)
            if not context.batch.changes:
                return
            try:
                self._store.commit(context.batch.changes)
            except StoreRejected as error:
                log.error("batch_rejected", reason=str(error))  # noqa: TRY400 -- the reason is enough
                self.fleet.counters["batches_rejected"] += 1
                self._threat_events.take_back(context.batch)
                self._piecewise_commit = PiecewiseCommit(context)
            else:
                return
        self._piecewise_commit.run(self._store)
        self._threat_events.add(context.batch)

    def _verify_ahead(self, is_committed: Callable[[], bool]) -> None:
        with isolated(self.fleet.counters, "verification ahead"):
            upcoming = self.inbox.upcoming(self.fleet.settings.batch_limit)
            verify_ahead(self.fleet.registry.find, upcoming, is_committed)

    def _complete_events(self, context: Context) -> None:
        """Add the events that announce the batch's threats, and choose the channels of all, once for each batch."""
        if not context.events_complete:
            context.events_complete = True
            with isolated(self.fleet.counters, "threat events"):
                self._threat_events.announce(context.batch)
            with isolated(self.fleet.counters, "alerting"):
                alerting.choose(self.fleet, context.batch.changes.events)

    def _set_unavailable(self, error: Exception, now: Instant) -> None:
        """Stop the silence timers and report the manager as not ready, at the first error."""
        if self._available:
            reason = str(error) or type(error).__name__
            log.error("store_unavailable", reason=reason, exc_info=not isinstance(error, StoreUnavailable) and error)
            self.system_events.store_failed(reason, now)
            self._available = False
            self.fleet.counters["commits_failed"] += 1
            for door in Door:
                self.fleet.liveness.close_door(door)

    def _set_available(self, now: Instant) -> None:
        """Give every agent its full grace after the store was unavailable."""
        if not self._available:
            log.info("store_available")
            self.system_events.store_works()
            self._available = True
            self.fleet.liveness.open_door(Door.HTTP, now)
            if self._publisher.ready:
                self.fleet.liveness.open_door(Door.MQTT, now)
