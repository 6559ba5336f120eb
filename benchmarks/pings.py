"""ICMP echo from one address of a network namespace every few milliseconds: finds the first packet that is dropped."""

import os
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support.network import NetworkHost

EVERY = 0.005
"""Seconds between two packets, and so the resolution of a measured time."""

_ECHO, _REPLY = 8, 0
_HEADER = struct.Struct("!BBHHH")
_TEXT = struct.Struct("!Q")


class Pings:
    """Pings an address from another one; a context manager. Times are epoch seconds.

    Args:
        network: The namespace that has the source address.
        source: The source address.
        target: The address that is pinged.
    """

    def __init__(self, network: NetworkHost, source: str, target: str) -> None:
        self._socket = network.within(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        self._socket.bind((source, 0))
        self._socket.connect((target, 0))
        self._socket.setblocking(False)
        self._identifier = os.getpid() & 0xFFFF
        self._sent: list[float] = []
        self._answered: set[int] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def is_dropped(self, count: int = 40) -> bool:
        """Return whether the last packets, so many, had no answer."""
        with self._lock:
            last = range(len(self._sent) - count, len(self._sent))
            return last.start >= 0 and not any(number in self._answered for number in last)

    def first_dropped(self) -> float:
        """Return when the first packet after the last answered one was sent."""
        with self._lock:
            return self._sent[max(self._answered, default=-1) + 1]

    def seconds_answered(self) -> float:
        """Return the time between the first and the last packet that were answered; 0 if none was."""
        with self._lock:
            if not self._answered:
                return 0.0
            return self._sent[max(self._answered)] - self._sent[min(self._answered)] + EVERY

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            due = time.monotonic()
            while not self._ended.is_set():
                self._send()
                due = max(due + EVERY, time.monotonic())
                while (left := due - time.monotonic()) > 0:
                    if selector.select(left):
                        self._receive()

    def _send(self) -> None:
        with self._lock:
            number = len(self._sent)
            self._sent.append(time.time())
        text = _TEXT.pack(number)
        packet = _HEADER.pack(_ECHO, 0, 0, self._identifier, number & 0xFFFF) + text
        packet = packet[:2] + struct.pack("!H", _checksum(packet)) + packet[4:]
        with suppress(OSError):
            self._socket.send(packet)

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            while True:
                packet = self._socket.recv(256)
                body = packet[(packet[0] & 0xF) * 4 :]
                kind, _, _, identifier, _ = _HEADER.unpack_from(body)
                if kind == _REPLY and identifier == self._identifier:
                    (number,) = _TEXT.unpack_from(body, _HEADER.size)
                    with self._lock:
                        self._answered.add(number)


def _checksum(packet: bytes) -> int:
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
