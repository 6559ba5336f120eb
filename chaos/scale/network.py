"""The ways between the members of a group and their servers, and the faults on them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psutil

from chaos.scale import firewall
from chaos.scale.proxy import Direction
from chaos.site import SiteError


class Network:
    """A process of proxies. A context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str]
        self._opened = 0

    def __enter__(self) -> Self:
        """Start the process."""
        words = [sys.executable, "-m", "chaos.scale.proxy"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- our own words
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, and all connections with it."""
        with self._process:
            self._process.kill()

    @property
    def process(self) -> psutil.Process:
        """The process, for its CPU time."""
        return psutil.Process(self._process.pid)

    def way(self, target: int) -> "Way":
        """Return a new way to a port of this machine."""
        port = self.tell(do="open", target=target)
        self._opened += 1
        return Way(self, self._opened - 1, port)

    def tell(self, **command: Any) -> int:
        """Give the process a command, and return its answer.

        Raises:
            SiteError: the process has ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise SiteError("the network is not open")
        try:
            self._process.stdin.write(f"{json.dumps(command)}\n")
            self._process.stdin.flush()
        except OSError as error:
            raise SiteError("the process of the proxies has ended") from error
        answer = self._process.stdout.readline()
        if not answer:
            raise SiteError("the process of the proxies has ended")
        return int(json.loads(answer))


class Way:
    """One member's way to one server.

    Args:
        network: carries it.
        number: its number there.
        port: where the member finds it.
    """

    def __init__(self, network: Network, number: int, port: int) -> None:
        self._network = network
        self._number = number
        self.port = port

    @contextmanager
    def dropping(self, *directions: Direction) -> Iterator[None]:
        """Drop what is on its way in some directions within the block.

        In a namespace of the campaign's own the kernel drops the packets; else the proxy holds what it has taken.
        """
        if not firewall.is_inside():
            with self.holding(*directions):
                yield
            return
        for direction in directions:
            firewall.drop(self.port, direction)
        try:
            yield
        finally:
            for direction in directions:
                firewall.carry(self.port, direction)

    @contextmanager
    def holding(self, *directions: Direction) -> Iterator[None]:
        """Carry nothing in some directions within the block, and all of it after that; connections stay open."""
        with self._become(held=directions):
            yield

    @contextmanager
    def delaying(self, seconds: float) -> Iterator[None]:
        """Deliver what is sent within the block so many seconds late, in both directions."""
        with self._become(delay=seconds):
            yield

    def cut(self) -> None:
        """End every connection without a word."""
        self._network.tell(do="cut", way=self._number)

    @contextmanager
    def _become(self, held: tuple[Direction, ...] = (), delay: float = 0.0) -> Iterator[None]:
        self._network.tell(do="become", way=self._number, held=held, delay=delay)
        try:
            yield
        finally:
            self._network.tell(do="become", way=self._number, held=[], delay=0.0)
