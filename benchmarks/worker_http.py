"""Measures requests of HTTP agents at a worker's or a stand-by's door against the leader's: CPU for each, in turns.

Run as ``python -m benchmarks.worker_http [--standby] [--events N] [--rounds R] [--quick] [-o json]``. Fifty agents on
a connection each send a request when the one before is answered: heartbeats that state no policy version, then one
event in each request, then twenty. The figures are for each heartbeat and each event. Leader, worker, PostgreSQL and
Mosquitto are processes on this machine. The use without requests is measured before each turn and left out, so the
median of the turns counts.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx2

from benchmarks import interpreter
from benchmarks.workers import cpu_of
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import ManagerProcess
from tests.support.several_managers import DatabaseManagers, leads, role
from tests.support.waiting import eventually

_AGENTS = 50
_IDLE = 2.0
"""Seconds for which the use without requests is measured."""

_EVENT = (
    '{"id":"e-%d","threat":{"type":"brute_force","confidence":90,"evidence":{"sourceIp":"203.0.113.%d","user":"root",'
    '"targetService":"sshd"},"technique":"T1110","severity":"high"},"response":"block_ip"}'
)
_HEARTBEAT = '{"cpu":%d,"memory":41.5,"eventsProcessed":12,"mode":"protection","uptime":%d}'
_HEARTBEATS = 0
"""Stands in the place of the number of events in a request."""

_NAMES = {_HEARTBEATS: "heartbeat", 1: "one event", 20: "twenty events"}
_END = b"\r\n\r\n"


class Doors:
    """A leader and a worker on one database, and the agents that both know.

    Args:
        home: the directory of both.
        stack: ends them.
        door: the role of the worker, `ingest` or `standby`.
    """

    def __init__(self, home: Path, stack: ExitStack, door: str) -> None:
        self._cluster = stack.enter_context(Postgresql())
        broker = stack.enter_context(Mosquitto())
        managers = DatabaseManagers(home, self._cluster.create_empty().url, broker.url)
        stack.callback(managers.stop)
        given = {"PANGUARD_TRUSTED_NETWORKS": "127.0.0.1/32", "PANGUARD_RATE_LIMIT": "0"}
        role_given = "ingest" if door == "ingest" else "all"
        self.leader, self.worker = managers.add(**given), managers.add(PANGUARD_ROLE=role_given, **given)
        self.leader.start()
        leads(self.leader)
        self.worker.start()
        eventually(lambda: role(self.worker) == door and self.worker.not_ready() is None, 120, "a worker")
        with httpx2.Client(base_url=self.leader.http, timeout=60, trust_env=False) as client:
            self.agents = [self._register(client, f"web-{number}") for number in range(_AGENTS)]
        self._numbers = count()

    @staticmethod
    def _register(client: httpx2.Client, hostname: str) -> tuple[str, str]:
        body = {"hostname": hostname, "os": "Debian 12", "arch": "x64", "version": "1.4.2"}
        told = client.post("/api/agents/register", json=body).raise_for_status().json()
        return told["agentId"], told["token"]

    def used(self) -> dict[str, float]:
        """Return the CPU seconds of each process so far."""
        postmaster = self._cluster.pid
        if postmaster is None:
            raise RuntimeError("PostgreSQL has ended")
        processes = {"worker": self.worker, "leader": self.leader}
        used = {name: cpu_of(_pid(process)) for name, process in processes.items()}
        return {**used, "postgresql": cpu_of(postmaster, children=True)}

    def requests(self, agent: tuple[str, str], number: int, together: int) -> Iterator[bytes]:
        """Yield an agent's requests."""
        agent_id, token = agent
        route = "events" if together else "heartbeat"
        for _ in range(number):
            numbers = [next(self._numbers) for _ in range(max(1, together))]
            events = [_EVENT % (each, each % 250) for each in numbers]
            body = events[0] if together == 1 else f'{{"threats":[{",".join(events)}]}}'
            if not together:
                body = _HEARTBEAT % (numbers[0] % 100, numbers[0])
            yield (
                f"POST /api/agents/{agent_id}/{route} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            ).encode()


def _pid(manager: ManagerProcess) -> int:
    if manager.running is None:
        raise RuntimeError("a manager has ended")
    return manager.running.process.pid


async def _send(port: int, requests: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        while True:
            writer.write(request)
            head = await reader.readuntil(_END)
            length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            body = await reader.readexactly(int(length.partition(b":")[2]))
            if head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                break
            if not head.startswith(b"HTTP/1.1 503"):  # a machine under load keeps a commit waiting
                raise RuntimeError((head + body).decode())
    writer.close()
    await writer.wait_closed()


def send(doors: Doors, door: ManagerProcess, events: int, together: int) -> None:
    """Have all agents send events, or as many heartbeats, to a door."""
    port, number = int(door.http.rpartition(":")[2]), _of_each(events, together)

    async def all_agents() -> None:
        await asyncio.gather(*(_send(port, doors.requests(agent, number, together)) for agent in doors.agents))

    asyncio.run(all_agents())


def _of_each(events: int, together: int) -> int:
    """Return the number of requests that each agent sends."""
    return max(1, events // (_AGENTS * max(1, together)))


def turn(doors: Doors, door: ManagerProcess, events: int, together: int) -> dict[str, float]:
    """Return the microseconds of CPU that each process used for an event, the use without requests left out."""
    start = time.monotonic(), doors.used()
    time.sleep(_IDLE)
    before = time.monotonic(), doors.used()
    send(doors, door, events, together)
    time.sleep(1.0)  # the leader decides on the rest
    after = time.monotonic(), doors.used()
    lasted, idled = after[0] - before[0], before[0] - start[0]
    sent = _AGENTS * max(1, together) * _of_each(events, together)
    return {
        name: (used - before[1][name] - (before[1][name] - start[1][name]) / idled * lasted) / sent * 1e6
        for name, used in after[1].items()
    }


def measure(events: int, rounds: int, door: str) -> list[dict[str, object]]:
    """Return a row for each kind of request: the median turn at each door, and the ratios."""
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as home, ExitStack() as stack:
        doors = Doors(Path(home), stack, door)
        for together in (_HEARTBEATS, 1, 20):  # events change policies, of which the leader answers a heartbeat each
            turns: dict[str, list[dict[str, float]]] = {"leader": [], "worker": []}
            for each in (doors.leader, doors.worker):
                send(doors, each, _AGENTS * max(1, together) * 4, together)  # warms up
            for _ in range(rounds):
                for name, each in (("leader", doors.leader), ("worker", doors.worker)):
                    turns[name].append(turn(doors, each, events, together))
            found.append({"request": _NAMES[together], **_summary(turns)})
    return found


def _summary(turns: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    median = {
        door: {each: statistics.median(row[each] for row in rows) for each in rows[0]} for door, rows in turns.items()
    }
    whole = {door: statistics.median(sum(row.values()) for row in rows) for door, rows in turns.items()}
    return {
        "microseconds": {door: {each: round(value) for each, value in row.items()} for door, row in median.items()},
        "atWorkerToAtLeader": round(median["worker"]["worker"] / median["leader"]["leader"], 2),
        "leaderRelievedTo": round(median["worker"]["leader"] / median["leader"]["leader"], 2),
        "whole": round(whole["worker"] / whole["leader"], 2),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=3000, help="events or heartbeats of one turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--standby", action="store_true", help="the door of a manager that stands by")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    interpreter.announce()
    if options.quick:
        options.events, options.rounds = 1000, 1
    door = "standby" if options.standby else "ingest"
    print(json.dumps(measure(options.events, options.rounds, door), indent=None if options.output == "json" else 2))
    sys.stderr.write(f"load {os.getloadavg()[0]:.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
