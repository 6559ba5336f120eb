"""Runs a simulation in a separate thread, so that the caller can kill a broker or a manager meanwhile."""

import asyncio
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import uvloop

from simulate.errors import SimulationError
from simulate.fleet import Fleet, Progress, Show, raise_file_limit
from simulate.ledger import Ledger, check
from simulate.manager_reader import ManagerReader, StoredReader
from simulate.plan import Plan
from simulate.result import Result, result_of


class Simulation:
    """One run of a plan. A context manager: starts the run on entering, stops it and waits for its end on leaving.

    Args:
        plan: The plan to run.
        show: Called with the progress twice a second, in the simulation's thread.
        reader: Reads what is stored and opened at the end; None asks the manager's HTTP API.
    """

    def __init__(self, plan: Plan, show: Show | None = None, reader: StoredReader | None = None) -> None:
        self.plan = plan
        self._reader = reader
        self._ledger = Ledger()
        self._show = show or (lambda _progress: None)
        self._progress = Progress("starting", 0, plan.agents, 0, 0, 0)
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._reporting = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._must_stop = threading.Event()
        self._over = threading.Event()  # an event instead of Thread.join(): an interrupted join() cannot be repeated
        self._thread = threading.Thread(target=self._run, name="simulation", daemon=True)

    def __enter__(self) -> Self:
        """Start the simulation."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the simulation and wait for its end."""
        self.stop()
        self._over.wait()

    def start(self) -> None:
        """Start the simulation."""
        self._thread.start()

    def stop(self) -> None:
        """Stop creating reports; existing ones are still awaited and checked."""
        self._must_stop.set()
        if self._loop is not None and self._stopping is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    @property
    def progress(self) -> Progress:
        """The latest progress."""
        return self._progress

    @property
    def ledger(self) -> Ledger:
        """The ledger, which the simulation's thread writes."""
        return self._ledger

    @property
    def is_over(self) -> bool:
        """Whether the simulation has ended, with or without an error."""
        return self._over.is_set()

    def wait_until_connected(self, within: float) -> None:
        """Wait until all agents are connected and reporting has begun.

        Raises:
            SimulationError: the simulation has failed.
            TimeoutError: the timeout has passed.
        """
        done = self._reporting.wait(within)
        if self._error is not None:
            raise self._error
        if not done:
            raise TimeoutError(f"not all agents are connected within {within:g} s: {self._progress}")

    def result(self, within: float | None = None) -> Result:
        """Wait for the end and return the result.

        Raises:
            SimulationError: the agents could not connect, or the manager's reports could not be read.
            TimeoutError: the simulation has not ended in time.
        """
        if not self._over.wait(within):
            raise TimeoutError(f"the simulation has not ended within {within:g} s: {self._progress}")
        if self._result is None:
            raise self._error or SimulationError("the simulation ended without a result")
        return self._result

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                self._result = runner.run(self._main())
        except BaseException as error:  # noqa: BLE001 -- told to whoever waits for the result
            self._error = error
        finally:
            self._reporting.set()
            self._over.set()

    async def _main(self) -> Result:
        plan = self.plan
        raise_file_limit(plan)
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        if self._must_stop.is_set():
            self._stopping.set()
        tls = plan.admin_address.tls(plan.ca_file)
        with ExitStack() as stack:
            reader = self._reader or stack.enter_context(
                ManagerReader(plan.admin_address, plan.auth_token, tls, plan.patience)
            )
            mark = await asyncio.to_thread(reader.mark)
            fleet = Fleet(plan, self._tell, self._stopping, self._ledger)
            run = await fleet.run()
            self._progress = fleet.progress()
            entries = fleet.ledger.entries
            stored = await asyncio.to_thread(lambda: list(reader.threats(mark, entries, fleet.agent_ids)))
            incidents = await asyncio.to_thread(reader.incidents, mark, fleet.shared_addresses)
        balance = check(entries, stored, plan.late_after)
        return result_of(balance, fleet.tally, run, incidents)

    def _tell(self, progress: Progress) -> None:
        self._progress = progress
        if progress.phase != "connecting":
            self._reporting.set()
        self._show(progress)


def run(plan: Plan, show: Show | None = None) -> Result:
    """Run a plan and return its result.

    Args:
        plan: The plan.
        show: Called with the progress twice a second, in another thread.

    Raises:
        SimulationError: the agents could not connect, or the manager's reports could not be read.
    """
    with Simulation(plan, show) as simulation:
        return simulation.result()
