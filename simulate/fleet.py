"""The simulated fleet: connects, reports by the schedule, waits for receipts, signs off, and checks the reports."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from simulate.agent import Agent, Tally
from simulate.doors.door import Door, keep_connected
from simulate.doors.enrollment import Enrollment
from simulate.doors.http import HttpDoor
from simulate.doors.http_connection import HttpConnection
from simulate.doors.mqtt import MqttDoor
from simulate.errors import UnreachableError
from simulate.identity import Identity, StateDirectory
from simulate.kept_reports import KeptReports
from simulate.ledger import Ledger
from simulate.outbox import Outbox
from simulate.plan import Plan
from simulate.result import Run, Usage
from simulate.schedule import Detection, cuts, detections, hostname
from simulate.verifier import Verifier

_TICK = 0.5
_LOOK_EVERY = 0.05
_QUIET = 0.5
"""Seconds without a new policy after which reporting begins."""

_QUIET_WITHIN = 30.0
_SPARE_FILES = 64
_FAREWELL_WITHIN = 15.0
_KEPT_BY_EACH, _KEPT_BY_ALL = 50, 100_000
_AT_ONCE = 256
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """A simulation's progress: its phase, done and total numbers in it, and the counts."""

    phase: str
    done: int
    total: int
    connected: int
    sent: int
    waiting: int


Show = Callable[[Progress], None]


