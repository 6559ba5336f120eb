"""Where messages and commands wait for the engine: a lane for each agent, so that none waits behind another's flood.

An agent over its budget is turned away at the door: what it reports is deferred by receipt and waits in its own
outbox. One that goes on as if nothing had been said floods: a guard never has more under way than a quarter of what a
whole budget allows.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from manager.domain.budget import Budget, TokenBucket
from manager.engine.origin import MANAGER, Origin
from schemas.limits import KIB
from schemas.topics import REGISTRATION, THREATS, Topic

_PATIENCE = 0.25
_FIRST_MEMBER_ID = re.compile(rb'\{"id":"([A-Za-z0-9._:-]{1,64})"')


class Inbound(NamedTuple):
    """A message from the broker; `topic` stands below the root, `handle` is what acknowledges it."""

    row: Topic
    identifier: str
    topic: str
    payload: bytes
    handle: Any


class Command(NamedTuple):
    """Something that a person or a HTTP agent asks of the engine; `reply` gets the value or the error.

    `request` is one of the values of `manager.engine.commands.requests`; `origin` is who asks.
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
class Inbox:
    """Lanes of agents, served in turn; one small lane of registrations; one of commands.

    Attributes:
        budget: what each agent may send.
        registrations_in_batch: registrations that one batch takes at most.
        registrations_waiting: registrations that wait at most; who sent one more sends it again.
        batch_bytes: payload from which on a batch takes no more, so that large messages hold nobody up.
    """

    budget: Budget
    registrations_in_batch: int = 50
    registrations_waiting: int = 1000
    batch_bytes: int = 512 * KIB
    _lanes: OrderedDict[str, deque[Inbound]] = field(default_factory=OrderedDict)
    _registrations: deque[Inbound] = field(default_factory=deque)
    _commands: deque[Command] = field(default_factory=deque)
    _deferred: list[Deferred] = field(default_factory=list)
    _purses: dict[str, TokenBucket] = field(default_factory=dict)
    _patience: dict[str, TokenBucket] = field(default_factory=dict)
    _flooding: set[str] = field(default_factory=set)
    _waiting: int = 0
    _bytes: int = 0
    _excess: Budget = field(init=False)

    def __post_init__(self) -> None:
        """Say how much of an agent may be turned away before it counts as one that floods."""
        self._excess = replace(self.budget, burst=self.budget.burst * _PATIENCE)

    def __len__(self) -> int:
        """Return how many messages and commands wait."""
        return self._waiting + len(self._registrations) + len(self._commands)

    @property
    def bytes(self) -> int:
        """How many bytes of payload wait."""
        return self._bytes

    def put(self, message: Inbound, now: float) -> None:
        """Take a message in; `now` is monotonic and pays the agent's allowance."""
        agent_id, size = message.identifier, len(message.payload)
        if message.row is REGISTRATION:
            if len(self._registrations) >= self.registrations_waiting:
                self._deferred.append(Deferred(agent_id, None, message.handle))
                return
            self._registrations.append(message)
            self._bytes += size
            return
        if not self._purse(self._purses, self.budget, agent_id, now).try_consume(size, now):
            found = _FIRST_MEMBER_ID.match(message.payload) if message.row is THREATS else None
            self._deferred.append(Deferred(agent_id, found[1].decode() if found else None, message.handle))
            if not self._purse(self._patience, self._excess, agent_id, now).try_consume(size, now):
                self._flooding.add(agent_id)
            return
        lane = self._lanes.get(agent_id)
        if lane is None:
            lane = self._lanes[agent_id] = deque()
        lane.append(message)
        self._waiting += 1
        self._bytes += size

    def submit(self, command: Command) -> None:
        """Take a command in; safe from any thread."""
        self._commands.append(command)

    @property
    def registrations(self) -> int:
        """How many registrations wait."""
        return len(self._registrations)

    def take(self, limit: int, registrations: int | None = None) -> list[Inbound | Command]:
        """Return the next batch: commands, a few registrations, then one message of each agent in turn.

        Where both doors have something, neither gets more than it leaves to the other.

        Args:
            limit: how many at most.
            registrations: how many of them at most may be registrations, if fewer than usual.
        """
        least = self._bytes - self.batch_bytes
        taken: list[Inbound | Command] = []
        commands = max(1, limit // 2) if self._waiting else limit
        while self._commands and len(taken) < commands:
            taken.append(self._commands.popleft())
        few = self.registrations_in_batch if registrations is None else registrations
        few = min(len(self._registrations), few, limit - len(taken))
        taken += [self._leave(self._registrations.popleft()) for _ in range(few)]
        while self._lanes and len(taken) < limit and self._bytes > least:
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

    @property
    def is_flooded(self) -> bool:
        """Whether `take_flooding` has somebody."""
        return bool(self._flooding)

    def take_flooding(self) -> set[str]:
        """Return, once, the agents of whose messages more was turned away than a guard can have sent."""
        flooding, self._flooding = self._flooding, set()
        return flooding

    def forget_idle(self, now: float) -> None:
        """Drop the purses that are full again: they say nothing."""
        self._purses = {agent: purse for agent, purse in self._purses.items() if not purse.is_full(now)}
        self._patience = {agent: purse for agent, purse in self._patience.items() if not purse.is_full(now)}

    def _leave(self, message: Inbound) -> Inbound:
        self._bytes -= len(message.payload)
        return message

    @staticmethod
    def _purse(purses: dict[str, TokenBucket], budget: Budget, agent_id: str, now: float) -> TokenBucket:
        purse = purses.get(agent_id)
        if purse is None:
            purse = purses[agent_id] = TokenBucket(budget, now)
        return purse
