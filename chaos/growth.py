"""`python -m chaos.growth`: how large files and memory of a manager, a broker and a guard become under steady work.

In real time a fleet reports and sends heartbeats at a steady rate, a real guard sees attacks, and readers ask the
manager without a pause, since a reader can keep SQLite from starting its WAL anew. Sizes are sampled until the end.
"""

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Annotated, Any, Self

import httpx2
import psutil
import typer

from chaos.site import DOORS, DoorName, Load, Site, machine
from tests.support.processes import GuardProcess

_READERS = 2
_ATTACKERS = 200
_STARTS_WITHIN = 200.0
_LEDGER_WITHIN = 900.0
_CONNECTED_WITHIN = 300.0
_THIRDS = 3
_RECEIPT_TIMEOUT = 30.0
_SHARED = 0.01
"""Share of the reports about shared attackers: each incident changes the blocklist of every agent."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The sizes at one moment: seconds since the first sample, reports with a receipt, bytes of files and memory."""

    seconds: float
    receipts: int
    sizes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Growth:
    """The samples of one run, with its load.

    Attributes:
        door: the door at which the fleet reports.
        agents: the number of simulated agents.
        rate: scheduled reports per second.
        heartbeats: scheduled heartbeats per second.
        retention: seconds that the manager keeps threats.
        readers: the number of clients that ask the manager without a pause.
        sent: the number of reports.
        receipted: the number of reports that had a receipt at the end.
        samples: the samples in the order of time.
    """

    door: str
    agents: int
    rate: float
    heartbeats: float
    retention: float
    sent: int
    receipted: int
    samples: list[Sample]
    readers: int = 2

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Self:
        """Return the growth from the output of `asdict`."""
        return cls(**{**members, "samples": [Sample(**each) for each in members["samples"]]})

    def largest(self, name: str, third: int | None = None) -> int:
        """Return the largest size of a file or of memory in bytes, within one third of the time (0 to 2) or in all."""
        end = self.samples[-1].seconds
        chosen = [
            each.sizes.get(name, 0)
            for each in self.samples
            if third is None or third * end <= each.seconds * _THIRDS <= (third + 1) * end
        ]
        return max(chosen, default=0)


def grow(
    door: DoorName, load: Load, *, every: float, retention: float, readers: int = _READERS, seed: int = 1
) -> Growth:
    """Run a site under steady work for the load's seconds, and sample the sizes of its files and its memory.

    Args:
        door: the door at which the fleet reports.
        load: the fleet and the length of the run.
        every: seconds between two samples.
        retention: seconds that threats are kept; ids are kept twice as long.
        readers: clients that ask the manager without a pause.
        seed: of the fleet's choices.

    Raises:
        SiteError: a part did not start.
        SimulationError: the fleet cannot connect.
    """
    home = Path(tempfile.mkdtemp(prefix="growth-"))
    environment = {"PANGUARD_THREAT_RETENTION": f"{retention:g}", "PANGUARD_ID_RETENTION": f"{2 * retention:g}"}
    samples: list[Sample] = []
    over = threading.Event()
    with ExitStack() as stack:
        site = stack.enter_context(Site(door, home, Random(seed), environment))
        fleet = stack.enter_context(site.reporting(seed, replace(load, seconds=load.seconds + _STARTS_WITHIN)))
        fleet.wait_until_connected(_CONNECTED_WITHIN)
        guard = GuardProcess(site.manager, "growth", url=site.manager.http if door == "http" else site.manager.mqtt)
        stack.callback(guard.stop)
        site.start_guard(guard)
        stack.enter_context(_reading(site, over, readers))
        began, attacker = time.monotonic(), 0
        while (seconds := time.monotonic() - began) < load.seconds:
            guard.attacked_by(f"203.0.113.{1 + attacker % _ATTACKERS}")
            attacker += 1
            samples.append(Sample(round(seconds, 1), site.receipted(), _sizes(site, guard)))
            over.wait(every)
        fleet.stop()
        result = fleet.result(_LEDGER_WITHIN)
    told = result.sent, result.receipted, samples, readers
    return Growth(door, load.agents, load.rate, load.heartbeats, retention, *told)


@contextmanager
def _reading(site: Site, over: threading.Event, readers: int) -> Iterator[None]:
    """Read lists from the manager in several threads, without pauses, within the context."""
    threads = [threading.Thread(target=_read, args=(site, over), daemon=True) for _ in range(readers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _read(site: Site, over: threading.Event) -> None:
    with site.manager.client() as client:
        while not over.is_set():
            for path in ("/api/threats", "/api/threats/summary", "/api/agents"):
                with suppress(httpx2.HTTPError):
                    client.get(path)


def _sizes(site: Site, guard: GuardProcess) -> dict[str, int]:
    store, own = site.manager.data / "panguard.db", guard.data / "guard.db"
    files: Mapping[str, Path] = {
        "store": store,
        "store's WAL": store.with_name(f"{store.name}-wal"),
        "store's shared memory": store.with_name(f"{store.name}-shm"),
        "manager's log": site.home / "manager.log",
        "guard's store with its outbox": own,
        "guard's WAL": own.with_name(f"{own.name}-wal"),
        "guard's log": site.home / f"{guard.hostname}.log",
    }
    sizes = {name: file.stat().st_size if file.exists() else 0 for name, file in files.items()}
    if site.mosquitto is not None:
        sizes["Mosquitto's log"] = len(site.mosquitto.log().encode())
        saved = site.mosquitto.directory / "mosquitto.db"
        sizes["Mosquitto's saved state"] = saved.stat().st_size if saved.exists() else 0
    sizes["manager's resident memory"] = _resident(site.manager_pid())
    if guard.running is not None:
        sizes["guard's resident memory"] = _resident(guard.running.process.pid)
    return sizes


def _resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def main(
    *,
    door: Annotated[str, typer.Option(help=f"One of {', '.join(DOORS)}.")] = "mosquitto",
    agents: Annotated[int, typer.Option(help="Simulated agents.")] = 500,
    rate: Annotated[float, typer.Option(help="Reports a second.")] = 1500.0,
    heartbeats: Annotated[float, typer.Option(help="Heartbeats a second.")] = 500.0,
    seconds: Annotated[float, typer.Option(help="How long the fleet reports.")] = 300.0,
    retention: Annotated[float, typer.Option(help="Seconds that the manager keeps threats.")] = 60.0,
    readers: Annotated[int, typer.Option(help="Clients that ask the manager without a pause.")] = _READERS,
) -> None:
    """Sample the sizes of files and memory under steady work; print them as JSON, for `python -m chaos --rows`."""
    (chosen,) = (each for each in DOORS if each == door)
    load = Load(
        agents,
        rate,
        is_direct=True,
        seconds=seconds,
        heartbeats=heartbeats,
        shared_attackers=_SHARED,
        receipt_timeout=_RECEIPT_TIMEOUT,
    )
    growth = grow(chosen, load, every=1.0, retention=retention, readers=readers)
    typer.echo(json.dumps({"machine": machine(), "growth": asdict(growth)}))


if __name__ == "__main__":
    typer.run(main)
