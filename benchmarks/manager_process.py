"""Runs the product's manager in its own process for a benchmark."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import structlog

from benchmarks.load import Counter
from manager.data_directory import DataDirectory
from manager.runtime.loop import ManagerLoop
from manager.runtime.transport_security import Transport
from manager.runtime.wiring import Manager
from manager.settings import Settings

_LOOK = 0.005
"""Seconds between two reads of the manager's counters."""

_PATIENCE = 60.0


class RunningManager:
    """A benchmark's view of the manager's process.

    Args:
        port: where the broker is that it is connected to.
        process: the manager, for its CPU time.
        ask: has the manager's process report a counter from zero in a shared number.
    """

    def __init__(self, port: int, process: psutil.Process, ask: Callable[[str], None]) -> None:
        self.port = port
        self.watch = ask
        self._process = process

    def cpu_seconds(self) -> float:
        """Return the CPU time that the manager has taken."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        """Return the manager's resident memory without its broker."""
        return int(self._process.memory_info().rss)


@contextmanager
def running(path: Path, broker: str, handled: Counter) -> Iterator[RunningManager]:
    """Run a manager on a data directory and a broker (`embedded`, or a URL); it counts in `handled`.

    Raises:
        RuntimeError: it did not come up.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(path, broker, handled, there))
    process.start()
    there.close()
    try:
        if not here.poll(_PATIENCE) or process.pid is None:
            raise RuntimeError("the manager did not come up")
        mqtt = here.recv()

        def ask(counter: str) -> None:
            here.send(counter)
            here.recv()

        yield RunningManager(int(urlsplit(mqtt).port or 0), psutil.Process(process.pid), ask)
    finally:
        process.terminate()
        process.join(_PATIENCE)
        process.kill()
        here.close()


def _serve(path: Path, broker: str, handled: Counter, pipe: Connection) -> None:
    """Run the manager in this process's main thread, and read its counters in another."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    settings = Settings(
        data_dir=path, broker=broker, port=0, mqtt_port=0, agent_messages=1e9, agent_bytes=1e12, stale_after=3600
    )
    with ExitStack() as stack:
        directory = stack.enter_context(DataDirectory(path))
        manager = Manager(settings, Transport.plan(settings), directory, stack)
        threading.Thread(target=_count, args=(manager.engine.fleet.counters, handled, pipe), daemon=True).start()
        ManagerLoop(manager, stack).serve(lambda _http, mqtt: pipe.send(mqtt))


def _count(counters: dict[str, int], handled: Counter, pipe: Connection) -> None:
    name, base = "", 0
    try:
        while True:
            if pipe.poll(_LOOK):
                name = pipe.recv()
                base = counters.get(name, 0)
                handled.value = 0
                pipe.send(name)
            elif name:
                handled.value = counters.get(name, 0) - base
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)


def shared_counter() -> Any:
    """Return a number that processes share."""
    return multiprocessing.get_context("spawn").Value("Q", 0, lock=False)
