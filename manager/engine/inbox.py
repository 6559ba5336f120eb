"""Inbox: queues messages and commands for the engine, with one lane for each agent, so that no flood delays others.

A message over its agent's budget is not queued: a report is deferred by receipt and stays in the guard's outbox. An
agent that ignores this floods; the threshold is a quarter of a full budget, more than a guard ever has in flight.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from msgspec import Struct, structs

from manager.domain.budget import Budget, TokenBucket, drop_full
from manager.domain.ingest.topics import WORKER_LIFE
from manager.engine.origin import MANAGER, Origin
from schemas.limits import MIB
from schemas.report_batches import stated_count, stated_ids
from schemas.topics import REGISTRATION, THREATS, Topic

_EXCESS_SHARE = 0.25


class Inbound(Struct, gc=False):
    """A message from the broker; `topic` is below the root, `handle` acknowledges the message.

    `weight` is the number of messages for which it counts: that of the reports in it.
    `verified` is what `messages.verification.verify_ahead` found before the message's batch.
    """

    row: Topic
    identifier: str
    topic: str
    payload: bytes
    handle: Any
    weight: int = 1
    verified: Any = None


@dataclass(slots=True, eq=False)
class Command:
    """A request of a person or HTTP agent; `reply` is called with the value or the error.

    `request` is one of the values of `manager.engine.commands.requests`; `origin` is its source. A command is claimed
    once: by the engine, which executes it, or by its sender, which withdraws it.
    """

    request: Any
    reply: Callable[[Any, Exception | None], None]
    origin: Origin = MANAGER
    _unclaimed: list[None] = field(default_factory=lambda: [None])

    def claim(self) -> bool:
        """Return True to the first caller and False to every other; safe from any thread."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    @property
    def needs_transaction(self) -> bool:
        """Whether the command may only be executed within a transaction; requests say otherwise by an attribute."""
        return getattr(self.request, "needs_transaction", True)

    @property
    def is_claimed(self) -> bool:
        """Whether the command is being executed or was withdrawn."""
        return not self._unclaimed


class Deferred(NamedTuple):
    """A message over its agent's budget, with the ids of its reports; none if the message has no reports."""

    agent_id: str
    report_ids: list[str]
    handle: Any


