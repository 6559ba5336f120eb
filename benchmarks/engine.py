"""Measures the manager's CPU time for a message, by stage, without a broker: a socket in memory delivers the messages.

Run as ``python -m benchmarks.engine [--against CHECKOUT] [--rounds 5] [--count 30000] [-o json]``. With `--against`
another checkout (with an environment of its own) is measured in the same run, in turn with this one; of each the
fastest round counts, because other work on the machine only ever adds CPU time.
"""

import argparse
import cProfile
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

KINDS = ("threats", "heartbeats")
_AGENTS = 500
_WARM_UP = 12_000
"""Messages before the measurement: each agent has named all its source addresses, of which none is new any more."""
_PACKETS_IN_ONE = 500
_PATIENCE = 30.0
_PUBLISH, _PUBACK, _MASK = 0x30, 0x40, 0xF0
_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout of the project, measured in the same run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=32_000, help="messages of each kind in one round")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help="write the profile of one round, by cProfile, into this file")
    options = parser.parse_args(arguments)
    count, rounds = (4_000, 1) if options.quick else (options.count, options.rounds)
    if options.one:
        sys.stdout.write(json.dumps(measure(options.one, count, options.profile)) + "\n")
        return 0
    checkouts = [_ROOT] if options.against is None else [options.against.resolve(), _ROOT]
    figures = {kind: _best_of(checkouts, kind, count, rounds) for kind in options.kind or KINDS}
    if options.output == "json":
        found = {kind: {str(path): stages for path, stages in best.items()} for kind, best in figures.items()}
        sys.stdout.write(json.dumps({"interpreter": interpreter(), **found}, indent=2) + "\n")
    else:
        for kind, best in figures.items():
            Console().print(table(kind, list(best.values())))
    return 0


def interpreter() -> str:
    """Return the version of the interpreter, and whether it was built with profile-guided optimisation."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"Python {sys.version.split()[0]}, {'optimised' if optimised else 'not an optimised'} build"


def _best_of(checkouts: list[Path], kind: str, count: int, rounds: int) -> dict[Path, dict[str, float]]:
    """Return the fastest round of each checkout; the rounds are run in turn."""
    found: dict[Path, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for checkout in checkouts:
            found[checkout].append(_run(checkout, kind, count))
    return {checkout: min(stages, key=lambda each: each["all"]) for checkout, stages in found.items()}


def _run(checkout: Path, kind: str, count: int) -> dict[str, float]:
    """Measure one round in a process of its own, with the code and the environment of a checkout."""
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python), "-P", str(Path(__file__).resolve()), "--one", kind, "--count", str(count)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True)  # noqa: S603 -- our own module
    stages: dict[str, float] = json.loads(done.stdout)
    return stages


def measure(kind: str, count: int, profile: Path | None = None) -> dict[str, float]:
    """Return the CPU microseconds of one message: of all stages, and of each."""
    import logging  # noqa: PLC0415 -- the modules of the measured checkout, which may be another one

    import structlog  # noqa: PLC0415

    from benchmarks import load  # noqa: PLC0415
    from tests.support.enrolled import enroll  # noqa: PLC0415

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        senders = enroll(Path(name), _AGENTS)
        each = _ceiling(_WARM_UP + count, len(senders) * load._AT_ONCE) // len(senders)  # noqa: SLF001
        encoded = [load._chunks(kind, sender, each, len(senders) / load._PACE)[0] for sender in senders]  # noqa: SLF001
        packets = [b"".join(chunk) for turn in zip(*encoded, strict=True) for chunk in turn]
        fed = _Fed(Path(name), stack)
        warm_up = _WARM_UP // load._AT_ONCE  # noqa: SLF001
        fed.run(kind, packets[:warm_up], load._AT_ONCE)  # noqa: SLF001
        timed = Stages()
        fed.watch(timed)
        return timed.figures(*fed.run(kind, packets[warm_up:], load._AT_ONCE, profile))  # noqa: SLF001


def _ceiling(number: int, step: int) -> int:
    """Return the next multiple of a step."""
    return -(-number // step) * step


class MemorySocket:
    """A socket that delivers prepared bytes, and counts the acknowledgements and receipts that are sent.

    Args:
        descriptor: one that is always readable.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._sent = bytearray()
        self.acknowledged = 0
        self.receipted = 0

    def fileno(self) -> int:
        """Return a descriptor to wait for."""
        return self._descriptor

    def feed(self, chunk: bytes) -> None:
        """Add bytes that are received next."""
        self._waiting.append(chunk)

    def recv(self, most: int) -> bytes:
        """Return at most this number of bytes.

        Raises:
            BlockingIOError: everything was received.
        """
        if not self._waiting:
            raise BlockingIOError
        chunk = self._waiting.popleft()
        if len(chunk) > most:
            self._waiting.appendleft(chunk[most:])
        return chunk[:most]

    def send(self, data: bytes) -> int:
        """Take bytes; return their number."""
        self._sent += data
        return len(data)

    def close(self) -> None:
        """Do nothing."""

    def answer(self) -> None:
        """Read what was sent: count acknowledgements and receipts, and acknowledge messages as the broker does."""
        from benchmarks import packets  # noqa: PLC0415
        from manager.mqtt_packets import puback_packets, read_publish  # noqa: PLC0415

        data, mids = bytes(self._sent), []
        self._sent.clear()
        for first, body, end in packets.split(data):
            if first & _MASK == _PUBACK:
                self.acknowledged += 1
            elif first & _MASK == _PUBLISH:
                topic, payload, mid = read_publish(data, first, body, end)
                mids += [mid] if mid else []
                if topic.endswith(b"/receipts"):
                    self.receipted += len(json.loads(payload).get("stored", ()))
        if mids:
            self._waiting.append(puback_packets(mids))


