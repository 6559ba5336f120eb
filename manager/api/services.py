"""Dependencies of the routes, injected into each request."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ParamSpec, TypeVar, cast

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from manager.api.authentication import Credentials
from manager.api.events.event_stream import EventStream
from manager.api.events.tickets import Tickets
from manager.api.middleware.client_address import ClientAddresses
from manager.api.middleware.rate_limits import SlidingWindow
from manager.api.ports import CommandGateway, NoNotifications, Notifications, Queries, Record
from manager.api.rule_check import RuleCheck
from manager.api.shared_reads import SharedReads
from manager.domain.agents.clones import Clone
from manager.domain.agents.refused_registrations import RefusedHost
from manager.domain.budget import Budget
from manager.domain.user_names import UserNames
from manager.engine.agent_record import clone_record
from schemas.keys import EnrollmentToken
from schemas.limits import MIB

_READER_THREADS = 4
WRONG_TOKENS = 5
"""Wrong tokens at the console that are taken from one address in a minute (wire.md, section 5)."""

P = ParamSpec("P")
T = TypeVar("T")


def _reader_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READER_THREADS, thread_name_prefix="api-read")


@dataclass(frozen=True, slots=True)
class Services:
    """The dependencies of the routes.

    Args:
        engine: executes commands.
        queries: reads the store.
        credentials: identifies bearer tokens.
        clock: seconds since 1970.
        version: the manager's release.
        started_at: start of the manager, by `clock`.
        not_ready: returns the reason why the manager is not ready; None if it is.
        client_addresses: resolves client addresses, and has the networks that may register without a token.
        cors_origins: origins of the web pages that may read answers.
        rate_limit: requests per minute of one agent, or of one address without a credential; 0 for no limits.
        report_budget: reports and bytes a second of one agent.
        sharers: returns the number of processes that serve agents, among which budgets are divided.
        registry: the Prometheus metrics that `/metrics` exposes.
        certificates: returns the served certificates and their expiry, at a time in seconds since 1970.
        spellings: returns the spellings of a hostname that agents registered with.
        beginning_with: returns the hostnames that have these first labels and further ones.
        clones: returns the agents that run more than once, by agent id.
        held_back: returns the agents with undelivered reports.
        refused_registrations: returns the hosts that were refused within a day before a time, the newest first.
        warnings: returns warnings for operators about lasting conditions.
        lag: returns the seconds since nothing waited for the engine, and the number of messages that wait.
        broker: returns the broker's URL, as this machine reaches it; None where there is no broker.
        channels: names of the notification channels.
        notifications: the state of the channels.
        group: returns role and managers of the database; None where the store has one manager.
        step_down: hands the lease over, by force also where nobody stands by; returns why not, or None.
        on_token_rotated: called with an enrollment token whose secret was replaced.
        on_keys_changed: called after a change of the signing key.
        stream: the fleet's events.
        user_names: masks user names that are no account, for viewers.
        tickets: tickets for the stream.
        sign_ins: counts the console's wrong tokens by address.
        situations: shares one read of the situation among clients that ask at once.
        readers: threads that read the store, so that no query blocks another request.
    """

    engine: CommandGateway
    queries: Queries
    credentials: Credentials
    clock: Callable[[], float]
    version: str
    started_at: float
    not_ready: Callable[[], str | None]
    client_addresses: ClientAddresses = field(default_factory=ClientAddresses)
    cors_origins: tuple[str, ...] = ()
    rate_limit: int = 60
    report_budget: Budget = field(default_factory=lambda: Budget(200.0, 2.0 * MIB, 10.0))
    sharers: Callable[[], int] = lambda: 1
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    certificates: Callable[[float], list[Record]] = lambda _now: []
    spellings: Callable[[str], list[str]] = lambda hostname: [hostname]
    beginning_with: Callable[[str], list[str]] = lambda _labels: []
    clones: Callable[[], Mapping[str, Clone]] = dict
    held_back: Callable[[], list[Record]] = list
    refused_registrations: Callable[[float], list[RefusedHost]] = lambda _now: []
    warnings: Callable[[], list[str]] = list
    lag: Callable[[], Record] = lambda: {"behindSeconds": 0.0, "waitingMessages": 0}
    broker: Callable[[], str | None] = lambda: None
    channels: frozenset[str] = frozenset()
    notifications: Notifications = field(default_factory=NoNotifications)
    group: Callable[[], Record] | None = None
    step_down: Callable[[bool], str | None] = lambda _force: "this manager has a store of its own"
    on_token_rotated: Callable[[EnrollmentToken], None] = lambda _token: None
    on_keys_changed: Callable[[], None] = lambda: None
    stream: EventStream = field(default_factory=EventStream)
    user_names: UserNames = field(default_factory=lambda: UserNames(secrets.token_bytes(32)))
    tickets: Tickets = field(default_factory=Tickets)
    sign_ins: SlidingWindow = field(default_factory=lambda: SlidingWindow(WRONG_TOKENS))
    rule_check: RuleCheck = field(default_factory=RuleCheck)
    situations: SharedReads[Record] = field(default_factory=SharedReads)
    readers: ThreadPoolExecutor = field(default_factory=_reader_threads)

    async def read(self, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in one of the reader threads."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, partial(query, *args, **kwargs))

    def with_clone(self, agent: Record) -> Record:
        """Return an agent's record with its clone state, which is only in the engine's memory."""
        clone = self.clones().get(agent["agentId"])
        return {**agent, "clone": clone and clone_record(clone)}

    @property
    def uptime(self) -> float:
        """Seconds since the manager started."""
        return max(0.0, self.clock() - self.started_at)


async def services_of(request: Request) -> Services:
    """Return the services of the application."""
    return cast("Services", request.app.state.services)


WithServices = Annotated[Services, Depends(services_of)]
"""Route parameter that injects the services."""