@dataclass(slots=True)
class Inbox:
    """Lanes of agents, served in turn, one small lane of registrations, and one of commands.

    Attributes:
        budget: rate and burst of each agent.
        registrations_in_batch: the maximum number of registrations in one batch.
        registrations_waiting: the maximum number of waiting registrations; a client repeats a dropped registration.
        batch_bytes: bytes of payload at which a batch is full, so that large messages delay no agent.
    """

    budget: Budget
    registrations_in_batch: int = 50
    registrations_waiting: int = 1000
    batch_bytes: int = 2 * MIB
    _lanes: OrderedDict[str, deque[Inbound]] = field(default_factory=OrderedDict)
    _registrations: deque[Inbound] = field(default_factory=deque)
    _commands: deque[Command] = field(default_factory=deque)
    _deferred: list[Deferred] = field(default_factory=list)
    _budgets: dict[str, TokenBucket] = field(default_factory=dict)
    _excess_budgets: dict[str, TokenBucket] = field(default_factory=dict)
    _flooding: set[str] = field(default_factory=set)
    _waiting: int = 0
    _weight: int = 0
    _bytes: int = 0
    _excess_budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        """Derive the budget of deferred messages, above which an agent floods."""
        self._excess_budget = replace(self.budget, burst=self.budget.burst * _EXCESS_SHARE)

    def __len__(self) -> int:
        """Return the number of waiting messages and commands."""
        return self._waiting + len(self._registrations) + len(self._commands)

    @property
    def bytes(self) -> int:
        """The number of waiting payload bytes."""
        return self._bytes

    def has_room(self, messages: int, size: int) -> bool:
        """Return whether fewer messages and commands, and fewer bytes of payload, wait than these."""
        return self._waiting + len(self._registrations) + len(self._commands) < messages and self._bytes < size

    def put(self, message: Inbound, now: float) -> None:
        """Add a message and charge its agent's budget; `now` is monotonic.

        What an ingest worker hands over has been charged there.
        """
        row, agent_id, size = message.row, message.identifier, len(message.payload)
        if row is REGISTRATION:
            if len(self._registrations) >= self.registrations_waiting:
                self._deferred.append(Deferred(agent_id, [], message.handle))
                return
            self._registrations.append(message)
            self._bytes += size
            return
        count = stated_count(message.payload) if row is THREATS else 1
        if row is not WORKER_LIFE:
            bucket = self._budgets.get(agent_id) or self._bucket(self._budgets, self.budget, agent_id, now)
            if not bucket.try_consume(size, now, count):
                self._defer(message, count, now)
                return
        lane = self._lanes.get(agent_id)
        if lane is None:
            lane = self._lanes[agent_id] = deque()
        lane.append(message if count == 1 else structs.replace(message, weight=count))
        self._waiting += 1
        self._weight += count
        self._bytes += size

    def submit(self, command: Command) -> None:
        """Add a command; safe from any thread."""
        self._commands.append(command)

    @property
    def needs_transaction(self) -> bool:
        """Whether a command waits that may only be executed within a transaction."""
        self.drop_withdrawn()
        return any(command.needs_transaction for command in tuple(self._commands))

    @property
    def has_commands(self) -> bool:
        """Whether a command waits."""
        return bool(self._commands)

    def take_commands(self) -> list[Command]:
        """Remove, claim and return the waiting commands; withdrawn ones are dropped."""
        taken = [self._commands.popleft() for _ in range(len(self._commands))]
        return [command for command in taken if command.claim()]

    def drop_withdrawn(self) -> None:
        """Remove withdrawn commands from the front of the queue; senders withdraw in the order of arrival."""
        while self._commands and self._commands[0].is_claimed:
            self._commands.popleft()

    @property
    def registrations(self) -> int:
        """The number of waiting registrations."""
        return len(self._registrations)

    def take(
        self, limit: int, registrations: int | None = None, *, has_transaction: bool = True
    ) -> list[Inbound | Command]:
        """Remove and return the next batch: commands, a few registrations, and as many messages of each agent.

        An agent's messages follow each other in a batch: what is in memory of an agent is handled at once.

        While messages of agents wait, commands get at most half of the batch. A command or message counts for as many
        messages as it has reports, so that those with many reports make no longer batches than those with one.

        Args:
            limit: the maximum number of items; messages end a batch that they fill.
            registrations: the maximum number of registrations among them, if fewer than usual.
            has_transaction: whether a transaction is open; without one, the first command that needs it and all behind
                it stay in the inbox.
        """
        bytes_left_at_end = self._bytes - self.batch_bytes
        taken: list[Inbound | Command] = []
        commands = max(1, limit // 2) if self._waiting else limit
        weight = 0
        while self._commands and weight < commands:
            if self._commands[0].needs_transaction and not has_transaction:
                break
            command = self._commands.popleft()
            if command.claim():
                taken.append(command)
                weight += getattr(command.request, "weight", 1)
        most = self.registrations_in_batch if registrations is None else registrations
        count = min(len(self._registrations), most, limit - len(taken))
        taken += [self._taken(self._registrations.popleft()) for _ in range(count)]
        room = limit - len(taken)
        if self._weight <= room and bytes_left_at_end <= 0:
            return taken + self._take_all()
        while self._lanes and room > 0 and self._bytes > bytes_left_at_end:
            share, size = room // len(self._lanes), (self._bytes - bytes_left_at_end) // len(self._lanes)
            for _ in range(len(self._lanes)):
                room -= self._take_share(taken, share, size)
                if room <= 0 or self._bytes <= bytes_left_at_end:
                    break
        return taken

    def upcoming(self, limit: int) -> Iterator[Inbound]:
        """Yield messages of agents that the next batch of this limit may have, in its order; they stay.

        Nothing may be put or taken meanwhile.
        """
        lanes = max(1, len(self._lanes))
        room, share = limit, limit // lanes
        bytes_left, size = self.batch_bytes, self.batch_bytes // lanes
        for lane in self._lanes.values():
            weight_left, size_left = share, size
            for message in lane:
                yield message
                weight_left -= message.weight
                size_left -= len(message.payload)
                if weight_left <= 0 or size_left <= 0:
                    break
            room -= share - weight_left
            bytes_left -= size - size_left
            if room <= 0 or bytes_left <= 0:
                return

    def _take_share(self, taken: list[Inbound | Command], weight: int, size: int) -> int:
        """Move messages of the next agent to a batch until they have this weight or size; return their weight."""
        agent_id, lane = self._lanes.popitem(last=False)
        first, weight_left, size_left = len(taken), weight, size
        while lane:
            message = lane.popleft()
            taken.append(message)
            weight_left -= message.weight
            size_left -= len(message.payload)
            if weight_left <= 0 or size_left <= 0:
                break
        self._waiting -= len(taken) - first
        self._weight -= weight - weight_left
        self._bytes -= size - size_left
        if lane:
            self._lanes[agent_id] = lane
        return weight - weight_left

    def _take_all(self) -> list[Inbound | Command]:
        """Remove and return all messages of agents, which fit in one batch: nobody waits for a turn."""
        messages = [message for lane in self._lanes.values() for message in lane]
        self._lanes.clear()
        self._waiting = self._weight = 0
        self._bytes -= sum(len(message.payload) for message in messages)
        return list(messages)

    def take_deferred(self) -> list[Deferred]:
        """Return and clear the messages deferred since the last call."""
        deferred, self._deferred = self._deferred, []
        return deferred

    @property
    def is_flooded(self) -> bool:
        """Whether `take_flooding` would return an agent."""
        return bool(self._flooding)

    def take_flooding(self) -> set[str]:
        """Return and clear the agents with more deferred messages than a guard has in flight."""
        flooding, self._flooding = self._flooding, set()
        return flooding

    def use_budget(self, budget: Budget) -> None:
        """Give each agent another budget, full at first."""
        self.budget = budget
        self.__post_init__()
        self._budgets.clear()
        self._excess_budgets.clear()

    def add_flooding(self, agent_ids: Iterable[str]) -> None:
        """Add agents that flood an ingest worker."""
        self._flooding.update(agent_ids)

    def forget_idle(self, now: float) -> None:
        """Drop the token buckets that have refilled, of those that were not looked at for the longest time."""
        drop_full(self._budgets, now)
        drop_full(self._excess_budgets, now)

    def _taken(self, message: Inbound) -> Inbound:
        self._bytes -= len(message.payload)
        return message

    def _defer(self, message: Inbound, count: int, now: float) -> None:
        """Defer a message over its agent's budget; an agent above the budget of deferred ones floods.

        The reports of a flood are not named: only a guard that waits reads the receipt.
        """
        bucket = self._bucket(self._excess_budgets, self._excess_budget, message.identifier, now)
        is_flood = not bucket.try_consume(len(message.payload), now, count)
        if is_flood:
            self._flooding.add(message.identifier)
        ids = stated_ids(message.payload) if message.row is THREATS and not (is_flood and count > 1) else []
        self._deferred.append(Deferred(message.identifier, ids, message.handle))

    @staticmethod
    def _bucket(buckets: dict[str, TokenBucket], budget: Budget, agent_id: str, now: float) -> TokenBucket:
        bucket = buckets.get(agent_id)
        if bucket is None:
            bucket = buckets[agent_id] = TokenBucket(budget, now)
        return bucket
