"""Where messages and commands wait for the engine: a lane for each agent, so that none waits behind another's flood.

An agent over its budget is turned away at the door: what it reports is deferred by receipt and waits in its own
outbox.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from manager.engine.origin import MANAGER, Origin
from schemas.topics import REGISTRATION, THREATS, Topic

_FIRST_MEMBER_ID = re.compile(rb'\{"id":"([A-Za-z0-9._:-]{1,64})"')


class Inbound(NamedTuple):
    """A message from the broker; `topic` stands below the root, `handle` is what acknowledges it."""

    row: Topic
    identifier: str
    topic: str
    payload: bytes
    handle: Any


class Command(NamedTuple):
    """Something that a person or a legacy agent asks of the engine; `reply` gets the value or the error.

    `request` is one of the values of `manager.engine.commands`; `origin` is who asks.
    """

    request: Any
    reply: Callable[[Any, Exception | None], None]
    origin: Origin = MANAGER


class Deferred(NamedTuple):
    """A message over its agent's budget; `threat_id` is None if it was no report."""

    agent_id: str
    threat_id: str | None
    handle: Any


@dataclass(slots=True)
class Budget:
    """How many messages and bytes a second each agent has, and for how many seconds unused ones add up."""

    messages: float
    bytes: float
    burst: float


@dataclass(slots=True)
class _Allowance:
    messages: float
    bytes: float
    at: float


@dataclass(slots=True)
class Inbox:
    """Lanes of agents, served in turn; one small lane of registrations; one of commands."""

    budget: Budget
    registrations_in_batch: int = 50
    _lanes: OrderedDict[str, deque[Inbound]] = field(default_factory=OrderedDict)
    _registrations: deque[Inbound] = field(default_factory=deque)
    _commands: deque[Command] = field(default_factory=deque)
    _deferred: list[Deferred] = field(default_factory=list)
    _allowances: dict[str, _Allowance] = field(default_factory=dict)
    _waiting: int = 0
    _bytes: int = 0

    def __len__(self) -> int:
        """Return how many messages and commands wait."""
        return self._waiting + len(self._registrations) + len(self._commands)

    @property
    def bytes(self) -> int:
        """How many bytes of payload wait."""
        return self._bytes

    def put(self, message: Inbound, now: float) -> None:
        """Take a message in; `now` is monotonic and pays the agent's allowance."""
        if message.row is REGISTRATION:
            self._registrations.append(message)
            self._bytes += len(message.payload)
            return
        agent_id = message.identifier
        if not self._affords(agent_id, len(message.payload), now):
            found = _FIRST_MEMBER_ID.match(message.payload) if message.row is THREATS else None
            self._deferred.append(Deferred(agent_id, found[1].decode() if found else None, message.handle))
            return
        lane = self._lanes.get(agent_id)
        if lane is None:
            lane = self._lanes[agent_id] = deque()
        lane.append(message)
        self._waiting += 1
        self._bytes += len(message.payload)

    def submit(self, command: Command) -> None:
        """Take a command in; safe from any thread."""
        self._commands.append(command)

    def take(self, limit: int) -> list[Inbound | Command]:
        """Return the next batch: commands, a few registrations, then one message of each agent in turn.

        Where both doors have something, neither gets more than it leaves to the other.
        """
        taken: list[Inbound | Command] = []
        commands = max(1, limit // 2) if self._waiting else limit
        while self._commands and len(taken) < commands:
            taken.append(self._commands.popleft())
        registrations = min(len(self._registrations), self.registrations_in_batch, limit - len(taken))
        taken += [self._leave(self._registrations.popleft()) for _ in range(registrations)]
        while self._lanes and len(taken) < limit:
            agent_id, lane = self._lanes.popitem(last=False)
            taken.append(self._leave(lane.popleft()))
            self._waiting -= 1
            if lane:
                self._lanes[agent_id] = lane
        return taken

    def take_deferred(self) -> list[Deferred]:
        """Return, once, what was turned away since the last call."""
        deferred, self._deferred = self._deferred, []
        return deferred

    def forget_idle(self, now: float) -> None:
        """Drop the allowances that are full again: they say nothing."""
        full = self.budget.burst
        self._allowances = {agent: kept for agent, kept in self._allowances.items() if now - kept.at < full}

    def _leave(self, message: Inbound) -> Inbound:
        self._bytes -= len(message.payload)
        return message

    def _affords(self, agent_id: str, size: int, now: float) -> bool:
        budget = self.budget
        kept = self._allowances.get(agent_id)
        if kept is None:
            kept = _Allowance(budget.messages * budget.burst, budget.bytes * budget.burst, now)
            self._allowances[agent_id] = kept
        else:
            elapsed = now - kept.at
            kept.messages = min(kept.messages + elapsed * budget.messages, budget.messages * budget.burst)
            kept.bytes = min(kept.bytes + elapsed * budget.bytes, budget.bytes * budget.burst)
            kept.at = now
        if kept.messages < 1 or kept.bytes < size:
            return False
        kept.messages -= 1
        kept.bytes -= size
        return True
