"""Loopback ports for servers that a test starts later."""

import itertools
import os
import socket
from random import Random

_FIRST, _WORKERS, _EACH = 10_000, 11, 2_000
"""Below the ports that the kernel gives to connections (32768 and up), with a range for each worker of pytest."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
_start = Random(os.getpid()).randrange(_EACH)  # noqa: S311 -- two runs on one machine begin apart
_offsets = itertools.count(_start)


def free_port() -> int:
    """Return a loopback port on which nobody listens; it is not returned again soon, and no connection gets it."""
    for offset in itertools.islice(_offsets, _EACH):
        port = _FIRST + _worker * _EACH + offset % _EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"all {_EACH} ports of this worker are taken")
