"""What the routes work with, handed to each request."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ParamSpec, TypeVar, cast

from fastapi import Depends, Request

from manager.api.credentials import Credentials
from manager.api.events.event_stream import EventStream, Tickets
from manager.api.metrics import Traffic
from manager.api.middleware.cors import Cors
from manager.api.middleware.peers import Peers
from manager.api.ports import Door, Measurements, Queries, Record
from manager.domain.agents.clones import Clone
from manager.engine.agent_record import clone_record

_READING_THREADS = 4

P = ParamSpec("P")
T = TypeVar("T")


def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="api-read")


@dataclass(frozen=True, slots=True)
class Services:
    """The parts behind the routes.

    Args:
        door: the way to the engine.
        queries: what reads the store.
        credentials: who a bearer is.
        clock: seconds since 1970.
        version: the manager's release.
        started_at: when the manager started, by `clock`.
        not_ready: says in one sentence why the manager is not ready; None if it is.
        peers: where requests come from, and which addresses may register without a token.
        cors: which pages may read answers.
        rate_limit: requests a minute of one agent, or of one address without a credential; 0 for no limit.
        measurements: what `/metrics` shows beyond the HTTP door itself.
        certificates: what the doors serve and until when, at a time in seconds since 1970.
        clones: who lives more than once just now, by agent id.
        held_back: whose reports wait, with nothing new of it stored.
        traffic: what the door has served.
        stream: the fleet's events.
        tickets: who may watch them from a browser.
        readers: the threads in which the store is read, so that no query holds up another request.
    """

    door: Door
    queries: Queries
    credentials: Credentials
    clock: Callable[[], float]
    version: str
    started_at: float
    not_ready: Callable[[], str | None]
    peers: Peers = field(default_factory=Peers)
    cors: Cors = field(default_factory=Cors)
    rate_limit: int = 60
    measurements: Measurements | None = None
    certificates: Callable[[float], list[Record]] = lambda _now: []
    clones: Callable[[], Mapping[str, Clone]] = dict
    held_back: Callable[[], list[Record]] = list
    traffic: Traffic = field(default_factory=Traffic)
    stream: EventStream = field(default_factory=EventStream)
    tickets: Tickets = field(default_factory=Tickets)
    readers: ThreadPoolExecutor = field(default_factory=_readers)

    async def read(self, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in one of the reading threads."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, partial(query, *args, **kwargs))

    def with_clone(self, agent: Record) -> Record:
        """Return an agent's record with whether it lives more than once, which only the engine knows."""
        clone = self.clones().get(agent["agentId"])
        return {**agent, "clone": clone and clone_record(clone)}

    @property
    def uptime(self) -> float:
        """Seconds since the manager started."""
        return max(0.0, self.clock() - self.started_at)


async def services_of(request: Request) -> Services:
    """Return the parts that the application was created with."""
    return cast("Services", request.app.state.services)


WithServices = Annotated[Services, Depends(services_of)]
"""What a route asks for to get at the manager's parts."""
