"""Limits for comparison: the rates at which Python frames the same messages and SQLite inserts the same rows.

One thread does both in series: 1 / (1 / framing + 1 / inserting).
"""

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import packets
from benchmarks.load import Counter
from manager.mqtt_packets import puback_packets, read_publish
from manager.storage.connection import open_store
from manager.storage.migrate import migrate

_CHUNK = 256 * 1024
_BATCH = 500


class RawSubscriber:
    """Subscribes on a bare socket, frames and acknowledges messages, and drops them."""

    def __init__(self, port: int, topic: str, qos: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.sendall(packets.connect("raw", "raw", "raw"))
        self._sock.sendall(packets.subscribe(1, topic, qos))
        self._buffer = b""
        while not any(packets.is_kind(kind, packets.SUBACK) for kind, _, _ in packets.split(self._buffer)):
            self._buffer += self._sock.recv(4096)
        self._buffer = b""

    def receive(self, count: int, handled: Counter) -> float:
        """Receive `count` messages; return the monotonic time of the last one."""
        taken = 0
        while taken < count:
            buffer, end, mids = self._buffer + self._sock.recv(_CHUNK), 0, []
            for kind, body, end in packets.split(buffer):
                _topic, _payload, mid = read_publish(buffer, kind, body, end)
                taken += 1
                if mid:
                    mids.append(mid)
            self._buffer = buffer[end:]
            if mids:
                self._sock.sendall(puback_packets(mids))
            handled.value = taken
        return time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


def inserted_per_second(source: Path, path: Path, columns: Sequence[str]) -> float:
    """Copy the threats of a store into a new one at `path` by `executemany`, a commit for each batch; return rows/s."""
    wanted = ", ".join(columns)
    reading = open_store(source)
    rows: list[tuple[Any, ...]] = reading.execute_sql(f"SELECT {wanted} FROM threat ORDER BY sequence").fetchall()  # noqa: S608 -- names from the code
    reading.close()
    writing = open_store(path)
    migrate(writing, path)
    writing.execute_sql("PRAGMA foreign_keys = 0")
    connection = writing.connection()
    sql = f"INSERT INTO threat ({wanted}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 -- names from the code
    began = time.monotonic()
    for start in range(0, len(rows), _BATCH):
        connection.execute("BEGIN")
        connection.executemany(sql, rows[start : start + _BATCH])
        connection.execute("COMMIT")
    elapsed = time.monotonic() - began
    writing.close()
    return len(rows) / elapsed


def in_series(framed: float, inserted: float) -> float:
    """Return the highest rate of one thread that does both."""
    return 1 / (1 / framed + 1 / inserted)