class Fleet:
    """The agents of one plan, in the running event loop.

    Args:
        plan: The plan of the simulation.
        show: Called with the progress twice a second.
        stopping: Set to end the schedule early.
        ledger: Records the reports; an empty one.
    """

    def __init__(self, plan: Plan, show: Show, stopping: asyncio.Event, ledger: Ledger) -> None:
        self.ledger = ledger
        self.tally = Tally()
        self._plan = plan
        self._show = show
        self._stopping = stopping
        self._leaving = asyncio.Event()
        self._shared: set[str] = set()
        self._state = StateDirectory(plan.state, plan.token.sign_key) if plan.state else None
        started = time.monotonic()
        identities = [self._identity(hostname(plan.seed, number)) for number in range(plan.agents)]
        timeout, kept = plan.receipt_timeout, max(_KEPT_BY_EACH, _KEPT_BY_ALL // plan.agents)
        self.agents = [
            Agent(number, identity, Outbox(timeout), self.ledger, self.tally, started, kept=KeptReports(kept))
            for number, identity in enumerate(identities)
        ]
        self._longest_lag = 0.0
        self._sent = 0
        self._phase = "connecting"

    @property
    def shared_addresses(self) -> frozenset[str]:
        """The attackers that several agents report, as far as they were reported."""
        return frozenset(self._shared)

    @property
    def agent_ids(self) -> frozenset[str]:
        """The agents' ids, as far as they are registered."""
        return frozenset(agent.identity.agent_id for agent in self.agents)

    def progress(self) -> Progress:
        """Return the current progress."""
        connecting = self._phase == "connecting"
        settled = self._sent - self.ledger.waiting
        done, total = (self.tally.connected, self._plan.agents) if connecting else (settled, self._plan.threats)
        return Progress(self._phase, done, total, self.tally.connected, self._sent, self.ledger.waiting)

    async def run(self) -> Run:
        """Run the plan.

        Raises:
            UnreachableError: the agents cannot connect.
        """
        began = time.monotonic()
        if self._state is not None:
            self._state.reserve([agent.identity for agent in self.agents if agent.identity.agent_id])
        async with self._connected():
            connected_after = time.monotonic() - began
            self._phase = "reporting"
            start, cpu = time.monotonic(), time.process_time()
            await self._report(start)
            await self._receipts()
            end, cpu = time.monotonic(), time.process_time() - cpu
            connected = self.tally.connected
            self._phase = "signing off"
        if self._state is not None:
            self._state.release([agent.identity for agent in self.agents if agent.identity.agent_id])
        seconds = end - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB
        return Run(
            agents=self._plan.agents,
            seed=self._plan.seed,
            addresses=sorted({self._plan.manager, self._plan.admin}),
            connected=connected,
            seconds_connecting=connected_after,
            seconds=seconds,
            longest_pause=self.ledger.longest_pause(end),
            longest_lag=self._longest_lag,
            usage=Usage(cpu, cpu / seconds if self._sent else 0.0, memory),
        )

    def _identity(self, name: str) -> Identity:
        return Identity(name) if self._state is None else self._state.identity(name)

    def _keep(self, identity: Identity) -> None:
        if self._state is not None:
            self._state.keep(identity)

    def _door(self) -> Door:
        plan, address = self._plan, self._plan.door
        tls = address.tls(plan.ca_file)
        interval = plan.heartbeat_interval if plan.heartbeats else None
        if address.is_http:
            connections = [HttpConnection(address, tls) for _ in range(plan.sockets)]
            return HttpDoor(
                connections=connections,
                token=plan.token,
                keep=self._keep,
                heartbeat_interval=interval,
                policy_poll_interval=plan.policy_poll_interval,
                leaving=self._leaving,
            )
        verifier = Verifier(plan.token.sign_key)
        return MqttDoor(address, tls, Enrollment(address, tls, plan.token, verifier, self._keep), verifier, interval)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        """Connect all agents and keep them connected within the context; sign them off at its end."""
        door, plan = self._door(), self._plan
        tasks = [
            asyncio.create_task(
                keep_connected(agent, door, self._leaving, plan.reconnect_base, plan.reconnect_cap),
                name=f"agent {agent.number}",
            )
            for agent in self.agents
        ]
        ticking = asyncio.create_task(self._tick(tasks), name="ticking")
        try:
            await self._let_in(ticking)
            yield
            if ticking.done():
                ticking.result()
            self._leaving.set()
            for agent in self.agents:
                if agent.session is not None:
                    agent.session.sign_off()
            await asyncio.wait(tasks, timeout=_FAREWELL_WITHIN)
        finally:
            self._leaving.set()
            for task in (*tasks, ticking):
                task.cancel()
            await asyncio.gather(*tasks, ticking, return_exceptions=True)
            await door.close()

    async def _tick(self, tasks: list["asyncio.Task[None]"]) -> None:
        """Run the due steps of all sessions and show progress.

        Raises:
            UnreachableError: the manager refuses an agent permanently while the fleet connects. After that, the reports
                of a refused agent are lost, and the ledger shows it.
        """
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            for agent in self.agents:
                if agent.session is not None:
                    agent.session.tick(now)
            for task in tasks:
                if task.done() and not self._leaving.is_set():
                    self._ended(task)
            self._show(self.progress())

    def _ended(self, task: "asyncio.Task[None]") -> None:
        try:
            task.result()
        except UnreachableError as error:
            if self._phase == "connecting":
                raise
            self.tally.last_error = str(error)

    async def _let_in(self, ticking: "asyncio.Task[None]") -> None:
        """Wait until all agents are connected, and the burst of their first policies is over.

        Raises:
            UnreachableError: no further agent connected for a while.
        """
        tally, plan = self.tally, self._plan
        seen, since = (-1, -1), time.monotonic()
        while tally.connected < plan.agents and not self._stopping.is_set():
            if ticking.done():
                ticking.result()
            if seen != (tally.registered, tally.connected):
                seen, since = (tally.registered, tally.connected), time.monotonic()
            elif time.monotonic() - since > plan.patience:
                raise UnreachableError(
                    f"{tally.connected} of {plan.agents} agents are connected, and for {plan.patience:g} s no other was"
                    f" let in: {tally.last_error or 'nothing answers'}"
                )
            await asyncio.sleep(_LOOK_EVERY)
        await self._quiet(time.monotonic() + _QUIET_WITHIN)

    async def _quiet(self, deadline: float) -> None:
        """Wait until no new policy has arrived for `_QUIET` seconds, or until the deadline."""
        taken, since = -1, time.monotonic()
        while time.monotonic() - since < _QUIET and time.monotonic() < deadline:
            if self.tally.policies_applied != taken:
                taken, since = self.tally.policies_applied, time.monotonic()
            await asyncio.sleep(_LOOK_EVERY)

    async def _report(self, start: float) -> None:
        """Create each report at its scheduled time, and cut connections as planned."""
        waiting_cuts = iter(cuts(self._plan))
        cut = next(waiting_cuts, None)
        made: set[Agent] = set()
        at = 0.0
        for number, detection in enumerate(detections(self._plan)):
            if detection.at != at:
                self._pump(made)
                at = detection.at
                await self._until(start + at, number)
            if self._stopping.is_set():
                return
            while cut is not None and cut.at <= detection.at:
                self._cut(self.agents[cut.agent])
                cut = next(waiting_cuts, None)
            self._longest_lag = max(self._longest_lag, time.monotonic() - start - at)
            made.add(self._detected(detection))
        self._pump(made)

    async def _until(self, moment: float, number: int) -> None:
        """Wait until a time; if it has passed, yield to the event loop at intervals."""
        delay = moment - time.monotonic()
        if delay <= 0:
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(delay):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _detected(self, detection: Detection) -> Agent:
        agent = self.agents[detection.agent]
        agent.detected(detection)
        self._sent += 1
        if detection.is_shared:
            self._shared.add(detection.source_ip)
        return agent

    @staticmethod
    def _pump(made: set[Agent]) -> None:
        """Send the reports that were made at one moment."""
        for agent in made:
            if agent.session is not None:
                agent.session.pump()
        made.clear()

    def _cut(self, agent: Agent) -> None:
        if agent.session is not None:
            self.tally.cuts += 1
            agent.session.cut()

    @property
    def _waiting(self) -> int:
        return self.ledger.waiting + sum(agent.kept.again for agent in self.agents)

    async def _receipts(self) -> None:
        """Wait until no report waits for a receipt, also of those sent again, or none came for the plan's patience."""
        waiting, since = self._waiting, time.monotonic()
        while self._waiting:
            if self._waiting != waiting:
                waiting, since = self._waiting, time.monotonic()
            elif time.monotonic() - since > self._plan.patience:
                return
            await asyncio.sleep(_LOOK_EVERY)


def raise_file_limit(plan: Plan) -> None:
    """Raise the limit of open files to the number that the plan needs.

    Raises:
        UnreachableError: the system does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = plan.sockets + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise UnreachableError(
                f"{plan.sockets:,} connections need {needed:,} open files, and the limit is {hard:,}:"
                f" raise it with ulimit -n {needed}"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
