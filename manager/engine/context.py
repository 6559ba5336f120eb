"""What a handler works with: the fleet, the batch that is being decided, and what waits beyond it."""

from collections import deque
from dataclasses import dataclass, field

from manager.domain.agents.agent import Agent
from manager.domain.agents.clock_offset import ClockOffset
from manager.engine.batch import Batch, DeadLetter, ThreatRow
from manager.engine.fleet import Fleet
from manager.engine.origin import MANAGER, Origin
from manager.engine.policies.blocklist_messages import BlocklistMessages
from manager.engine.policies.message import PolicySerializer
from manager.engine.policies.queue import PolicyQueue
from manager.engine.ports import Archive
from schemas.threats import ThreatReport

_PAYLOAD_KEPT = 512


@dataclass(slots=True)
class ReceivedReport:
    """A report that was verified and decoded; whether it is new, the store knows.

    `clock` tells event time where the agent's own clock offset does not.
    """

    agent: Agent
    report: ThreatReport
    digest: bytes
    document: str
    clock: ClockOffset | None = None


@dataclass(slots=True, eq=False)
class Submission:
    """Reports that came together over HTTP: all of them are stored, or none.

    `refused` is the index of the one that spoils it: the store has its id with other content, or cannot hold it.
    """

    arrivals: list[ReceivedReport]
    refused: int | None = None


@dataclass(slots=True)
class Context:
    """One batch's work place. `behind` outlives it: agents whose records are written later.

    `origin` is who asked for what is being handled just now.
    """

    fleet: Fleet
    batch: Batch
    serializer: PolicySerializer
    queue: PolicyQueue
    messages: BlocklistMessages
    archive: Archive
    behind: set[str]
    origin: Origin = MANAGER
    arrivals: list[ReceivedReport] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    settled: list[Submission] = field(default_factory=list)
    fresh: deque[tuple[ReceivedReport, ThreatRow]] = field(default_factory=deque)
    stored: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)

    def dead_letter(self, topic: str, reason: str, payload: bytes) -> None:
        """Count a message that changes nothing, and keep its first bytes while the batch has room for such."""
        counters = self.fleet.counters
        counters["dead_letters"] += 1
        if len(self.batch.changes.dead_letters) < self.fleet.settings.dead_letters_in_batch:
            self.batch.changes.dead_letters.append(
                DeadLetter(self.batch.now.wall, topic, reason[:512], len(payload), payload[:_PAYLOAD_KEPT])
            )
