"""Measures ingest: threats and heartbeats a second through real brokers, beside the limit of the same run.

Run as ``python -m benchmarks.ingest [--quick] [-o json]``. Broker, generator and manager share the machine.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import interpreter
from benchmarks.load import Counter, Plan, Sent, generate
from benchmarks.manager_process import RunningManager, running, shared_counter
from benchmarks.raw_limit import RawSubscriber, in_series, inserted_per_second
from schemas import topics
from tests.support.enrolled import enroll
from tests.support.mosquitto import Mosquitto, mosquitto_path

_ROW = (
    "agent_number", "threat_id", "digest", "event_time", "received_at", "time_known", "type", "severity", "confidence",
    "technique", "source_ip", "file_hash", "document",
)  # fmt: skip
_WINDOW, _EMBEDDED_WINDOW = 20_000, 2_000
"""The most messages in flight: enough to keep the broker busy, too few to fill its memory."""

_IN_MESSAGE = 20
"""Reports in one message, in the row of several; the counts of `Size` divide by it."""

_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of a run."""

    agents: int
    threats: int
    heartbeats: int
    embedded_agents: int
    embedded_messages: int


FULL = Size(agents=500, threats=300_000, heartbeats=400_000, embedded_agents=5_000, embedded_messages=20_000)
QUICK = Size(agents=50, threats=20_000, heartbeats=40_000, embedded_agents=50, embedded_messages=2_000)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table; rates are messages a second, `cpu_us` is the manager's CPU time for a message."""

    what: str
    value: float | None
    target: float | None
    limit: float | None = None
    ratio_target: float | None = None
    cpu_us: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Value divided by limit."""
        return self.value / self.limit if self.value and self.limit else None


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    interpreter.announce()
    figures = measure(QUICK if options.quick else FULL)
    if options.output == "json":
        sys.stdout.write(json.dumps([{**asdict(figure), "ratio": figure.ratio} for figure in figures], indent=2) + "\n")
    else:
        Console().print(table(figures, quick=options.quick))
    return 0


def measure(size: Size) -> list[Figure]:
    """Return all figures of one run."""
    figures = _through_mosquitto(size) if mosquitto_path() else [_skipped("through Mosquitto", "it is not installed")]
    return figures + _through_embedded(size)


def _through_mosquitto(size: Size) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory, handled = Path(name), shared_counter()
        senders = enroll(directory / "manager", size.agents)
        with Mosquitto() as broker, running(directory / "manager", broker.url, handled) as manager:
            threats = _threats(manager, Plan(broker.port, "threats", senders, size.threats, _WINDOW), handled)
            plan = Plan(broker.port, "threats", senders, size.threats, _WINDOW, in_message=_IN_MESSAGE)
            batched = _threats(manager, plan, handled)
            heartbeats = _heartbeats(
                manager, Plan(broker.port, "heartbeats", senders, size.heartbeats, _WINDOW), handled
            )
        with Mosquitto() as broker:
            plan = Plan(broker.port, "threats", senders, size.threats, _WINDOW, receipts=False)
            framed = _framed(plan, topics.THREATS, handled)
            plan = Plan(broker.port, "heartbeats", senders, size.heartbeats, _WINDOW)
            framed_heartbeats = _framed(plan, topics.HEARTBEAT, handled)
        inserted = inserted_per_second(directory / "manager" / "panguard.db", directory / "limit.db", _ROW)
    note = f"{threats.note}; the limit: framing {framed:,.0f}/s, inserting {inserted:,.0f}/s, in series"
    return [
        _figure(
            "durable threats through Mosquitto",
            replace(threats, note=note),
            target=25_000,
            limit=round(in_series(framed, inserted)),
            ratio_target=0.6,
        ),
        _figure(f"the same, {_IN_MESSAGE} a message", batched, target=30_000),
        _figure("heartbeats through Mosquitto", heartbeats, target=50_000, limit=round(framed_heartbeats)),
    ]


def _through_embedded(size: Size) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        handled = shared_counter()
        senders = enroll(Path(name), size.embedded_agents)
        with running(Path(name), "embedded", handled) as manager:
            count = size.embedded_messages
            threats = _threats(manager, Plan(manager.port, "threats", senders, count, _EMBEDDED_WINDOW), handled)
            heartbeats = _heartbeats(
                manager, Plan(manager.port, "heartbeats", senders, count, _EMBEDDED_WINDOW), handled
            )
    agents = f"{size.embedded_agents:,} connected agents; "
    return [
        _figure("durable threats, embedded", replace(threats, note=agents + threats.note), target=2_000),
        _figure("heartbeats, embedded", replace(heartbeats, note=agents + heartbeats.note), target=2_000),
    ]


@dataclass(frozen=True, slots=True)
class _Run:
    count: int
    seconds: float
    cpu: float
    note: str


def _skipped(what: str, why: str) -> Figure:
    return Figure(what, None, None, note=why)


def _figure(what: str, run: _Run, **members: Any) -> Figure:
    cpu = round(run.cpu / run.count * 1e6, 1)
    return Figure(what, round(run.count / run.seconds), cpu_us=cpu, note=run.note, **members)


def _threats(manager: RunningManager, plan: Plan, handled: Counter) -> _Run:
    manager.watch("threats_stored")
    seconds, cpu, ended, sent = _timed(manager, plan, handled)
    if sent.stored_ids != plan.count:
        raise RuntimeError(f"{plan.count} threats were sent, {sent.stored_ids} receipted, {sent.deferred_ids} deferred")
    note = (
        f"{sent.payload_bytes} bytes each, synchronous=FULL; {sent.receipts:,} receipts, "
        f"the last {max(0.0, sent.last_receipt - ended):.1f} s after the last commit"
    )
    return _Run(plan.count, seconds, cpu, note)


def _heartbeats(manager: RunningManager, plan: Plan, handled: Counter) -> _Run:
    manager.watch("heartbeat")
    seconds, cpu, _ended, sent = _timed(manager, plan, handled)
    return _Run(plan.count, seconds, cpu, f"{sent.payload_bytes} bytes each, QoS 0")


def _timed(manager: RunningManager, plan: Plan, handled: Counter) -> tuple[float, float, float, Sent]:
    """Return seconds and CPU seconds until all is handled, the time of the end, and the generator's result."""
    with _generator(plan, handled) as (go, result):
        cpu, began = manager.cpu_seconds(), time.monotonic()
        go()
        while handled.value < plan.count and not result.poll():
            time.sleep(0.002)
        ended = time.monotonic()
        cpu = manager.cpu_seconds() - cpu
        sent = result.recv()
    if not isinstance(sent, Sent):
        raise TypeError(f"the generator said {sent!r}")
    return ended - began, cpu, ended, sent


