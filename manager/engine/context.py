"""Per-batch context passed to handlers: the fleet, the batch, and queues that outlive the batch."""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from msgspec import Struct

from manager.domain.agents.agent import STAMP_IN_STORE, Agent, RegistrationStamp
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.registry import cap_stamp
from manager.domain.correlation.reports import is_late
from manager.domain.instant import Instant
from manager.engine.batch import Batch, DeadLetter, ThreatRow
from manager.engine.fleet import Fleet
from manager.engine.origin import MANAGER, Origin
from manager.engine.policies.blocklist_messages import BlocklistMessages
from manager.engine.policies.queue import PolicyQueue
from manager.engine.policies.signed_policy import PolicySerializer
from manager.engine.ports import Archive
from manager.engine.unwritten import Unwritten
from schemas.fast_heartbeats import AnyHeartbeat
from schemas.fast_http_heartbeats import AnyHttpHeartbeat
from schemas.fast_threats import AnyReport

_PAYLOAD_KEPT = 512


TIMESTAMP_AS_GIVEN = ClockOffset(0.0)
"""The clock of a report whose timestamp is taken as it is, because no offset of its agent's clock is known."""


class ReceivedReport(Struct, frozen=True, gc=False):
    """A verified and decoded report, before the check whether it is new.

    `clock` replaces the agent's clock offset in the computation of event time; None keeps the agent's own.
    `resent`: the agent has a receipt for it, which a store gave that has lost it.
    """

    agent: Agent
    report: AnyReport
    digest: bytes
    document: str
    clock: ClockOffset | None = None
    resent: bool = False

    def is_old_news(self, row: ThreatRow) -> bool:
        """Return whether people were told of a report: it is late, and was stored before by a store that lost it."""
        if not self.resent:
            return False
        happened = row.event_time if row.time_known else self.report.timestamp.timestamp()
        return is_late(happened, row.received_at)


class HandedOver(NamedTuple):
    """A heartbeat that an ingest worker verified, and when the worker received it, by this process's clocks."""

    agent: Agent
    heartbeat: AnyHeartbeat
    received: Instant


class HandedOverHttp(NamedTuple):
    """A heartbeat of an HTTP agent that an ingest worker received, or with None another request, and when."""

    agent: Agent
    heartbeat: AnyHttpHeartbeat | None
    received: Instant


@dataclass(slots=True, eq=False)
class Submission:
    """Reports of one HTTP request: all of them are stored, or none.

    Attributes:
        reports: The reports, in the order of the request.
        received_at: When the manager received them, in seconds since 1970.
        refusal: The reason why none of them is stored; None if all are.
        refused: The index of the report that prevents it; None if it is not known.
        store_state: The members about the store of a receipt for them; empty before the commit.
    """

    reports: list[ReceivedReport]
    received_at: float = 0.0
    refusal: str | None = None
    refused: int | None = None
    store_state: dict[str, Any] = field(default_factory=dict)

    def refuse(self, index: int | None, reason: str) -> None:
        """Refuse the whole submission because of one report."""
        self.refused, self.refusal = index, reason


@dataclass(slots=True)
class Context:
    """The state that handlers read and write while a batch is decided.

    `unwritten` outlives the batch.
    `origin` is the source of the current command.
    """

    fleet: Fleet
    batch: Batch
    serializer: PolicySerializer
    policy_queue: PolicyQueue
    blocklist_messages: BlocklistMessages
    archive: Archive
    unwritten: Unwritten
    origin: Origin = MANAGER
    new_agents: set[str] = field(default_factory=set)
    """Ids of the agents that the store does not have yet."""
    reports: list[ReceivedReport] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    decided_submissions: list[Submission] = field(default_factory=list)
    new_reports: deque[tuple[ReceivedReport, ThreatRow]] = field(default_factory=deque)
    """Reports that will be stored with this batch and are not correlated yet."""
    stored_elsewhere: list[tuple[int, ReceivedReport, ThreatRow]] = field(default_factory=list)
    """Reports that another process stored and this batch decides on: sequence, report and row."""
    stored: list[tuple[str, str]] = field(default_factory=list)
    """Agent id and report id of MQTT reports that are stored with this batch or were before."""
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """Agent id, report id and reason of MQTT reports that can never be stored."""
    handed_over: list[HandedOver] = field(default_factory=list)
    """Heartbeats that ingest workers verified, in the order of their messages."""
    handed_over_http: list[HandedOverHttp] = field(default_factory=list)
    """Signs of life of HTTP agents that ingest workers received, in the order of their messages."""
    flooding: set[str] = field(default_factory=set)
    """Agents that flood an ingest worker, as it says."""
    events_complete: bool = False
    """Whether the batch has the events that announce its threats."""

    def read_stamp(self, agent: Agent) -> RegistrationStamp | None:
        """Return the stamp of an agent, and put it into the agent's record if it is in the store alone.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        if agent.stamp is STAMP_IN_STORE:
            stamp = self.archive.stamp(agent.number)
            if stamp is not None:  # an earlier release may have stored it without normalisation
                stamp = replace(stamp, sent_at=cap_stamp(stamp.sent_at, self.fleet.restored_at))
            agent.stamp = stamp
        return agent.stamp

    def read_sources(self, agent: Agent) -> None:
        """Put the source reports of an agent into its record if they are in the store alone.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        if agent.vitals.sources is None:
            agent.vitals.sources = self.archive.sources(agent.number)

    def dead_letter(self, topic: str, reason: str, payload: bytes) -> None:
        """Count a message that changes nothing; keep its first bytes if the batch has room for another dead letter."""
        counters = self.fleet.counters
        counters["dead_letters"] += 1
        if len(self.batch.changes.dead_letters) < self.fleet.settings.dead_letters_in_batch:
            self.batch.changes.dead_letters.append(
                DeadLetter(self.batch.now.wall, topic, reason[:512], len(payload), payload[:_PAYLOAD_KEPT])
            )
