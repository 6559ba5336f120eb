"""After the commit: acknowledgements, answers, broker access, publications, receipts, policies and fleet events."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from manager.domain.instant import Instant
from manager.engine.batch import Batch, Publication
from manager.engine.context import Context
from manager.engine.events import EventRow
from manager.engine.failure_isolation import isolated
from manager.engine.fleet import Fleet
from manager.engine.inbox import Inbox
from manager.engine.messages import held_back
from manager.engine.outgoing.receipts import Receipts
from manager.engine.policies.blocklist_messages import BlocklistMessages
from manager.engine.policies.publisher import PolicyPublisher
from manager.engine.ports import BrokerAccess, Publisher
from schemas.topics import FLEET


class AfterCommit:
    """The effects of a committed batch, in order.

    Args:
        fleet: the agents and counters.
        inbox: contains the deferred messages.
        publisher: sends publications.
        acknowledge: called with the handles of committed messages, in the order of their arrival.
        broker_access: applies enrollments and removals at the broker.
        policies: publishes effective policies.
        blocklist_messages: returns the snapshots that are due.
    """

    def __init__(
        self,
        fleet: Fleet,
        inbox: Inbox,
        *,
        publisher: Publisher,
        acknowledge: Callable[[list[Any]], None],
        broker_access: BrokerAccess,
        policies: PolicyPublisher,
        blocklist_messages: BlocklistMessages,
    ) -> None:
        settings = fleet.settings
        self._fleet = fleet
        self._inbox = inbox
        self._publisher = publisher
        self._acknowledge = acknowledge
        self._broker_access = broker_access
        self._policies = policies
        self._blocklist_messages = blocklist_messages
        self.receipts = Receipts(settings.receipt_interval, settings.retry_after, fleet.store_history.receipt_members)
        self.listeners: list[Callable[[EventRow], None]] = []

    def run(self, context: Context, now: Instant) -> None:
        """Carry out the effects of a committed batch; none of them depends on the success of another."""
        batch = context.batch
        self._fleet.store_history.note_commit(batch.changes.meta)
        with self._isolated("acknowledgements"):
            if batch.handles:
                self._acknowledge(batch.handles)
        for submission in context.decided_submissions:
            submission.store_state = self._fleet.store_history.receipt_members() if submission.reports else {}
        for answer in batch.answers:
            with self._isolated("answer"):
                answer.reply(answer.value, answer.error)
        self._update_broker_access(batch)
        for publication in batch.publications:
            with self._isolated("publication"):
                self._publisher.publish(publication)
        with self._isolated("receipts"):
            self._send_receipts(context, now)
        with self._isolated("policies"):
            self._policies.publish_slice(now.wall)
        with self._isolated("blocklist snapshots"):
            self._publish_snapshots(now)
        with self._isolated("stored threats"):
            self._count_threats(context, now)
        self._announce_events(batch)

    def _isolated(self, part: str) -> AbstractContextManager[None]:
        return isolated(self._fleet.counters, part)

    def _update_broker_access(self, batch: Batch) -> None:
        """Admit agents before the replies to their registrations are published, and disconnect removed ones."""
        for agent, replaced in batch.admitted:
            with self._isolated("admission"):
                self._broker_access.admit(agent, replaced=replaced)
        for agent_id in batch.cut_off:
            with self._isolated("expulsion"):
                self._broker_access.expel(agent_id)

    def _send_receipts(self, context: Context, now: Instant) -> None:
        receipts = self.receipts
        receipts.stored(context.stored)
        for agent_id, report_id, reason in context.refused:
            receipts.refused(agent_id, report_id, reason)
        self._take_deferred()
        self.receipts.send(self._publisher, self._fleet.registry.find, now)

    def defer(self, now: Instant) -> None:
        """Acknowledge messages over their agents' budgets and publish receipts; it needs no commit."""
        with self._isolated("deferral"):
            self._take_deferred()
            self.receipts.send(self._publisher, self._fleet.registry.find, now)

    def _take_deferred(self) -> None:
        """Acknowledge deferred messages, and add the reports among them to receipts."""
        deferred = self._inbox.take_deferred()
        if not deferred:
            return
        self._fleet.counters["messages_deferred"] += len(deferred)
        self._acknowledge([entry.handle for entry in deferred if entry.handle is not None])
        for entry in deferred:
            for report_id in entry.report_ids:
                self.receipts.deferred(entry.agent_id, report_id)

    def _publish_snapshots(self, now: Instant) -> None:
        if self._publisher.ready:
            for snapshot in self._blocklist_messages.due(now):
                self._publisher.publish(snapshot)

    def _count_threats(self, context: Context, now: Instant) -> None:
        """Count stored threats."""
        changes = context.batch.changes
        if changes.new_threats:
            held_back.record_stored(self._fleet, changes.new_threats, now)
            self._fleet.counters["threats_stored"] += len(changes.threats)
            self._fleet.counters["threats_stored_elsewhere"] += len(changes.elsewhere)

    def _announce_events(self, batch: Batch) -> None:
        for row in (*batch.changes.events, *batch.passing_events):
            with self._isolated("fleet event"):
                if self._publisher.ready:
                    self._publisher.publish(Publication(FLEET.address(row.event.event), row.body, qos=0))
            for listener in self.listeners:
                with self._isolated("event listener"):
                    listener(row)
