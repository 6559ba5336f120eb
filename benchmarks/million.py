"""Measures a million agents on one manager: whether it takes their heartbeats, each every 30 s, and for how long.

Run as ``python -m benchmarks.million [--agents N] [--minutes M] [--quick] [-o json]``. Engine and store are in this
process; another one makes the heartbeats and sends them through a socket pair, which stands for a broker. It is never
further ahead than the socket takes: where the manager is slower than the fleet, `longest_lag` grows.
"""

import argparse
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import interpreter
from benchmarks.fleet import INTERVAL, BeatingFleet, heartbeat_body, make_store_apart, show, times_of
from manager.domain.agents.agent import Agent
from manager.domain.instant import Instant
from manager.engine.inbox import Inbound, Inbox
from manager.runtime import clock
from schemas import message_codes, topics
from schemas.keys import ManagerKeyring, new_secret

_KEY = 32
_AT_ONCE = 500
"""Heartbeats in one call of the generator's socket."""

_PIECE = 1024 * 1024
_FRAME = 8
"""Bytes before a payload: the agent's number, and the payload's length."""


class HeartbeatSocket:
    """Heartbeats that another process makes; a `Feed`.

    Args:
        agents: the fleet, in the order of its numbers.
        directory: where the other process finds their keys.
    """

    def __init__(self, agents: list[Agent], directory: Path) -> None:
        keys = directory / "keys"
        keys.write_bytes(b"".join(agent.credential.mac_key for agent in agents))
        policies = {agent.organization_id: (agent.in_force.version, agent.in_force.digest) for agent in agents}
        self._agent_ids = [agent.agent_id for agent in agents]
        self._socket, theirs = socket.socketpair()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        in_order = [policies[agent.organization_id] for agent in agents[: len(policies)]]
        context = multiprocessing.get_context("spawn")
        self._generator = context.Process(target=_generate, args=(theirs, str(keys), in_order), daemon=True)
        self._generator.start()
        theirs.close()
        self._buffer = self._socket.recv(1)[1:]  # it is ready
        self._socket.setblocking(False)
        self._socket.send(b"\0")

    def __call__(self, _elapsed: float, _sent: int, inbox: Inbox, now: Instant) -> int:
        """Put the heartbeats that have arrived into the inbox; return their number."""
        try:
            self._buffer += self._socket.recv(_PIECE)
        except BlockingIOError:
            return 0
        buffer, start, count = self._buffer, 0, 0
        while start + _FRAME <= len(buffer):
            end = start + _FRAME + int.from_bytes(buffer[start + 4 : start + _FRAME], "big")
            if end > len(buffer):
                break
            agent_id = self._agent_ids[int.from_bytes(buffer[start : start + 4], "big")]
            topic, payload = topics.HEARTBEAT.below_root(agent_id), buffer[start + _FRAME : end]
            inbox.put(Inbound(topics.HEARTBEAT, agent_id, topic, payload, None), now.monotonic)
            start, count = end, count + 1
        self._buffer = buffer[start:]
        return count

    def close(self) -> None:
        """End the other process."""
        self._socket.close()
        self._generator.join()


def _generate(out: socket.socket, keys_file: str, policies: list[tuple[int, str | None]]) -> None:
    """Send every agent's heartbeats in turn, each 30 s, until the socket is closed."""
    keys = Path(keys_file).read_bytes()
    count = len(keys) // _KEY
    agent_ids = [f"ag-{number:016x}" for number in range(1, count + 1)]
    out.send(b"\0")
    out.recv(1)
    began, sent = time.monotonic(), 0
    try:
        while True:
            elapsed, now = time.monotonic() - began, clock.read()
            due = min(int(elapsed / INTERVAL * count), sent + _AT_ONCE)
            times, frames = times_of(elapsed, now), []
            for number in range(sent, due):
                index = number % count
                body = heartbeat_body(policies[index % len(policies)], 2 + number // count, times).encode()
                below = topics.HEARTBEAT.below_root(agent_ids[index])
                payload = message_codes.with_mac(keys[index * _KEY : (index + 1) * _KEY], below, body)
                frames += [index.to_bytes(4, "big"), len(payload).to_bytes(4, "big"), payload]
            out.sendall(b"".join(frames))
            sent = max(sent, due)
            if due - sent < _AT_ONCE:
                time.sleep(0.001)
    except (BrokenPipeError, ConnectionResetError):
        return


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="2,000 agents for seconds; the figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    agents, minutes = (2_000, 0.1) if options.quick else (options.agents, options.minutes)
    interpreter.announce()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        path, keyring = Path(name) / "panguard.db", ManagerKeyring(new_secret())
        make_store_apart(path, keyring.store_key, agents)
        fleet = BeatingFleet(path, keyring, trace=False)
        heartbeats = HeartbeatSocket(fleet.agents, Path(name))
        fleet.beat(minutes * 60, heartbeats)
        heartbeats.close()
        fleet.close()
        show(fleet.figures, options.output)
    sys.stderr.write(f"load {os.getloadavg()[0]:.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