def _framed(plan: Plan, row: topics.Topic, handled: Counter) -> float:
    handled.value = 0
    subscriber = RawSubscriber(plan.port, row.filter, row.qos)
    with _generator(plan, handled) as (go, _result):
        began = time.monotonic()
        go()
        elapsed = subscriber.receive(plan.count, handled) - began
        subscriber.close()
    return plan.count / elapsed


@contextmanager
def _generator(plan: Plan, handled: Counter) -> Iterator[tuple[Callable[[], None], Connection]]:
    """Start the load generator; yield the function that releases it, and the pipe of its result."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=generate, args=(plan, handled, there), daemon=True)
    process.start()
    there.close()
    here.recv()
    try:
        yield lambda: here.send("go"), here
        here.send("done")
        process.join(30)
    finally:
        process.kill()
        process.join()
        here.close()


def table(figures: list[Figure], *, quick: bool) -> Table:
    """Return the figures as a table; the notes are printed below it."""
    title = f"Ingest on {os.cpu_count()} cores, shared by manager, broker and generator"
    notes = "\n".join(f"{number}. {figure.note}" for number, figure in enumerate(figures, 1))
    made = Table(title=title, caption=("a smoke run: its figures mean little\n" if quick else "") + notes)
    made.caption_justify = "left"
    for heading in ("", "what", "per s", "limit", "ratio", "target", "CPU µs"):
        made.add_column(heading, justify="left" if heading == "what" else "right")
    for number, figure in enumerate(figures, 1):
        made.add_row(
            str(number),
            figure.what,
            _number(figure.value),
            _number(figure.limit),
            _NOTHING if figure.ratio is None else f"{figure.ratio:.2f}",
            _number(figure.target) + (f", {figure.ratio_target:.2f}" if figure.ratio_target else ""),
            _NOTHING if figure.cpu_us is None else f"{figure.cpu_us:.1f}",
        )
    return made


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.0f}"


if __name__ == "__main__":
    raise SystemExit(main())