class _Fed:
    """A manager whose broker link reads from memory."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        from manager.data_directory import DataDirectory  # noqa: PLC0415
        from manager.runtime import clock, gc_tuning  # noqa: PLC0415
        from manager.runtime.transport_security import Transport  # noqa: PLC0415
        from manager.runtime.wiring import Manager  # noqa: PLC0415
        from manager.settings import Settings  # noqa: PLC0415

        settings = Settings(
            data_dir=path,
            broker="mqtt://127.0.0.1:9",
            broker_password="unused",  # noqa: S106 -- nobody is asked for it
            port=0,
            agent_messages=1e9,
            agent_bytes=1e12,
            stale_after=3600,
        )
        directory = stack.enter_context(DataDirectory(path))
        self.manager = manager = Manager(settings, Transport.plan(settings), directory, stack)
        readable, writable = os.pipe()
        stack.callback(os.close, readable)
        stack.callback(os.close, writable)
        os.write(writable, b"\0")
        self._clock = clock
        self.socket = MemorySocket(readable)
        link: Any = manager.mqtt
        link._client = client = link._new_client()  # noqa: SLF001 -- as if it had connected
        client._sock = self.socket  # noqa: SLF001
        stack.callback(setattr, client, "_sock", None)
        link._generation, link._ready = 1, True  # noqa: SLF001
        manager.engine.connected(clock.read(), fresh=False)
        self._step()
        gc_tuning.freeze_and_relax()

    def watch(self, timed: "Stages") -> None:
        """Have the parts of the path timed, as far as the measured checkout has them."""
        from manager.engine.messages import reports  # noqa: PLC0415

        manager: Any = self.manager
        engine, store = manager.engine, manager.engine._store  # noqa: SLF001
        after = engine._after_commit  # noqa: SLF001
        for stage, owner, name in (
            ("receive: framing, topic, budget, inbox", manager.mqtt, "poll"),
            ("take a batch", engine, "_take"),
            ("verify, decode, handle", engine, "_decide"),
            ("look up stored ids", store, "known_reports"),
            ("row, event time", reports, "decide"),
            ("correlate, respond", reports, "process_reports"),
            ("insert", store, "_write"),
            ("projections", store._projections, "advance"),  # noqa: SLF001
            ("commit", store, "commit"),
            ("acknowledge, receipts, events", after, "run"),
            ("the rest of a step", engine, "step"),
        ):
            timed.watch(stage, owner, name)

    def run(self, kind: str, packets: list[bytes], at_once: int, profile: Path | None = None) -> tuple[float, int]:
        """Feed packets, a chunk at a time; return the CPU seconds of the manager's part, and the number of messages.

        Raises:
            RuntimeError: a message was not handled, acknowledged or receipted.
        """
        counters = self.manager.engine.fleet.counters
        counter = "threats_stored" if kind == "threats" else "heartbeat"
        end = counters[counter] + len(packets) * at_once
        for start in range(0, len(packets), _PACKETS_IN_ONE):
            self.socket.feed(b"".join(packets[start : start + _PACKETS_IN_ONE]))
        profiler, used = cProfile.Profile(), 0.0
        while counters[counter] < end:
            if profile is not None:
                profiler.enable()
            began = time.process_time()
            self._step()
            used += time.process_time() - began
            profiler.disable()
            self.socket.answer()
        if profile is not None:
            profiler.dump_stats(profile)
        if kind == "threats":
            self._await_receipts(len(packets) * at_once)
        return used, len(packets) * at_once

    def _step(self) -> None:
        manager = self.manager
        manager.mqtt.poll(0.0)
        manager.engine.step(self._clock.read())
        manager.mqtt.flush()

    def _await_receipts(self, count: int) -> None:
        until, socket = time.monotonic() + _PATIENCE, self.socket
        while socket.receipted < count and time.monotonic() < until:
            time.sleep(0.01)
            self._step()
            socket.answer()
        if (socket.acknowledged, socket.receipted) != (count, count):
            raise RuntimeError(f"{count} reports: {socket.acknowledged} acknowledged, {socket.receipted} receipted")
        socket.acknowledged = socket.receipted = 0


class Stages:
    """CPU time of the parts of the path, each without the parts that it calls."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = [0.0]

    def watch(self, stage: str, owner: Any, name: str) -> None:
        """Time an attribute's calls; do nothing if the owner has none of this name."""
        function = getattr(owner, name, None)
        if function is not None:
            setattr(owner, name, self._timed(stage, function))

    def figures(self, used: float, count: int) -> dict[str, float]:
        """Return the microseconds of one message: all of them, and those of each stage."""
        micros = {stage: seconds / count * 1e6 for stage, seconds in self._spent.items()}
        return {"all": used / count * 1e6, **micros}

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.process_time() - began
                self._spent[stage] += elapsed - self._inner.pop()
                self._inner[-1] += elapsed

        return timed


def table(kind: str, found: list[dict[str, float]]) -> Table:
    """Return the figures of one kind of message as a table: the checkout compared with first, this one last."""
    made = Table(title=f"CPU µs for each of the {kind}, fed from memory; {interpreter()}")
    made.add_column("stage")
    headings = ("before", "now", "ratio") if len(found) > 1 else ("now",)
    for heading in headings:
        made.add_column(heading, justify="right")
    for stage in dict.fromkeys(stage for stages in found for stage in stages):
        figures = [stages.get(stage, 0.0) for stages in found]
        ratio = [f"{figures[1] / figures[0]:.2f}" if figures[0] else "-"] if len(found) > 1 else []
        made.add_row(stage, *(f"{figure:.1f}" for figure in figures), *ratio)
    return made


if __name__ == "__main__":
    raise SystemExit(main())
